//! `on_start`, timers of handlers, and sockets that share a handler.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use halloo::{
    Connection, Context, Datagram, DatagramHandler, ErrorKind, EventLoop, HandlerId, StreamHandler, TimerId,
    UdpSocketId, datagrams,
};

use crate::helpers::loopback::{loopback, udp_socket};
use crate::helpers::nonblocking_client::Client;
use crate::helpers::turn_until::{recv, turn_until, turn_until_idle, turn_until_stopped};

/// The recorded calls of a handler.
#[derive(Default)]
struct Calls {
    started: RefCell<Vec<HandlerId>>,
    timers: RefCell<Vec<(TimerId, u64)>>,
    drained: RefCell<Vec<UdpSocketId>>,
    opened: Cell<Option<SocketAddr>>,
}

/// Sets a timer and opens a listener or a socket for itself in `on_start`.
struct Starts<'a> {
    calls: &'a Calls,
    set: Option<TimerId>,
}

impl<'a> Starts<'a> {
    fn new(calls: &'a Calls) -> Self {
        Self { calls, set: None }
    }

    fn start(&mut self, context: &mut Context, id: HandlerId, opened: Option<SocketAddr>) {
        self.calls.started.borrow_mut().push(id);
        self.calls.opened.set(opened);
        self.set = Some(context.schedule(id, Duration::ZERO, 7));
    }

    fn fire(&self, timer: TimerId, value: u64) {
        assert_eq!(Some(timer), self.set, "on_timer gets the id that schedule returned");
        self.calls.timers.borrow_mut().push((timer, value));
    }
}

impl StreamHandler for Starts<'_> {
    type Session = ();

    fn on_start(&mut self, context: &mut Context, id: HandlerId) {
        let listener = context.listen_for(loopback(), id).expect("a listener");
        let opened = context.local_addr(listener).ok();
        self.start(context, id, opened);
    }

    fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<()> {
        assert_eq!([connection.handler()], self.calls.started.borrow()[..], "on_start came once");
        Some(())
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, (): &mut (), input: &[u8]) -> usize {
        connection.try_write(input)
    }

    fn on_timer(&mut self, _: &mut Context, timer: TimerId, value: u64) {
        self.fire(timer, value);
    }
}

impl DatagramHandler for Starts<'_> {
    fn on_start(&mut self, context: &mut Context, id: HandlerId) {
        let socket = context.bind_for(loopback(), id).expect("a socket");
        let opened = context.local_addr(socket).ok();
        self.start(context, id, opened);
    }

    fn on_datagram(&mut self, datagram: &mut Datagram<'_>, payload: &[u8]) {
        assert_eq!([datagram.handler()], self.calls.started.borrow()[..], "on_start came once");
        datagram.reply(payload);
    }

    fn on_timer(&mut self, _: &mut Context, timer: TimerId, value: u64) {
        self.fire(timer, value);
    }

    fn on_drain(&mut self, context: &mut Context, socket: UdpSocketId) {
        self.calls.drained.borrow_mut().push(socket);
        context.remove(socket);
    }
}

#[test]
fn on_start_of_a_stream_handler_gets_its_id_and_can_listen_and_set_timers() {
    for is_attached in [true, false] {
        let (calls, mut events) = (Calls::default(), EventLoop::new().expect("a loop"));
        if is_attached {
            let id = events.attach(Starts::new(&calls));
            assert_eq!(*calls.started.borrow(), [id], "called before attach returns");
        } else {
            events.listen(loopback(), Starts::new(&calls)).expect("a listener");
            assert_eq!(calls.started.borrow().len(), 1, "called before listen returns");
        }
        let mut client = Client::connect(calls.opened.get().expect("on_start opened a socket"));
        assert_eq!(client.request(&mut events, b"hello", 5), b"hello");
        turn_until(&mut events, "the timer", |_| !calls.timers.borrow().is_empty());
        assert_eq!(calls.timers.borrow()[0].1, 7);
        turn_until_idle(&mut events);
        assert_eq!((calls.timers.borrow().len(), calls.started.borrow().len()), (1, 1));
    }
}

#[test]
fn on_start_of_a_datagram_handler_gets_its_id_and_can_bind_and_set_timers() {
    for is_attached in [true, false] {
        let (calls, mut events) = (Calls::default(), EventLoop::new().expect("a loop"));
        if is_attached {
            let id = events.attach_datagrams(Starts::new(&calls));
            assert_eq!(*calls.started.borrow(), [id], "called before attach_datagrams returns");
        } else {
            events.bind(loopback(), Starts::new(&calls)).expect("a socket");
            assert_eq!(calls.started.borrow().len(), 1, "called before bind returns");
        }
        let (peer, address) = (udp_socket("127.0.0.1"), calls.opened.get().expect("on_start opened a socket"));
        peer.send_to(b"hello", address).expect("the datagram is sent");
        assert_eq!(recv(&mut events, &peer), (b"hello".to_vec(), address));
        turn_until(&mut events, "the timer", |_| !calls.timers.borrow().is_empty());
        assert_eq!(calls.timers.borrow()[0].1, 7);
        events.context().drain(Duration::from_secs(60));
        turn_until_stopped(&mut events);
        let sockets = if is_attached { 1 } else { 2 };
        assert_eq!(calls.drained.borrow().len(), sockets, "on_drain is called for each socket");
    }
}

#[test]
fn udp_sockets_share_a_handler_that_is_dropped_with_the_last() {
    let (mut events, held) = (EventLoop::new().expect("a loop"), Rc::new(Cell::new(0)));
    let counter = Rc::clone(&held);
    let handler = events.attach_datagrams(datagrams(move |datagram, _| {
        counter.set(counter.get() + 1);
        datagram.reply(&[counter.get()]);
    }));
    let first = events.bind_for(loopback(), handler).expect("a socket");
    assert!(events.remove(first).is_some());
    turn_until_idle(&mut events);
    let sockets =
        [(); 2].map(|()| events.bind_for(loopback(), handler).expect("an attached handler stays without a socket"));
    let peer = udp_socket("127.0.0.1");
    for (count, socket) in (1..).zip(sockets) {
        let address = events.local_addr(socket).expect("the socket is open");
        peer.send_to(b"?", address).expect("the datagram is sent");
        assert_eq!(recv(&mut events, &peer), (vec![count], address));
    }
    assert!(events.context().remove(handler));
    assert_eq!(events.bind_for(loopback(), handler).expect_err("the handler was removed").kind(), ErrorKind::UnknownId);
    assert!(events.context().remove(sockets[0]));
    turn_until_idle(&mut events);
    assert_eq!(Rc::strong_count(&held), 2, "a socket uses the handler");
    let removed = events.remove(sockets[1]).expect("it was not removed");
    assert_eq!(Rc::strong_count(&held), 2, "the removal returns the handler");
    drop(removed);
    assert_eq!(Rc::strong_count(&held), 1);
}

#[test]
fn a_datagram_handler_stays_for_its_timers() {
    let (calls, mut events) = (Calls::default(), EventLoop::new().expect("a loop"));
    let socket = events.bind(loopback(), Starts::new(&calls)).expect("a socket");
    assert!(events.context().remove(socket));
    turn_until(&mut events, "the timer", |_| !calls.timers.borrow().is_empty());
}

/// Opens a listener in `on_start`, then panics.
struct PanicsAtStart<'a>(&'a Cell<Option<SocketAddr>>);

impl StreamHandler for PanicsAtStart<'_> {
    type Session = ();

    fn on_start(&mut self, context: &mut Context, id: HandlerId) {
        let listener = context.listen_for(loopback(), id).expect("a listener");
        self.0.set(context.local_addr(listener).ok());
        panic!("this is the panic of the test");
    }

    fn on_open(&mut self, _: &mut Connection<'_>) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, (): &mut (), input: &[u8]) -> usize {
        connection.try_write(input)
    }
}

#[test]
fn a_panic_in_on_start_is_caught_and_the_handler_stays() {
    let (opened, mut events) = (Cell::default(), EventLoop::new().expect("a loop"));
    events.catch_panics(true);
    events.attach(PanicsAtStart(&opened));
    assert_eq!(events.stats().panics, 1);
    let mut client = Client::connect(opened.get().expect("on_start opened a socket"));
    assert_eq!(client.request(&mut events, b"hello", 5), b"hello");
}

#[test]
fn without_catch_panics_a_panic_in_on_start_ends_the_loop_also_between_turns() {
    let (opened, mut events) = (Cell::default(), EventLoop::new().expect("a loop"));
    assert!(catch_unwind(AssertUnwindSafe(|| events.attach(PanicsAtStart(&opened)))).is_err());
    let _client = Client::connect(opened.get().expect("on_start opened a listener"));
    assert_eq!(events.turn(None).expect_err("the loop has ended").kind(), ErrorKind::Setup);
    assert!(
        std::net::TcpStream::connect(opened.get().expect("on_start opened a listener")).is_err(),
        "the listener is closed"
    );
}
