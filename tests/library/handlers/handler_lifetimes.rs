//! How long handlers stay, and ids of dropped handlers.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use halloo::{
    Connect, Connection, Context, ErrorKind, EventLoop, HandlerId, ListenerId, SourceId, StreamHandler, TimerId, stream,
};

use crate::helpers::loopback::loopback;
use crate::helpers::nonblocking_client::{Client, StreamEnd};
use crate::helpers::nonblocking_listener::{FullBacklog, Listener};
use crate::helpers::simple_handlers::echo;
use crate::helpers::turn_until::{turn_until, turn_until_idle, turn_until_stopped};
#[cfg(target_os = "linux")]
use crate::memory::own_process::{in_own_process, resident_kib};

const MS: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(600);

/// The state that all handlers of a test share.
#[derive(Clone, Default)]
struct Handlers {
    count: Rc<()>,
    /// The id of the handler that last accepted a client.
    last: Rc<Cell<Option<HandlerId>>>,
    fired: Rc<Cell<u64>>,
}

impl Handlers {
    fn create(&self) -> CountedHandler {
        CountedHandler { handlers: self.clone(), _weight: [0; 4096] }
    }

    /// The number of handlers that are not dropped.
    fn len(&self) -> usize {
        Rc::strong_count(&self.count) - 1
    }

    fn last(&self) -> HandlerId {
        self.last.get().expect("the handler has a client")
    }
}

/// An echo, large enough for a leak to show. It removes its listener at the input `remove`.
struct CountedHandler {
    handlers: Handlers,
    _weight: [u8; 4096],
}

impl StreamHandler for CountedHandler {
    type Session = ();

    fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<()> {
        self.handlers.last.set(Some(connection.handler()));
        Some(())
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, (): &mut (), input: &[u8]) -> usize {
        if input == b"remove" {
            let listener = connection.listener().expect("the connection was accepted");
            assert!(connection.context().remove(listener));
            assert!(self.handlers.len() > 0, "a handler that runs is not dropped");
        }
        echo(connection, input)
    }

    fn on_timer(&mut self, _: &mut Context, _: TimerId, value: u64) {
        self.handlers.fired.set(value);
    }
}

/// Connects a client, which sends and reads one echo.
fn served_client(events: &mut EventLoop<'_>, listener: ListenerId) -> Client {
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    assert_eq!(client.request(events, b"hello", 5), b"hello");
    client
}

/// Half-closes the client, so that the handler closes too.
fn close(events: &mut EventLoop<'_>, mut client: Client) {
    client.half_close();
    assert_eq!(client.read_to_end(events).1, StreamEnd::Eof);
    turn_until_idle(events);
}

#[test]
fn a_thousand_handlers_are_dropped_when_their_listeners_are_removed() {
    let handlers = Handlers::default();
    let mut events = EventLoop::new().expect("a loop");
    for _ in 0..1_000 {
        let listener = events.listen(loopback(), handlers.create()).expect("a listener");
        let mut client = served_client(&mut events, listener);
        client.half_close();
        assert_eq!(client.read_to_end(&mut events).1, StreamEnd::Eof);
        assert!(events.context().remove(listener));
        turn_until(&mut events, "the handler is dropped", |_| handlers.len() == 0);
    }
}

#[test]
fn a_handler_given_to_listen_is_dropped_with_its_last_connection() {
    let handlers = Handlers::default();
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), handlers.create()).expect("a listener");
    let mut client = served_client(&mut events, listener);
    assert_eq!(client.request(&mut events, b"remove", 6), b"remove");
    turn_until_idle(&mut events);
    assert_eq!((client.request(&mut events, b"again", 5), handlers.len()), (&b"again"[..], 1));
    close(&mut events, client);
    assert_eq!(handlers.len(), 0);
}

#[test]
fn a_handler_given_to_listen_stays_for_another_listener() {
    let handlers = Handlers::default();
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), handlers.create()).expect("a listener");
    let client = served_client(&mut events, listener);
    let other = events.listen_for(loopback(), handlers.last()).expect("a listener");
    assert!(events.context().remove(listener));
    close(&mut events, client);
    assert_eq!(handlers.len(), 1);
    let client = served_client(&mut events, other);
    assert!(events.context().remove(other));
    turn_until_idle(&mut events);
    assert_eq!(handlers.len(), 1);
    close(&mut events, client);
    assert_eq!(handlers.len(), 0);
}

#[test]
fn a_handler_given_to_listen_stays_for_a_timer() {
    let handlers = Handlers::default();
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), handlers.create()).expect("a listener");
    let client = served_client(&mut events, listener);
    let context = events.context();
    context.schedule(handlers.last(), 100 * MS, 7);
    let removed = context.schedule(handlers.last(), LONG, 8);
    assert!(context.remove(listener));
    close(&mut events, client);
    assert!(handlers.len() == 1 || handlers.fired.get() == 7, "the handler was dropped before its timer fired");
    turn_until(&mut events, "the timer", |_| handlers.fired.get() == 7);
    turn_until_idle(&mut events);
    assert_eq!(handlers.len(), 1, "another timer is set");
    assert!(events.context().remove(removed));
    turn_until_idle(&mut events);
    assert_eq!(handlers.len(), 0);
}

#[test]
fn a_handler_that_is_used_again_before_the_turn_ends_stays() {
    let handlers = Handlers::default();
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), handlers.create()).expect("a listener");
    let client = served_client(&mut events, listener);
    let handler = handlers.last();
    close(&mut events, client);
    let context = events.context();
    assert!(context.remove(listener));
    let timer = context.schedule(handler, LONG, 7);
    assert!(context.remove(timer));
    context.schedule(handler, MS, 8);
    turn_until(&mut events, "the timer", |_| handlers.fired.get() == 8);
    turn_until_idle(&mut events);
    assert_eq!(handlers.len(), 0);
}

#[test]
fn a_handler_given_to_listen_stays_for_its_connects() {
    let (handlers, server, full) = (Handlers::default(), Listener::new(), FullBacklog::new());
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), handlers.create()).expect("a listener");
    let client = served_client(&mut events, listener);
    let context = events.context();
    context.connect(server.address(), handlers.last());
    let pending = context.connect(Connect::from(full.address()).timeout(LONG), handlers.last());
    assert!(context.remove(listener));
    let mut peer = server.accept(&mut events);
    close(&mut events, client);
    assert_eq!(peer.request(&mut events, b"hello", 5), b"hello");
    close(&mut events, peer);
    assert_eq!((handlers.len(), events.stats().connections), (1, 1), "one connect is pending");
    events.context().connection(pending).expect("the connection is opening").abort();
    turn_until_idle(&mut events);
    assert_eq!(handlers.len(), 0);
}

#[test]
fn an_attached_handler_stays_until_it_is_removed() {
    let handlers = Handlers::default();
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(handlers.create());
    let listener = events.listen_for(loopback(), handler).expect("a listener");
    let client = served_client(&mut events, listener);
    assert!(events.context().remove(listener));
    close(&mut events, client);
    assert_eq!(handlers.len(), 1, "the handler was not removed");
    assert!(events.context().remove(handler) && !events.context().remove(handler));
    turn_until_idle(&mut events);
    assert_eq!(handlers.len(), 0);
    assert!(!events.context().remove(handler), "the handler is dropped");
}

#[test]
fn a_removed_handler_serves_its_connections_and_gets_no_new_ones() {
    let (handlers, server) = (Handlers::default(), Listener::new());
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(handlers.create());
    let listener = events.listen_for(loopback(), handler).expect("a listener");
    let client = served_client(&mut events, listener);
    assert!(events.context().remove(handler));
    let other_client = served_client(&mut events, listener);
    let error = events.listen_for(loopback(), handler).expect_err("a removed handler gets no new listener");
    assert_eq!(error.kind(), ErrorKind::UnknownId);
    let context = events.context();
    let id = context.connect(server.address(), handler);
    assert!(context.connection(id).is_none(), "a removed handler gets no new connection");
    let timer = context.schedule(handler, MS, 7);
    assert!(!context.remove(timer), "a removed handler gets no new timer");
    let mut visited = 0;
    context.for_each_connection(handler, |_| visited += 1);
    assert_eq!(visited, 2);
    close(&mut events, client);
    close(&mut events, other_client);
    assert_eq!(handlers.len(), 1, "its listener keeps it");
    assert!(events.context().remove(listener));
    turn_until_idle(&mut events);
    assert_eq!((handlers.len(), handlers.fired.get(), events.stats().connects), (0, 0, 0));
}

#[test]
fn remove_returns_a_handler_that_nothing_else_uses() {
    let handlers = Handlers::default();
    let mut events = EventLoop::new().expect("a loop");
    let attached = events.attach(handlers.create());
    let removed = events.remove(attached).expect("it was not removed");
    assert_eq!(handlers.len(), 1, "the caller has it");
    drop(removed);
    assert_eq!(handlers.len(), 0);
    assert!(events.remove(attached).is_none());

    let listener = events.listen(loopback(), handlers.create()).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    let removed = events.remove(listener).expect("it was not removed");
    assert_eq!(handlers.len(), 1, "the caller has it");
    events.listen(address, handlers.create()).expect("the address is free");
    drop((removed, events));

    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), handlers.create()).expect("a listener");
    let client = served_client(&mut events, listener);
    drop(events.remove(listener).expect("it was not removed"));
    assert_eq!(handlers.len(), 1, "its connection keeps it");
    close(&mut events, client);
    assert_eq!(handlers.len(), 0);
}

#[test]
fn remove_returns_nothing_for_an_id_that_was_removed_before() {
    let (handlers, held) = (Handlers::default(), Rc::new(()));
    let mut events = EventLoop::new().expect("a loop");
    let [one, other] = [(); 2].map(|()| events.listen(loopback(), handlers.create()).expect("a listener"));
    let in_closure = Rc::clone(&held);
    let timer = events.every(LONG, move |_| {
        let _ = &in_closure;
        None
    });
    assert!(events.context().remove(one) && events.context().remove(timer));
    let removed = events.remove(other).expect("it was not removed");
    assert_eq!((handlers.len(), Rc::strong_count(&held)), (1, 1), "those removed before are dropped");
    drop(removed);
    assert_eq!(handlers.len(), 0);
}

#[test]
fn at_its_end_the_loop_drops_handlers_given_to_listen() {
    let handlers = Handlers::default();
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), handlers.create()).expect("a listener");
    let client = served_client(&mut events, listener);
    events.context().stop();
    turn_until_stopped(&mut events);
    assert_eq!(handlers.len(), 0);
    drop(client);
    let attached = events.attach(handlers.create());
    assert!(events.context().remove(attached));
    let _ = events.turn(Some(Duration::ZERO)).expect("the loop has stopped");
    assert_eq!(handlers.len(), 0, "a handler removed after the stop is dropped");
}

/// Whether the call panics with the message for an unknown handler.
fn refuses(call: impl FnOnce()) -> bool {
    let panic = catch_unwind(AssertUnwindSafe(call)).expect_err("it panics");
    panic.downcast_ref::<String>().is_some_and(|message| message.contains("not a handler of this loop"))
}

#[test]
fn ids_of_removed_handlers_and_of_another_loops_handlers_are_refused() {
    let handlers = Handlers::default();
    let (mut events, mut other) = (EventLoop::new().expect("a loop"), EventLoop::new().expect("a loop"));
    let (gone, foreign) = (events.attach(handlers.create()), other.attach(stream(echo)));
    assert!(events.remove(gone).is_some());
    let own = events.attach(handlers.create());
    let listener = events.listen_for(loopback(), own).expect("a listener");
    let _client = served_client(&mut events, listener);
    for id in [gone, foreign] {
        let mut visited = 0;
        events.context().for_each_connection(id, |_| visited += 1);
        assert_eq!(visited, 0, "an unknown handler has no connection");
        assert_eq!(events.listen_for(loopback(), id).expect_err("unknown").kind(), ErrorKind::UnknownId);
        assert!(refuses(|| _ = events.context().schedule(id, MS, 7)));
        assert!(refuses(|| _ = events.context().connect(loopback(), id)));
        assert!(!events.context().remove(id) && events.remove(id).is_none());
        assert_eq!(events.local_addr(id).expect_err("unknown").kind(), ErrorKind::UnknownId);
    }
    assert_eq!((handlers.len(), events.stats().connections), (1, 1), "the loop's own handler is unchanged");
}

#[test]
fn ids_of_another_loop_find_nothing() {
    let [mut events, mut other] = [(); 2].map(|()| EventLoop::new().expect("a loop"));
    let (handlers, others) = (Handlers::default(), Handlers::default());
    let set_up = |events: &mut EventLoop<'_>, handlers: &Handlers| {
        let listener = events.listen(loopback(), handlers.create()).expect("a listener");
        let socket = events.bind(loopback(), halloo::datagrams(|_, _| {})).expect("a socket");
        let closure = events.every(LONG, |_| None);
        let client = served_client(events, listener);
        let timer = events.context().schedule(handlers.last(), LONG, 7);
        (client, listener, socket, closure, timer)
    };
    let _own = set_up(&mut events, &handlers);
    let (_client, listener, socket, closure, timer) = set_up(&mut other, &others);
    let sources: [SourceId; 4] = [listener.into(), socket.into(), closure.into(), timer.into()];
    for source in sources {
        assert!(!events.context().remove(source) && events.remove(source).is_none());
        assert_eq!(events.local_addr(source).expect_err("unknown").kind(), ErrorKind::UnknownId);
    }
    let to = other.local_addr(socket).expect("the socket is open");
    assert!(!events.context().send_to(socket, b"?", to));
    let mut id = None;
    other.context().for_each_connection(others.last(), |connection| id = Some(connection.id()));
    let id = id.expect("the other loop has a client");
    assert!(other.context().connection(id).is_some() && events.context().connection(id).is_none());
    events.context().notify(id, 1);
    turn_until_idle(&mut events);
    assert_eq!((events.stats().notes, events.stats().timers, events.stats().connections), (0, 0, 1));
    assert!(sources.into_iter().all(|source| other.context().remove(source)), "the other loop still has them");
}

#[test]
fn attaching_and_removing_a_handler_costs_the_same_after_many() {
    const HANDLERS: u32 = 100_000;
    let mut events = EventLoop::new().expect("a loop");
    let time = |events: &mut EventLoop<'_>| {
        let rounds = (0..5).map(|_| {
            let begin = Instant::now();
            for _ in 0..HANDLERS / 50 {
                let handler = events.attach(stream(echo));
                assert!(events.remove(handler).is_some());
            }
            begin.elapsed()
        });
        rounds.min().expect("five rounds")
    };
    let first = time(&mut events);
    let handlers: Vec<HandlerId> = (0..HANDLERS).map(|_| events.attach(stream(echo))).collect();
    // The handlers are removed by a job, in the order in which they were attached.
    events
        .handle()
        .post(move |context| assert!(handlers.into_iter().all(|handler| context.remove(handler))))
        .expect("the loop runs");
    turn_until_idle(&mut events);
    let last = time(&mut events);
    assert!(last < 10 * first + 20 * MS, "{first:?} for the first, {last:?} for the last");
}

#[cfg(target_os = "linux")]
#[test]
fn the_memory_of_a_hundred_thousand_removed_handlers_is_returned() {
    const HANDLERS: usize = 100_000;
    in_own_process(|| {
        let mut events = EventLoop::new().expect("a loop");
        turn_until_idle(&mut events);
        let before = resident_kib();
        for removes_in_callback in [true, false] {
            let handlers: Vec<HandlerId> = (0..HANDLERS).map(|_| events.attach(stream(echo))).collect();
            if removes_in_callback {
                let remove =
                    |context: &mut Context| assert!(handlers.into_iter().all(|handler| context.remove(handler)));
                events.handle().post(remove).expect("the loop runs");
                turn_until(&mut events, "the job has run", |events| events.stats().jobs == 1);
            } else {
                assert!(handlers.into_iter().all(|handler| events.remove(handler).is_some()));
            }
            turn_until_idle(&mut events);
            let grown = resident_kib().saturating_sub(before);
            println!("{HANDLERS} handlers, removed in a callback: {removes_in_callback}: {grown} KiB more");
            // Memory that the allocator keeps is less than 100,000 handlers take.
            assert!(grown < 12 * 1024, "memory grew by {grown} KiB");
        }
    });
}
