//! The right server of the tour, on halloo's loop.
//!
//! It speaks the protocol of the tour, and uses the public interface of the library only.

use std::net::{TcpListener, UdpSocket};
use std::thread;
use std::time::Duration;

use halloo::observe::Level;
use halloo::{Bind, Connection, EventLoop, Handle, Listen, StreamHandler, datagrams};

use crate::tour::mio_server::connections::bytes_before_slow_request;
use crate::tour::mio_server::notes::Notes;
use crate::tour::mio_server::server::{SLOW_REQUEST, SLOW_REQUEST_TIME};

/// Replies to one source in a second. Two servers that answer each other stop at this rate.
const REPLIES_PER_SECOND: u32 = 100;

/// More connections than the process has descriptors for.
const CONNECTIONS_MAX: usize = 1_000_000;

/// Sends back all input. `loop_handle` reaches the loop from other threads.
struct Echo {
    loop_handle: Handle,
}

/// What the server knows of a connection.
struct Session {
    request: SlowRequest,
    /// Whether the next byte of input begins a line.
    is_at_line_start: bool,
}

/// The slow request of a connection.
#[derive(PartialEq, Eq)]
enum SlowRequest {
    None,
    /// Another thread works on it. The connection is paused, so its other input waits.
    Working,
    /// It is done, and its reply is the next output.
    Done,
}

impl Echo {
    /// Starts the work of a slow request on another thread.
    fn start(&self, connection: &mut Connection<'_>, session: &mut Session) {
        session.request = SlowRequest::Working;
        connection.pause();
        let (handle, id) = (self.loop_handle.clone(), connection.id());
        let started = thread::Builder::new().spawn(move || {
            thread::sleep(SLOW_REQUEST_TIME);
            // The connection may have closed: then the id finds none, also if its slot is used again.
            let _ = handle.notify(id, 0);
        });
        if started.is_err() {
            // No memory for a thread: this client gets no reply, and the server goes on.
            connection.abort();
        }
    }
}

impl StreamHandler for Echo {
    type Session = Session;

    fn on_open(&mut self, _: &mut Connection<'_>) -> Option<Session> {
        Some(Session { request: SlowRequest::None, is_at_line_start: true })
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, session: &mut Session, input: &[u8]) -> usize {
        // A request that is done is sent back, and what follows it, up to the next one.
        let reply = if session.request == SlowRequest::Done { SLOW_REQUEST.len() } else { 0 };
        let bytes = reply + bytes_before_slow_request(&input[reply..], session.is_at_line_start);
        // What does not fit the outbox is not consumed, and is delivered again when there is room.
        let sent = connection.try_write(&input[..bytes]);
        if sent > 0 {
            *session = Session { request: SlowRequest::None, is_at_line_start: input[sent - 1] == b'\n' };
        }
        if sent == bytes && input[bytes..].starts_with(SLOW_REQUEST) {
            self.start(connection, session);
        }
        sent
    }

    fn on_eof(&mut self, connection: &mut Connection<'_>, _: &mut Session, rest: &[u8]) {
        // An unfinished line is no slow request. The outbox is empty, so it fits.
        let _ = connection.try_write(rest);
        connection.close();
    }

    fn on_notify(&mut self, connection: &mut Connection<'_>, session: &mut Session, _: u64) {
        session.request = SlowRequest::Done;
        // The input that was not consumed is delivered again.
        connection.resume();
    }
}

/// Creates a loop that serves these sockets until its handle stops it.
pub(crate) fn new(listener: TcpListener, udp: UdpSocket, notes: Notes) -> halloo::Result<EventLoop<'static>> {
    let mut events = EventLoop::new()?;
    events.journal_level(Level::All);
    events.set_observer(move |turn| notes.add_turn(turn));
    // The level holds from the next turn on. After it, the recording shows how the sockets are opened.
    let _ = events.turn(Some(Duration::ZERO))?;
    let loop_handle = events.handle();
    // The default stays below the descriptors of the process. The case without free ones needs accept to fail.
    let at = Listen::from(listener).connections_max(CONNECTIONS_MAX);
    events.listen(at, Echo { loop_handle })?;
    // The clients of the tour are on this machine, so the limit must hold there, too.
    let at = Bind::from(udp).replies_per_source_per_second_max(REPLIES_PER_SECOND).limit_loopback(true);
    // A reply leaves from the address that was asked, and none goes to an address that cannot be a client's.
    events.bind(at, datagrams(|datagram, payload| _ = datagram.reply(payload)))?;
    Ok(events)
}
