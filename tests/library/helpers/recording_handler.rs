//! A handler that records its callbacks, with a closure for each.

use std::cell::RefCell;
use std::io;

use halloo::{CloseReason, Connection, ConnectionId, Context, StreamHandler, TimerId};

/// A recorded callback.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Call {
    Open,
    Data(Vec<u8>),
    Eof,
    Flushed,
    Timeout,
    Drain,
    Notify(u64),
    Closed(CloseReason),
    Failed(io::ErrorKind),
}

/// The callbacks of a [`RecordingHandler`], in order.
#[derive(Default)]
pub(crate) struct CallLog {
    log: RefCell<Vec<(ConnectionId, Call)>>,
    /// The unconsumed input that each `on_eof` got.
    rests: RefCell<Vec<Vec<u8>>>,
    /// The values of the handler's timers, which belong to no connection.
    fired: RefCell<Vec<u64>>,
}

impl CallLog {
    /// All callbacks.
    pub(crate) fn all(&self) -> Vec<Call> {
        self.log.borrow().iter().map(|(_, call)| call.clone()).collect()
    }

    /// The callbacks of one connection.
    pub(crate) fn of(&self, id: ConnectionId) -> Vec<Call> {
        self.log.borrow().iter().filter(|(connection, _)| *connection == id).map(|(_, call)| call.clone()).collect()
    }

    /// The opened connections, in order.
    pub(crate) fn ids(&self) -> Vec<ConnectionId> {
        self.log.borrow().iter().filter(|(_, call)| *call == Call::Open).map(|(id, _)| *id).collect()
    }

    pub(crate) fn count(&self, call: &Call) -> usize {
        self.log.borrow().iter().filter(|(_, other)| other == call).count()
    }

    /// The unconsumed input that each `on_eof` got.
    pub(crate) fn rests(&self) -> Vec<Vec<u8>> {
        self.rests.borrow().clone()
    }

    /// The values of the timers that have fired.
    pub(crate) fn timer_values(&self) -> Vec<u64> {
        self.fired.borrow().clone()
    }

    /// The kinds of all failed connects.
    pub(crate) fn connect_errors(&self) -> Vec<io::ErrorKind> {
        let kind = |(_, call): &(ConnectionId, Call)| match call {
            Call::Failed(kind) => Some(*kind),
            _ => None,
        };
        self.log.borrow().iter().filter_map(kind).collect()
    }

    /// Every input as `on_data` got it.
    pub(crate) fn inputs(&self) -> Vec<Vec<u8>> {
        let input = |(_, call): &(ConnectionId, Call)| match call {
            Call::Data(bytes) => Some(bytes.clone()),
            _ => None,
        };
        self.log.borrow().iter().filter_map(input).collect()
    }

    /// The reasons of all closes.
    pub(crate) fn close_reasons(&self) -> Vec<CloseReason> {
        let reason = |(_, call): &(ConnectionId, Call)| match call {
            Call::Closed(reason) => Some(*reason),
            _ => None,
        };
        self.log.borrow().iter().filter_map(reason).collect()
    }
}

type OnOpen<'a> = Box<dyn FnMut(&mut Connection<'_>) -> bool + 'a>;
type OnData<'a> = Box<dyn FnMut(&mut Connection<'_>, &[u8]) -> usize + 'a>;
type OnEvent<'a> = Box<dyn FnMut(&mut Connection<'_>) + 'a>;
type OnNotify<'a> = Box<dyn FnMut(&mut Connection<'_>, u64) + 'a>;
type OnTimer<'a> = Box<dyn FnMut(&mut Context, u64) + 'a>;
type OnFailure<'a> = Box<dyn FnMut(&mut Context, ConnectionId, &io::Error) + 'a>;

/// A handler that records its callbacks and runs the test's closure in each. Without closures it consumes all input,
/// and otherwise does as the trait's defaults.
pub(crate) struct RecordingHandler<'a> {
    log: &'a CallLog,
    open: OnOpen<'a>,
    data: OnData<'a>,
    eof: OnEvent<'a>,
    flushed: OnEvent<'a>,
    timeout: OnEvent<'a>,
    drain: OnEvent<'a>,
    close: OnEvent<'a>,
    notify: OnNotify<'a>,
    timer: OnTimer<'a>,
    failed: OnFailure<'a>,
}

impl<'a> RecordingHandler<'a> {
    pub(crate) fn new(log: &'a CallLog) -> Self {
        Self {
            log,
            open: Box::new(|_| true),
            data: Box::new(|_, input| input.len()),
            eof: Box::new(|connection| connection.close()),
            flushed: Box::new(|_| {}),
            timeout: Box::new(|connection| connection.close()),
            drain: Box::new(|_| {}),
            close: Box::new(|_| {}),
            notify: Box::new(|_, _| {}),
            timer: Box::new(|_, _| {}),
            failed: Box::new(|_, _, _| {}),
        }
    }

    /// The closure returns `false` to refuse the connection.
    pub(crate) fn on_open(mut self, act: impl FnMut(&mut Connection<'_>) -> bool + 'a) -> Self {
        self.open = Box::new(act);
        self
    }

    pub(crate) fn on_data(mut self, act: impl FnMut(&mut Connection<'_>, &[u8]) -> usize + 'a) -> Self {
        self.data = Box::new(act);
        self
    }

    pub(crate) fn on_eof(mut self, act: impl FnMut(&mut Connection<'_>) + 'a) -> Self {
        self.eof = Box::new(act);
        self
    }

    pub(crate) fn on_flushed(mut self, act: impl FnMut(&mut Connection<'_>) + 'a) -> Self {
        self.flushed = Box::new(act);
        self
    }

    pub(crate) fn on_timeout(mut self, act: impl FnMut(&mut Connection<'_>) + 'a) -> Self {
        self.timeout = Box::new(act);
        self
    }

    pub(crate) fn on_drain(mut self, act: impl FnMut(&mut Connection<'_>) + 'a) -> Self {
        self.drain = Box::new(act);
        self
    }

    pub(crate) fn on_close(mut self, act: impl FnMut(&mut Connection<'_>) + 'a) -> Self {
        self.close = Box::new(act);
        self
    }

    pub(crate) fn on_notify(mut self, act: impl FnMut(&mut Connection<'_>, u64) + 'a) -> Self {
        self.notify = Box::new(act);
        self
    }

    pub(crate) fn on_timer(mut self, act: impl FnMut(&mut Context, u64) + 'a) -> Self {
        self.timer = Box::new(act);
        self
    }

    pub(crate) fn on_connect_failed(mut self, act: impl FnMut(&mut Context, ConnectionId, &io::Error) + 'a) -> Self {
        self.failed = Box::new(act);
        self
    }

    fn record(&self, connection: &Connection<'_>, call: Call) {
        self.log.log.borrow_mut().push((connection.id(), call));
    }
}

impl StreamHandler for RecordingHandler<'_> {
    type Session = ConnectionId;

    fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<ConnectionId> {
        self.record(connection, Call::Open);
        (self.open)(connection).then(|| connection.id())
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, session: &mut ConnectionId, input: &[u8]) -> usize {
        assert_eq!(*session, connection.id(), "the session of another connection");
        assert!(!input.is_empty(), "on_data got no input");
        self.record(connection, Call::Data(input.to_vec()));
        (self.data)(connection, input)
    }

    fn on_eof(&mut self, connection: &mut Connection<'_>, _: &mut ConnectionId, rest: &[u8]) {
        self.log.rests.borrow_mut().push(rest.to_vec());
        self.record(connection, Call::Eof);
        (self.eof)(connection);
    }

    fn on_flushed(&mut self, connection: &mut Connection<'_>, _: &mut ConnectionId) {
        self.record(connection, Call::Flushed);
        (self.flushed)(connection);
    }

    fn on_timeout(&mut self, connection: &mut Connection<'_>, _: &mut ConnectionId) {
        self.record(connection, Call::Timeout);
        (self.timeout)(connection);
    }

    fn on_drain(&mut self, connection: &mut Connection<'_>, _: &mut ConnectionId) {
        self.record(connection, Call::Drain);
        (self.drain)(connection);
    }

    fn on_close(&mut self, connection: &mut Connection<'_>, session: ConnectionId, reason: CloseReason) {
        assert_eq!(session, connection.id(), "the session of another connection");
        self.record(connection, Call::Closed(reason));
        (self.close)(connection);
    }

    fn on_notify(&mut self, connection: &mut Connection<'_>, session: &mut ConnectionId, value: u64) {
        assert_eq!(*session, connection.id(), "the session of another connection");
        self.record(connection, Call::Notify(value));
        (self.notify)(connection, value);
    }

    fn on_timer(&mut self, context: &mut Context, _: TimerId, value: u64) {
        self.log.fired.borrow_mut().push(value);
        (self.timer)(context, value);
    }

    fn on_connect_failed(&mut self, context: &mut Context, id: ConnectionId, error: io::Error) {
        assert!(context.connection(id).is_none(), "a failed connection is still there");
        self.log.log.borrow_mut().push((id, Call::Failed(error.kind())));
        (self.failed)(context, id, &error);
    }
}
