//! Panics in destructors of sessions, handlers, closures and jobs.
//!
//! With `catch_panics` each is counted, and the loop continues.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::rc::Rc;
use std::time::Duration;

use halloo::{CloseReason, Connection, Context, EventLoop, LoopStopped, StreamHandler, TimerId, datagrams, stream};
use support::wait::TIMEOUT;

use crate::helpers::loopback::loopback;
use crate::helpers::nonblocking_client::{Client, StreamEnd};
use crate::helpers::nonblocking_listener::{Listener, unused_address};
use crate::helpers::simple_handlers::echo;
use crate::helpers::turn_until::{turn_until, turn_until_idle, turn_until_stopped};

/// Counts its drop, and then panics unless another panic is in progress.
struct PanicsOnDrop(Rc<Cell<u64>>);

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
        assert!(std::thread::panicking(), "this is the panic of the test");
    }
}

/// A handler that panics on drop, with sessions that do the same.
struct HandlerOfPanics {
    panics_in_data: bool,
    dropped_sessions: Rc<Cell<u64>>,
    _own: PanicsOnDrop,
}

impl StreamHandler for HandlerOfPanics {
    type Session = PanicsOnDrop;

    fn on_open(&mut self, _: &mut Connection<'_>) -> Option<PanicsOnDrop> {
        Some(PanicsOnDrop(Rc::clone(&self.dropped_sessions)))
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, _: &mut PanicsOnDrop, input: &[u8]) -> usize {
        assert!(!self.panics_in_data, "this is the panic of the test");
        echo(connection, input)
    }
}

/// A loop that catches panics, with a client that it serves all the time.
struct Served<'h> {
    events: EventLoop<'h>,
    client: Client,
    dropped: Rc<Cell<u64>>,
}

impl Served<'_> {
    fn new() -> Self {
        let mut events = EventLoop::new().expect("a loop");
        events.catch_panics(true);
        let listener = events.listen(loopback(), stream(echo)).expect("a listener");
        let client = Client::connect(events.local_addr(listener).expect("the listener is open"));
        let mut served = Self { events, client, dropped: Rc::default() };
        served.assert_serves(0);
        served
    }

    fn panics_on_drop(&self) -> PanicsOnDrop {
        PanicsOnDrop(Rc::clone(&self.dropped))
    }

    /// Checks that `panics` panics were caught, and that the loop still serves its client.
    #[track_caller]
    fn assert_serves(&mut self, panics: u64) {
        turn_until(&mut self.events, "the panics", |events| events.stats().panics >= panics);
        turn_until_idle(&mut self.events);
        assert_eq!(self.client.request(&mut self.events, b"hello", 5), b"hello");
        assert_eq!(self.events.stats().panics, panics);
    }

    /// Connects a client of a [`HandlerOfPanics`].
    fn client_of_panics(&mut self, panics_in_data: bool) -> Client {
        let dropped_sessions = Rc::clone(&self.dropped);
        let handler = HandlerOfPanics { panics_in_data, dropped_sessions, _own: self.panics_on_drop() };
        let listener = self.events.listen(loopback(), handler).expect("a listener");
        let client = Client::connect(self.events.local_addr(listener).expect("the listener is open"));
        turn_until(&mut self.events, "the client is accepted", |events| events.stats().accepted == 2);
        assert!(self.events.context().remove(listener));
        client
    }
}

#[test]
fn a_panic_in_a_destructor_is_caught_after_a_removal_between_two_turns() {
    let mut served = Served::new();
    let held = served.panics_on_drop();
    let timer = served.events.every(TIMEOUT, move |_| {
        let _held = &held;
        None
    });
    let held = served.panics_on_drop();
    let handler = datagrams(move |_, _| {
        let _held = &held;
    });
    let socket = served.events.bind(loopback(), handler).expect("a socket");
    let held = served.panics_on_drop();
    let handler = stream(move |_, input| {
        let _held = &held;
        input.len()
    });
    let listener = served.events.listen(loopback(), handler).expect("a listener");
    let context = served.events.context();
    assert!(context.remove(timer) && context.remove(socket) && context.remove(listener));
    served.assert_serves(3);
    assert_eq!(served.dropped.get(), 3);
}

#[test]
fn a_panic_in_the_destructor_of_a_timer_closure_is_caught() {
    for removes_itself in [true, false] {
        let mut served = Served::new();
        let (held, id) = (served.panics_on_drop(), Rc::new(Cell::new(None::<TimerId>)));
        let own_id = Rc::clone(&id);
        let timer = served.events.every(Duration::ZERO, move |context| {
            let _held = &held;
            let timer = own_id.get().filter(|_| removes_itself)?;
            assert!(context.remove(timer));
            Some(TIMEOUT)
        });
        id.set(Some(timer));
        served.assert_serves(1);
        assert_eq!((served.events.stats().timers, served.dropped.get()), (1, 1), "removes itself: {removes_itself}");
    }
}

#[test]
fn panics_in_the_destructors_of_a_session_and_its_handler_are_caught() {
    let mut served = Served::new();
    let mut client = served.client_of_panics(false);
    client.half_close();
    assert_eq!(client.read_to_end(&mut served.events).1, StreamEnd::Eof);
    served.assert_serves(2);
    assert_eq!(served.dropped.get(), 2);
}

#[test]
fn a_panic_in_the_destructor_of_a_session_is_caught_after_its_callback_panicked() {
    let mut served = Served::new();
    let mut client = served.client_of_panics(true);
    client.send(b"?");
    assert_eq!(client.read_to_end(&mut served.events).1, StreamEnd::Reset);
    served.assert_serves(3);
    assert_eq!((served.dropped.get(), served.events.stats().closed(CloseReason::Panicked)), (2, 1));
}

#[test]
fn a_panic_in_the_destructor_of_a_panic_value_is_caught() {
    /// As [`PanicsOnDrop`], as the payload of a panic.
    struct Carried;
    impl Drop for Carried {
        fn drop(&mut self) {
            panic!("this is the panic of the test");
        }
    }
    let mut served = Served::new();
    served.events.handle().post(|_| panic_any(Carried)).expect("the loop runs");
    served.assert_serves(1);
}

#[test]
fn a_panic_in_the_destructor_of_a_connect_value_is_caught() {
    let target = Listener::new();
    let mut served = Served::new();
    let handler = served.events.attach(stream(echo));
    for to in [target.address(), unused_address()] {
        let value = served.panics_on_drop();
        served.events.context().connect_with(to, handler, value);
    }
    served.assert_serves(2);
    assert_eq!((served.dropped.get(), served.events.stats().connect_errors), (2, 1));
}

#[test]
fn panics_in_destructors_of_jobs_that_never_run_are_caught() {
    /// As [`PanicsOnDrop`], for jobs, which are `Send`.
    struct Sent(std::sync::mpsc::Sender<()>);
    impl Drop for Sent {
        fn drop(&mut self) {
            self.0.send(()).expect("the test receives");
            panic!("this is the panic of the test");
        }
    }
    let Served { mut events, client, .. } = Served::new();
    let (sender, receiver) = std::sync::mpsc::channel();
    let handle = events.handle();
    handle.post(Context::stop).expect("the loop runs");
    // More jobs than one turn runs.
    for _ in 0..2_000 {
        let sent = Sent(sender.clone());
        handle.post(move |_| drop(sent)).expect("the loop runs");
    }
    assert_eq!(turn_until_stopped(&mut events).forced, 1);
    assert_eq!(receiver.try_iter().count(), 2_000, "all of them are dropped");
    assert_eq!((events.stats().panics, handle.stop()), (2_000, Err(LoopStopped)));
    drop(client);
}

#[test]
fn panics_in_destructors_at_the_end_of_the_loop_are_caught() {
    let mut served = Served::new();
    let held = served.panics_on_drop();
    let handler = datagrams(move |_, _| {
        let _held = &held;
    });
    served.events.bind(loopback(), handler).expect("a socket");
    let mut client = served.client_of_panics(false);
    assert_eq!(client.request(&mut served.events, b"hello", 5), b"hello");
    served.events.context().stop();
    let report = turn_until_stopped(&mut served.events);
    assert_eq!((report.forced, served.events.stats().panics, served.dropped.get()), (2, 3, 3));
}

#[test]
fn without_catch_panics_a_panic_in_a_destructor_ends_the_loop_and_drops_the_rest() {
    let dropped = Rc::new(Cell::new(0));
    let mut events = EventLoop::new().expect("a loop");
    for _ in 0..2 {
        let held = PanicsOnDrop(Rc::clone(&dropped));
        let timer = events.attach(stream(move |_, input| {
            let _held = &held;
            input.len()
        }));
        assert!(events.context().remove(timer));
    }
    let turn = catch_unwind(AssertUnwindSafe(|| events.turn(Some(Duration::ZERO))));
    assert!(turn.is_err() && events.turn(Some(Duration::ZERO)).is_err(), "the loop has ended");
    assert_eq!(dropped.get(), 1);
    assert!(catch_unwind(AssertUnwindSafe(move || drop(events))).is_err());
    assert_eq!(dropped.get(), 2);
}

#[test]
fn a_removed_handler_panics_in_the_caller_that_drops_it() {
    let mut served = Served::new();
    let held = served.panics_on_drop();
    let timer = served.events.every(TIMEOUT, move |_| {
        let _held = &held;
        None
    });
    let removed = served.events.remove(timer).expect("the timer is set");
    served.assert_serves(0);
    assert!(catch_unwind(AssertUnwindSafe(move || drop(removed))).is_err());
    assert_eq!(served.dropped.get(), 1);
}

/// A handler that panics in `input_bytes_min`.
struct PanicsOverMinimum;

impl StreamHandler for PanicsOverMinimum {
    type Session = ();

    fn on_open(&mut self, _: &mut Connection<'_>) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, _: &mut Connection<'_>, (): &mut (), input: &[u8]) -> usize {
        input.len()
    }

    fn input_bytes_min(&self) -> usize {
        panic!("this is the panic of the test");
    }
}

#[test]
fn a_panic_in_input_bytes_min_reaches_the_caller_and_attaches_no_handler() {
    let mut served = Served::new();
    let attach = AssertUnwindSafe(|| served.events.attach(PanicsOverMinimum));
    assert!(catch_unwind(attach).is_err());
    served.assert_serves(0);
}
