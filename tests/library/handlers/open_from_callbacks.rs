//! Listeners, sockets, handlers and timers that callbacks open.

use std::cell::{Cell, RefCell};
use std::net::{SocketAddr, UdpSocket};
use std::rc::Rc;
use std::time::Duration;

use halloo::{
    Connection, Context, Datagram, DatagramHandler, ErrorKind, EventLoop, Listen, StreamHandler, UdpSocketId,
    datagrams, stream,
};
use support::wait::TIMEOUT;

use crate::helpers::loopback::{loopback, udp_socket};
use crate::helpers::nonblocking_client::Client;
use crate::helpers::nonblocking_listener::Listener;
use crate::helpers::recording_handler::{Call, CallLog, RecordingHandler};
use crate::helpers::simple_handlers::echo;
use crate::helpers::turn_until::{recv, turn_until, turn_until_idle, turn_until_stopped};

/// Runs `act` at the first input of a client. Returns the client.
fn on_request(events: &mut EventLoop<'_>, mut act: impl FnMut(&mut Context) + 'static) -> Client {
    let handler = stream(move |connection, input| {
        act(connection.context());
        input.len()
    });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    client.send(b"?");
    client
}

/// The address of a listener or socket that a callback opened.
type Opened = Rc<Cell<Option<SocketAddr>>>;

#[track_caller]
fn turn_until_opened(events: &mut EventLoop<'_>, opened: &Opened) -> SocketAddr {
    turn_until(events, "an address", |_| opened.get().is_some());
    opened.get().expect("an address")
}

#[test]
fn a_callback_opens_a_listener_for_an_attached_handler_and_gets_its_port_at_once() {
    let (mut events, opened) = (EventLoop::new().expect("a loop"), Opened::default());
    let (data, address) = (events.attach(stream(echo)), Rc::clone(&opened));
    let _control = on_request(&mut events, move |context| {
        let listener = context.listen_for(loopback(), data).expect("a listener");
        address.set(context.local_addr(listener).ok());
    });
    let mut client = Client::connect(turn_until_opened(&mut events, &opened));
    assert_eq!(client.request(&mut events, b"data", 4), b"data");
}

#[test]
fn a_callback_attaches_a_handler_and_opens_sockets_for_it() {
    let log: &CallLog = Box::leak(Box::default());
    let (mut events, opened, target) = (EventLoop::new().expect("a loop"), Opened::default(), Listener::new());
    let (address, to) = (Rc::clone(&opened), target.address());
    let _control = on_request(&mut events, move |context| {
        let handler =
            context.attach(RecordingHandler::new(log).on_data(|connection, input| connection.try_write(input)));
        let listener = context.listen_for(loopback(), handler).expect("a listener");
        address.set(context.local_addr(listener).ok());
        context.connect(to, handler);
        context.schedule(handler, Duration::ZERO, 7);
    });
    let mut client = Client::connect(turn_until_opened(&mut events, &opened));
    assert_eq!(client.request(&mut events, b"data", 4), b"data");
    let _upstream = target.accept(&mut events);
    turn_until(&mut events, "the timer and the connection", |_| {
        log.timer_values() == [7] && log.count(&Call::Open) == 2
    });
}

#[test]
fn a_udp_socket_opened_in_a_callback_gets_its_first_datagram() {
    let (mut events, opened) = (EventLoop::new().expect("a loop"), Opened::default());
    let address = Rc::clone(&opened);
    let _client = on_request(&mut events, move |context| {
        let socket = context.bind(loopback(), datagrams(|datagram, payload| assert!(datagram.reply(payload))));
        address.set(context.local_addr(socket.expect("a socket")).ok());
    });
    let (socket, peer) = (turn_until_opened(&mut events, &opened), udp_socket("127.0.0.1"));
    peer.send_to(b"hello", socket).expect("the datagram is sent");
    assert_eq!(recv(&mut events, &peer), (b"hello".to_vec(), socket));
}

#[test]
fn a_handler_attached_in_a_callback_without_sockets_gets_its_timer() {
    let log: &CallLog = Box::leak(Box::default());
    let mut events = EventLoop::new().expect("a loop");
    let _client = on_request(&mut events, move |context| {
        let handler = context.attach(RecordingHandler::new(log));
        context.schedule(handler, Duration::ZERO, 7);
    });
    turn_until(&mut events, "the timer", |_| log.timer_values() == [7]);
}

#[test]
fn a_timer_and_a_posted_job_open_listeners_sockets_and_timers() {
    let (mut events, opened) = (EventLoop::new().expect("a loop"), [(); 3].map(|()| Opened::default()));
    let [by_timer, by_job, by_socket] = opened.clone();
    events.every(Duration::ZERO, move |context| {
        let listener = context.listen(loopback(), stream(echo)).expect("a listener");
        by_timer.set(context.local_addr(listener).ok());
        None
    });
    let (sender, receiver) = std::sync::mpsc::channel();
    events
        .handle()
        .post(move |context| {
            let handler = context.attach_datagrams(datagrams(|datagram, payload| assert!(datagram.reply(payload))));
            let socket = context.bind_for(loopback(), handler).expect("a socket");
            let listener = context.listen(loopback(), stream(echo)).expect("a listener");
            context.every(Duration::ZERO, move |context| {
                let _ = sender.send([context.local_addr(socket), context.local_addr(listener)].map(Result::unwrap));
                None
            });
        })
        .expect("the loop runs");
    turn_until(&mut events, "the job's timer", |_| {
        let Ok([socket, listener]) = receiver.try_recv() else { return false };
        by_socket.set(Some(socket));
        by_job.set(Some(listener));
        true
    });
    for address in &opened[..2] {
        let mut client = Client::connect(address.get().expect("the callback opened it"));
        assert_eq!(client.request(&mut events, b"hello", 5), b"hello");
    }
    let (peer, socket) = (udp_socket("127.0.0.1"), opened[2].get().expect("the callback opened it"));
    peer.send_to(b"hello", socket).expect("the datagram is sent");
    assert_eq!(recv(&mut events, &peer), (b"hello".to_vec(), socket));
}

#[test]
fn opening_in_a_callback_returns_an_error_at_once() {
    let mut events = EventLoop::new().expect("a loop");
    let (streams, datagrams) = (events.attach(stream(echo)), events.attach_datagrams(datagrams(|_, _| {})));
    let gone = events.attach(stream(echo));
    assert!(events.remove(gone).is_some());
    let (taken, taken_udp) = (Listener::new(), UdpSocket::bind(loopback()).expect("a free port"));
    let (tcp, udp) = (taken.address(), taken_udp.local_addr().expect("the socket is bound"));
    let kinds = Rc::<RefCell<Vec<ErrorKind>>>::default();
    let found = Rc::clone(&kinds);
    let _client = on_request(&mut events, move |context| {
        let no_room = Listen::from(loopback()).input_bytes_max(0);
        *found.borrow_mut() = [
            context.listen_for(tcp, streams).map(drop),
            context.listen(tcp, stream(echo)).map(drop),
            context.bind_for(udp, datagrams).map(drop),
            context.listen_for(no_room, streams).map(drop),
            context.listen_for(loopback(), gone).map(drop),
            context.listen_for(loopback(), datagrams).map(drop),
            context.bind_for(loopback(), streams).map(drop),
        ]
        .map(|opened| opened.expect_err("opening fails").kind())
        .to_vec();
    });
    turn_until(&mut events, "the callback", |_| !kinds.borrow().is_empty());
    let expected = ["Listen", "Listen", "Bind", "InvalidOption", "UnknownId", "UnknownId", "UnknownId"];
    assert_eq!(kinds.borrow().iter().map(|kind| format!("{kind:?}")).collect::<Vec<_>>(), expected);
}

#[test]
#[should_panic(expected = "serves datagrams")]
fn connect_for_a_datagram_handler_panics_with_the_reason() {
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach_datagrams(datagrams(|_, _| {}));
    events.context().connect(loopback(), handler);
}

#[test]
fn sockets_and_timers_opened_in_a_callback_can_be_removed_in_it() {
    let (mut events, dropped) = (EventLoop::new().expect("a loop"), Rc::new(()));
    let held = Rc::clone(&dropped);
    let done = Rc::new(Cell::new(false));
    let is_done = Rc::clone(&done);
    let _client = on_request(&mut events, move |context| {
        let (one, two, three, four) = (Rc::clone(&held), Rc::clone(&held), Rc::clone(&held), Rc::clone(&held));
        let handler = context.attach(stream(move |_, input| input.len() + Rc::strong_count(&one)));
        let listener = context.listen(loopback(), stream(move |_, _| Rc::strong_count(&two))).expect("a listener");
        let socket = context.bind(loopback(), datagrams(move |_, _| drop(Rc::clone(&three)))).expect("a socket");
        let timer = context.every(Duration::ZERO, move |_| {
            drop(Rc::clone(&four));
            panic!("it was removed");
        });
        assert!(context.remove(handler) && context.remove(listener) && context.remove(socket) && context.remove(timer));
        assert_eq!(Rc::strong_count(&held), 6, "no destructor runs in a callback");
        is_done.set(true);
    });
    turn_until(&mut events, "the callback", |_| done.get());
    assert_eq!(Rc::strong_count(&dropped), 2, "all four are dropped at the end of the turn");
    turn_until_idle(&mut events);
}

/// Removes its socket at the first datagram, and opens another one.
struct Reopens {
    delivered: Rc<RefCell<Vec<&'static str>>>,
}

impl DatagramHandler for Reopens {
    fn on_datagram(&mut self, datagram: &mut Datagram<'_>, _: &[u8]) {
        self.delivered.borrow_mut().push("first");
        let (socket, delivered) = (datagram.socket(), Rc::clone(&self.delivered));
        let context = datagram.context();
        assert!(context.remove(socket));
        context.bind(loopback(), datagrams(move |_, _| delivered.borrow_mut().push("second"))).expect("a socket");
    }
}

#[test]
fn a_socket_opened_in_the_slot_of_a_removed_one_gets_none_of_its_datagrams() {
    let (mut events, delivered) = (EventLoop::new().expect("a loop"), Rc::default());
    let socket = events.bind(loopback(), Reopens { delivered: Rc::clone(&delivered) }).expect("a socket");
    let (peer, address) = (udp_socket("127.0.0.1"), events.local_addr(socket).expect("the socket is open"));
    for _ in 0..5 {
        peer.send_to(b"?", address).expect("the datagram is sent");
    }
    turn_until(&mut events, "the first datagram", |_| !delivered.borrow().is_empty());
    turn_until_idle(&mut events);
    assert_eq!(*delivered.borrow(), ["first"]);
}

#[test]
fn a_timer_set_in_the_slot_of_a_removed_one_calls_its_own_closure() {
    let (mut events, fired) = (EventLoop::new().expect("a loop"), Rc::<RefCell<Vec<&str>>>::default());
    let (own_id, own_fired) = (Rc::new(Cell::new(None)), Rc::clone(&fired));
    let id = Rc::clone(&own_id);
    own_id.set(Some(events.every(Duration::ZERO, move |context| {
        own_fired.borrow_mut().push("first");
        assert!(context.remove(id.get().expect("the timer is set")));
        let next_fired = Rc::clone(&own_fired);
        context.every(Duration::ZERO, move |_| {
            next_fired.borrow_mut().push("second");
            None
        });
        Some(Duration::ZERO)
    })));
    turn_until(&mut events, "the second timer", |_| fired.borrow().len() > 1);
    turn_until_idle(&mut events);
    assert_eq!(*fired.borrow(), ["first", "second"]);
}

/// Starts a drain at the first input, and opens a listener and a socket in `on_drain`.
struct OpensInDrain {
    opened: Rc<RefCell<Vec<SocketAddr>>>,
    socket: Rc<Cell<Option<UdpSocketId>>>,
}

impl StreamHandler for OpensInDrain {
    type Session = ();

    fn on_open(&mut self, _: &mut Connection<'_>) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, (): &mut (), input: &[u8]) -> usize {
        connection.context().drain(TIMEOUT);
        input.len()
    }

    fn on_drain(&mut self, connection: &mut Connection<'_>, (): &mut ()) {
        let context = connection.context();
        let listener = context.listen(loopback(), stream(echo)).expect("a listener");
        let socket = context.bind(loopback(), datagrams(|datagram, payload| assert!(datagram.reply(payload))));
        let socket = socket.expect("a socket");
        *self.opened.borrow_mut() =
            [context.local_addr(listener), context.local_addr(socket)].map(Result::unwrap).into();
        self.socket.set(Some(socket));
    }
}

#[test]
fn sockets_opened_in_a_drain_are_served_and_a_udp_socket_delays_its_end() {
    let (mut events, opened) = (EventLoop::new().expect("a loop"), Rc::<RefCell<Vec<SocketAddr>>>::default());
    let socket = Rc::new(Cell::new(None));
    let handler = OpensInDrain { opened: Rc::clone(&opened), socket: Rc::clone(&socket) };
    let listener = events.listen(loopback(), handler).expect("a listener");
    let mut control = Client::connect(events.local_addr(listener).expect("the listener is open"));
    control.send(b"?");
    turn_until(&mut events, "the drain", |_| !opened.borrow().is_empty());
    let [tcp, udp] = opened.borrow()[..] else { panic!("two addresses") };
    let (mut data, peer) = (Client::connect(tcp), udp_socket("127.0.0.1"));
    assert_eq!(data.request(&mut events, b"data", 4), b"data");
    peer.send_to(b"hello", udp).expect("the datagram is sent");
    assert_eq!(recv(&mut events, &peer), (b"hello".to_vec(), udp));
    let mut second = Client::connect(tcp);
    assert_eq!(second.request(&mut events, b"more", 4), b"more");
    for client in [control, data, second] {
        client.half_close();
    }
    turn_until(&mut events, "the connections are closed", |events| events.stats().connections == 0);
    turn_until_idle(&mut events);
    assert!(events.context().remove(socket.get().expect("the callback opened it")), "the socket is open");
    let report = turn_until_stopped(&mut events);
    assert_eq!((report.finished, report.forced), (3, 0));
    assert!(report.elapsed < TIMEOUT, "the drain ended before its deadline");
}

#[test]
fn a_loop_that_has_ended_opens_nothing() {
    let mut events = EventLoop::new().expect("a loop");
    let (streams, sockets) = (events.attach(stream(echo)), events.attach_datagrams(datagrams(|_, _| {})));
    events.context().stop();
    turn_until_stopped(&mut events);
    let context = events.context();
    let opened = [context.listen_for(loopback(), streams).map(drop), context.bind_for(loopback(), sockets).map(drop)];
    assert_eq!(opened.map(|opened| opened.expect_err("the loop has ended").kind()), [ErrorKind::Setup; 2]);
}
