//! Opens listeners and sockets, attaches handlers, sets timers and watches.
//!
//! A socket is open when the call returns; otherwise the call returns the error.

use std::net::SocketAddr;
#[cfg(unix)]
use std::os::fd::AsFd;
use std::time::Duration;

use crate::context::Context;
use crate::context::entries::handler_entry::{HandlerKind, HandlerLifetime};
#[cfg(unix)]
use crate::context::entries::watch_entry::{ErasedWatch, OwnedWatch, SourceWithCallback, Watch, WatchEvent};
use crate::context::erased_handler::Handler;
use crate::context::foreign_code::{CallbackSite, call_back, call_between_turns};
use crate::context::handler::{DatagramHandler, StreamHandler};
use crate::error::{Error, ErrorKind, Result};
#[cfg(unix)]
use crate::ids::WatchId;
use crate::ids::{HandlerId, Key, ListenerId, SourceId, SourceKey, TimerId, UdpSocketId};
use crate::observe::entry::Callback;
#[cfg(unix)]
use crate::options::Interest;
use crate::options::bind::Bind;
use crate::options::listen::Listen;
use crate::state::timers::TimerTask;

/// A closure that returns the time until its next call, or `None` for no more calls.
pub(crate) type TimerCallback<'h> = Box<dyn FnMut(&mut Context) -> Option<Duration> + 'h>;

/// A new handler or closure, with the slot of its entry. The loop takes it before its first call.
pub(crate) enum Added<'h> {
    Handler(u32, Handler<'h>),
    Timer(u32, TimerCallback<'h>),
    #[cfg(unix)]
    Watch(u32, OwnedWatch<'h>),
}

/// Opens listeners and sockets, attaches handlers and sets timers, from a callback, a timer or a job of another thread.
/// The methods do the same as those of [`EventLoop`](crate::EventLoop) with the same names. Handlers and closures must
/// be `'static`. A socket is open when the call returns.
///
/// ```
/// use halloo::{CloseReason, Connection, EventLoop, ListenerId, StreamHandler};
/// use std::io::{Read, Write};
/// use std::net::{IpAddr, SocketAddr, TcpStream};
///
/// /// Opens a listener for each client, and sends the client its port: the passive mode of FTP (RFC 959).
/// struct Control;
///
/// impl StreamHandler for Control {
///     type Session = ListenerId;
///     fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<ListenerId> {
///         let (client, at) = (connection.peer_addr()?.ip(), SocketAddr::new(connection.local_addr()?.ip(), 0));
///         let context = connection.context();
///         match context.listen(at, Data { client }).and_then(|id| Ok((id, context.local_addr(id)?.port()))) {
///             Ok((listener, port)) => connection.send(format!("{port}\n").as_bytes()).ok().map(|()| listener),
///             Err(error) => {
///                 let _ = connection.send(format!("{error}\n").as_bytes());
///                 None
///             }
///         }
///     }
///     fn on_data(&mut self, _: &mut Connection<'_>, _: &mut ListenerId, input: &[u8]) -> usize { input.len() }
///     fn on_close(&mut self, connection: &mut Connection<'_>, listener: ListenerId, _: CloseReason) {
///         // The listener may still wait for its client.
///         connection.context().remove(listener);
/// #       connection.context().stop();
///     }
/// }
///
/// /// Echoes the input of one connection, from the address for which the listener was opened.
/// struct Data { client: IpAddr }
///
/// impl StreamHandler for Data {
///     type Session = ();
///     fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<()> {
///         if connection.peer_addr()?.ip() != self.client {
///             connection.abort();
///             return None;
///         }
///         let listener = connection.listener()?;
///         connection.context().remove(listener).then_some(())
///     }
///     fn on_data(&mut self, connection: &mut Connection<'_>, (): &mut (), input: &[u8]) -> usize {
///         connection.try_write(input)
///     }
/// }
///
/// let mut events = EventLoop::new()?;
/// let control = events.listen(SocketAddr::from(([127, 0, 0, 1], 0)), Control)?;
/// let address = events.local_addr(control)?;
/// let client = std::thread::spawn(move || -> std::io::Result<Vec<u8>> {
///     let (mut control, mut port) = (TcpStream::connect(address)?, [0; 16]);
///     let read = control.read(&mut port)?;
///     let port: u16 = String::from_utf8_lossy(&port[..read]).trim().parse().expect("a port");
///     let mut data = TcpStream::connect((address.ip(), port))?;
///     data.write_all(b"by the other port")?;
///     let mut echo = vec![0; 17];
///     data.read_exact(&mut echo)?;
///     Ok(echo)
/// });
/// events.run()?;
/// assert_eq!(client.join().unwrap()?, b"by the other port");
/// # Ok::<(), std::io::Error>(())
/// ```
impl Context {
    /// Adds a handler like [`EventLoop::attach`](crate::EventLoop::attach). The handler's
    /// [`on_start`](StreamHandler::on_start) is called before this returns.
    pub fn attach(&mut self, handler: impl StreamHandler + 'static) -> HandlerId {
        let (id, added) = self.attach_handler(Handler::stream(handler));
        self.added.push(added);
        id
    }

    /// Adds a handler like [`EventLoop::attach_datagrams`](crate::EventLoop::attach_datagrams).
    pub fn attach_datagrams(&mut self, handler: impl DatagramHandler + 'static) -> HandlerId {
        let (id, added) = self.attach_handler(Handler::datagram(handler));
        self.added.push(added);
        id
    }

    /// Adds a listener like [`EventLoop::listen`](crate::EventLoop::listen).
    ///
    /// # Errors
    /// As [`EventLoop::listen`](crate::EventLoop::listen).
    pub fn listen(&mut self, at: impl Into<Listen>, handler: impl StreamHandler + 'static) -> Result<ListenerId> {
        let (id, added) = self.listen_with(&at.into(), Handler::stream(handler))?;
        self.added.push(added);
        Ok(id)
    }

    /// Adds a listener for a handler that is already [attached](crate::EventLoop::attach).
    ///
    /// A listener that is opened during a [drain](Self::drain) accepts clients until it is removed or the drain ends.
    /// It does not delay the drain.
    ///
    /// # Errors
    /// As [`EventLoop::listen`](crate::EventLoop::listen), and [`ErrorKind::UnknownId`] if the handler belongs to
    /// another loop, was removed, or serves datagrams.
    pub fn listen_for(&mut self, at: impl Into<Listen>, served_by: HandlerId) -> Result<ListenerId> {
        let at = at.into();
        let handler = self.find_handler(served_by, HandlerKind::Stream, &at.address)?;
        self.open_listener(&at, handler)
    }

    /// Binds a UDP socket like [`EventLoop::bind`](crate::EventLoop::bind).
    ///
    /// # Errors
    /// As [`EventLoop::bind`](crate::EventLoop::bind).
    pub fn bind(&mut self, at: impl Into<Bind>, handler: impl DatagramHandler + 'static) -> Result<UdpSocketId> {
        let (id, added) = self.bind_with(&at.into(), Handler::datagram(handler))?;
        self.added.push(added);
        Ok(id)
    }

    /// Binds a UDP socket for a handler that is already [attached](crate::EventLoop::attach_datagrams).
    ///
    /// A socket that is opened during a [drain](Self::drain) delays the drain until it is removed;
    /// [`on_drain`](DatagramHandler::on_drain) is not called for it.
    ///
    /// # Errors
    /// As [`EventLoop::bind`](crate::EventLoop::bind), and [`ErrorKind::UnknownId`] if the handler belongs to another
    /// loop, was removed, or serves connections.
    pub fn bind_for(&mut self, at: impl Into<Bind>, served_by: HandlerId) -> Result<UdpSocketId> {
        let at = at.into();
        let handler = self.find_handler(served_by, HandlerKind::Datagram, &at.address.into())?;
        self.open_udp_socket(&at, handler)
    }

    /// Sets a timer like [`EventLoop::every`](crate::EventLoop::every). The first call is in a later turn.
    pub fn every(
        &mut self,
        first: Duration,
        callback: impl FnMut(&mut Context) -> Option<Duration> + 'static,
    ) -> TimerId {
        let (id, added) = self.set_timer(first, Box::new(callback));
        self.added.push(added);
        id
    }

    /// Watches a descriptor like [`EventLoop::watch`](crate::EventLoop::watch). The first call is in a later turn.
    ///
    /// # Errors
    /// As [`EventLoop::watch`](crate::EventLoop::watch).
    #[cfg(unix)]
    pub fn watch<S: AsFd + 'static>(
        &mut self,
        source: S,
        interest: Interest,
        callback: impl FnMut(&mut Context, &mut S, WatchEvent) -> Watch + 'static,
    ) -> Result<WatchId> {
        let (id, added) = self.watch_with(interest, SourceWithCallback { source, callback })?;
        self.added.push(added);
        Ok(id)
    }

    /// Returns the bound address of a listener or UDP socket, with the port that the system chose for port 0.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownId`] if it was removed or has no address: a timer, a handler, a listener at a unix socket.
    pub fn local_addr(&self, id: impl Into<SourceId>) -> Result<SocketAddr> {
        let SourceId(source) = id.into();
        let found = match source {
            SourceKey::Listener(key) => self.listener(key).and_then(|entry| entry.address.socket_addr()),
            SourceKey::UdpSocket(key) => self.udp_socket(key).map(|entry| entry.local),
            _ => None,
        };
        let message = "no open listener or UDP socket with an address has this id";
        found.ok_or_else(|| Error::with_message(ErrorKind::UnknownId, None, message))
    }
}

impl Context {
    pub(crate) fn attach_handler<'h>(&mut self, handler: Handler<'h>) -> (HandlerId, Added<'h>) {
        let key = self.insert_handler(HandlerLifetime::UntilRemoved, &handler);
        (HandlerId(key), self.start_handler(key, handler))
    }

    pub(crate) fn listen_with<'h>(&mut self, at: &Listen, handler: Handler<'h>) -> Result<(ListenerId, Added<'h>)> {
        self.open_with(handler, |context, slot| context.open_listener(at, slot))
    }

    pub(crate) fn bind_with<'h>(&mut self, at: &Bind, handler: Handler<'h>) -> Result<(UdpSocketId, Added<'h>)> {
        self.open_with(handler, |context, slot| context.open_udp_socket(at, slot))
    }

    /// Opens something for a handler that stays while it is used. After an error, its entry is removed.
    fn open_with<'h, I>(
        &mut self,
        handler: Handler<'h>,
        open: impl FnOnce(&mut Self, u32) -> Result<I>,
    ) -> Result<(I, Added<'h>)> {
        let key = self.insert_handler(HandlerLifetime::WhileUsed, &handler);
        let id = open(self, key.slot).inspect_err(|_| {
            self.handlers.remove(key.slot as usize);
        })?;
        Ok((id, self.start_handler(key, handler)))
    }

    fn start_handler<'h>(&mut self, key: Key, mut handler: Handler<'h>) -> Added<'h> {
        if self.journal.has_all() {
            // Between two turns, the last clock reading may be old, and would make the callback seem slow.
            self.update_journal_time();
        }
        let called = call_between_turns(self, |context| {
            let site = CallbackSite::of_loop(Callback::Start);
            call_back(context, site, |context| handler.on_start(context, HandlerId(key)))
        });
        if called.is_none() {
            log::error!("a handler panicked in on_start");
        }
        Added::Handler(key.slot, handler)
    }

    pub(crate) fn set_timer<'h>(&mut self, first: Duration, callback: TimerCallback<'h>) -> (TimerId, Added<'h>) {
        let id = self.add_timer(first, TimerTask::Callback);
        (id, Added::Timer(id.0.slot, callback))
    }

    #[cfg(unix)]
    pub(crate) fn watch_with<'h>(
        &mut self,
        interest: Interest,
        watch: impl ErasedWatch + 'h,
    ) -> Result<(WatchId, Added<'h>)> {
        let (id, watched) = self.insert_watch(watch.fd(), interest)?;
        Ok((id, Added::Watch(id.0.slot, (watched, Box::new(watch)))))
    }
}
