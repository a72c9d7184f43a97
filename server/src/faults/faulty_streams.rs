//! Carries out the faults of connections, between a mode and its clients.
//!
//! While output is held back, no input is read.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use halloo::{CloseReason, Connection, ConnectionId, Context, HandlerId, StreamHandler, TimerId};

use crate::cli::fault_rule::Fault;
use crate::faults::fault_source::{DrawnFault, FaultSource};
use crate::faults::shaped_output::{InputUse, Owed, ShapedOutput, Shaper};
use crate::greeting::stream_handlers::{AttachStreamHandler, addresses};
use crate::text::served_socket::ServedSocket;

/// The note that the timer of a fault has expired.
const TIMER_NOTE: u64 = 1;

/// The handler of a mode, whose clients meet faults.
pub(crate) struct FaultyStreams<H> {
    inner: H,
    /// Where the inner handler writes.
    output: ShapedOutput,
    source: FaultSource,
    socket: Arc<ServedSocket>,
}

/// A connection of a client.
pub(crate) struct Session<S> {
    /// `None` if the inner handler has refused it: it ends after its output.
    inner: Option<S>,
    /// `None` if the client meets no fault.
    shaper: Option<Box<Shaper>>,
}

/// Attaches handlers with faults.
pub(crate) struct WithFaults<A> {
    pub(crate) to: A,
    pub(crate) output: ShapedOutput,
    pub(crate) source: FaultSource,
    pub(crate) socket: Arc<ServedSocket>,
}

impl<'h, A: AttachStreamHandler<'h>> AttachStreamHandler<'h> for WithFaults<A> {
    fn attach_stream_handler(self, inner: impl StreamHandler + 'h) -> HandlerId {
        let Self { to, output, source, socket } = self;
        to.attach_stream_handler(FaultyStreams { inner, output, source, socket })
    }
}

impl<H: StreamHandler> FaultyStreams<H> {
    /// Runs a callback of the inner handler, unless it has refused the connection, and continues with its output.
    fn call<R>(
        &mut self,
        connection: &mut Connection<'_>,
        session: &mut Session<H::Session>,
        callback: impl FnOnce(&mut H, &mut Connection<'_>, &mut H::Session) -> R,
    ) -> Option<R> {
        let Session { inner: Some(inner), shaper } = session else { return None };
        let result = self.output.shape(shaper, || callback(&mut self.inner, connection, inner));
        self.go_on(connection, session);
        Some(result)
    }

    /// Notes a new fault, and continues with the output of a callback.
    fn go_on(&mut self, connection: &mut Connection<'_>, session: &mut Session<H::Session>) {
        let Some(shaper) = &mut session.shaper else { return };
        // A time is drawn for each reply, however many callbacks its request takes.
        let delay = shaper.delay_due().map(|(min, max)| self.source.draw_time(min, max));
        if shaper.take_effect() {
            self.note(connection, &shaper.drawn, delay);
        }
        shaper.after_callback(connection, delay);
    }

    fn note(&self, connection: &mut Connection<'_>, drawn: &DrawnFault, delay: Option<Duration>) {
        let now = connection.context().now();
        self.source.note(now, drawn, delay, || addresses(&self.socket, connection));
    }

    /// Makes up for the callbacks that had to wait for the output.
    fn make_up(&mut self, connection: &mut Connection<'_>, session: &mut Session<H::Session>) {
        let owed = session.shaper.as_mut().map(|shaper| shaper.take_owed()).unwrap_or_default();
        if matches!(owed, Owed::Eof | Owed::EofAndDrain) {
            self.on_eof(connection, session, &[]);
        }
        if matches!(owed, Owed::Drain | Owed::EofAndDrain) {
            self.on_drain(connection, session);
        }
    }
}

impl<H: StreamHandler> StreamHandler for FaultyStreams<H> {
    type Session = Session<H::Session>;

    fn on_start(&mut self, context: &mut Context, id: HandlerId) {
        self.inner.on_start(context, id);
    }

    fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<Self::Session> {
        let Some(drawn) = self.source.draw() else {
            let inner = self.output.shape(&mut None, || self.inner.on_open(connection))?;
            return Some(Session { inner: Some(inner), shaper: None });
        };
        if drawn.fault == Fault::Refuse {
            self.note(connection, &drawn, None);
            connection.abort();
            return None;
        }
        let mut shaper = Some(Box::new(Shaper::new(drawn, self.source.worker.held_bytes_left.clone())));
        let inner = self.output.shape(&mut shaper, || self.inner.on_open(connection));
        if let (None, Some(shaper)) = (&inner, &mut shaper) {
            shaper.close();
        }
        let mut session = Session { inner, shaper };
        self.go_on(connection, &mut session);
        Some(session)
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, session: &mut Self::Session, input: &[u8]) -> usize {
        match session.shaper.as_ref().map_or(InputUse::Deliver, |shaper| shaper.input()) {
            InputUse::Deliver => {
                let consumed = self
                    .call(connection, session, |inner, connection, session| inner.on_data(connection, session, input));
                consumed.unwrap_or(input.len())
            }
            InputUse::Keep => 0,
            InputUse::Discard => input.len(),
        }
    }

    fn on_eof(&mut self, connection: &mut Connection<'_>, session: &mut Self::Session, rest: &[u8]) {
        match session.shaper.as_mut().map(|shaper| (shaper.input(), shaper)) {
            None | Some((InputUse::Deliver, _)) => {
                self.call(connection, session, |inner, connection, session| inner.on_eof(connection, session, rest));
            }
            // Only EOF without a rest is delivered while the connection is paused.
            Some((InputUse::Keep, shaper)) => shaper.owe(Owed::Eof),
            Some((InputUse::Discard, _)) => {}
        }
    }

    fn on_flushed(&mut self, connection: &mut Connection<'_>, session: &mut Self::Session) {
        if session.shaper.as_mut().is_none_or(|shaper| shaper.after_flush(connection)) {
            self.call(connection, session, H::on_flushed);
            self.make_up(connection, session);
        }
    }

    /// A connection that is closed here would count as closed by its idle timeout.
    fn on_timeout(&mut self, connection: &mut Connection<'_>, session: &mut Self::Session) {
        if session.shaper.is_some() {
            let id = connection.id();
            connection.context().notify(id, TIMER_NOTE);
        } else {
            self.call(connection, session, H::on_timeout);
        }
    }

    fn on_timer(&mut self, context: &mut Context, timer: TimerId, value: u64) {
        self.inner.on_timer(context, timer, value);
    }

    /// A note that is not of the timer is that of the drain delay: this connection drains alone.
    fn on_notify(&mut self, connection: &mut Connection<'_>, session: &mut Self::Session, note: u64) {
        if note != TIMER_NOTE {
            self.on_drain(connection, session);
        } else if session.shaper.as_mut().is_some_and(|shaper| shaper.after_timer(connection)) {
            self.make_up(connection, session);
        }
    }

    fn on_drain(&mut self, connection: &mut Connection<'_>, session: &mut Self::Session) {
        match session.shaper.as_mut().map(|shaper| (shaper.drawn.fault, shaper.input(), shaper)) {
            // It would never end by itself.
            Some((Fault::Silence, ..)) => connection.close(),
            None | Some((_, InputUse::Deliver, _)) => {
                self.call(connection, session, H::on_drain);
            }
            Some((_, InputUse::Keep, shaper)) => shaper.owe(Owed::Drain),
            Some((_, InputUse::Discard, _)) => {}
        }
    }

    fn on_close(&mut self, connection: &mut Connection<'_>, session: Self::Session, reason: CloseReason) {
        if let Some(inner) = session.inner {
            self.inner.on_close(connection, inner, reason);
        }
    }

    fn on_connect_failed(&mut self, context: &mut Context, id: ConnectionId, error: io::Error) {
        self.inner.on_connect_failed(context, id, error);
    }

    fn input_bytes_min(&self) -> usize {
        self.inner.input_bytes_min()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::OnceCell;
    use std::io::Read;
    use std::net::{SocketAddr, TcpStream};
    use std::rc::Rc;
    use std::time::{Duration, Instant};

    use halloo::{Connection, EventLoop, StreamHandler};

    use super::{FaultyStreams, ShapedOutput};
    use crate::faults::fault_source::tests::worker_faults;
    use crate::greeting::stream_handlers::StreamOutput;
    use crate::text::protocol::Protocol;
    use crate::text::served_socket::ServedSocket;

    /// Panics for its first client, and greets the next.
    struct PanicsFirst {
        output: ShapedOutput,
        has_panicked: bool,
    }

    impl StreamHandler for PanicsFirst {
        type Session = ();

        fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<()> {
            assert!(std::mem::replace(&mut self.has_panicked, true), "the first client");
            self.output.send(connection, b"hi").ok()
        }

        fn on_data(&mut self, _: &mut Connection<'_>, (): &mut (), input: &[u8]) -> usize {
            input.len()
        }
    }

    #[test]
    fn after_a_panic_a_client_without_a_fault_gets_its_output() {
        let socket: (Protocol, _) = (Protocol::Tcp, SocketAddr::from(([127, 0, 0, 1], 80)).into());
        let source_of = |seed| {
            let faults = worker_faults("silence,share=50%", seed, 1, socket.clone());
            faults.source(Rc::new(OnceCell::from(socket.clone())))
        };
        let is_first_only = |seed: &u32| {
            let mut source = source_of(*seed);
            source.draw().is_some() && source.draw().is_none()
        };
        let source = source_of((0..1000).find(is_first_only).unwrap());
        let output = ShapedOutput::default();
        let inner = PanicsFirst { output: output.clone(), has_panicked: false };
        let mut event_loop = EventLoop::new().unwrap();
        event_loop.catch_panics(true);
        let handler = FaultyStreams { inner, output, source, socket: ServedSocket::for_test() };
        let listener = event_loop.listen(SocketAddr::from(([127, 0, 0, 1], 0)), handler).unwrap();
        let address = event_loop.local_addr(listener).unwrap();
        let [_first, mut second] = [0; 2].map(|_| TcpStream::connect(address).unwrap());
        second.set_nonblocking(true).unwrap();
        let (mut received, start) = ([0; 2], Instant::now());
        while second.read(&mut received).is_err() {
            let _ = event_loop.turn(Some(Duration::from_millis(10))).unwrap();
            assert!(start.elapsed() < Duration::from_secs(20), "no output");
        }
        assert_eq!(&received, b"hi");
    }
}
