//! Long input that a handler writes on to a connection.
//!
//! The bytes of each connection arrive whole and in the order in which they were written.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::super::HOST;
use nix::errno::Errno;

use crate::context::connection::Connection;
use crate::context::handler_impls::stream;
use crate::shared_bytes::SharedBytes;
use crate::testing::{Client, Fault, Simulation, check};

const SERVER: SocketAddr = SocketAddr::new(HOST, 9);

/// What a callback does after it has written its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Returns,
    WritesAgain,
    SendsShared,
    WritesToTheOther,
    ShutsDown,
    Closes,
    Aborts,
    Panics,
}

const ALL: [Next; 8] = [
    Next::Returns,
    Next::WritesAgain,
    Next::SendsShared,
    Next::WritesToTheOther,
    Next::ShutsDown,
    Next::Closes,
    Next::Aborts,
    Next::Panics,
];

fn long_input() -> Vec<u8> {
    (0..=250).cycle().take(20_000).collect()
}

/// Runs a handler that writes the input of client `sender` to client 0. Returns the clients, what was
/// written to each, and whether client 0 saw EOF or a reset.
fn run(
    simulation: &Simulation,
    sender: usize,
    next: Next,
    prepare: impl Fn(&Client),
) -> ([Client; 2], [Vec<u8>; 2], [bool; 2]) {
    let (ids, written) = (RefCell::new(Vec::new()), RefCell::new([vec![], vec![]]));
    let mut events = simulation.event_loop();
    events.catch_panics(true);
    let service = stream(|connection: &mut Connection<'_>, input: &[u8]| {
        if input == b"?" {
            ids.borrow_mut().push(connection.id());
            return 1;
        }
        let write = |target: &mut Connection<'_>, index: usize, bytes: &[u8]| {
            if target.send(bytes).is_ok() {
                written.borrow_mut()[index].extend_from_slice(bytes);
            }
        };
        let context = connection.context();
        let Some(mut target) = context.connection(ids.borrow()[0]) else {
            return input.len();
        };
        write(&mut target, 0, input);
        match next {
            Next::Returns => {}
            Next::WritesAgain => write(&mut target, 0, &input[input.len() / 4..]),
            Next::SendsShared => {
                let shared = SharedBytes::from(vec![b's'; 5_000]);
                target.send_shared(&shared).expect("there is room");
                written.borrow_mut()[0].extend_from_slice(&shared);
            }
            Next::WritesToTheOther => {
                write(&mut context.connection(ids.borrow()[1]).expect("it is open"), 1, input);
            }
            Next::ShutsDown => target.shutdown_write(),
            Next::Closes => target.close(),
            Next::Aborts => target.abort(),
            Next::Panics => panic!("this is the panic of the test"),
        }
        input.len()
    });
    events.listen(SERVER, service).expect("the address is free");
    let clients = [(); 2].map(|()| {
        let client = simulation.connect(SERVER).expect("the server listens");
        client.send(b"?");
        simulation.run_until_idle(&mut events).expect("the poll works");
        client
    });
    prepare(&clients[0]);
    clients[sender].send(&long_input());
    simulation.run_until_idle(&mut events).expect("the poll works");
    let end = [clients[0].saw_eof(), clients[0].saw_reset()];
    drop(events);
    (clients, written.into_inner(), end)
}

#[test]
fn long_input_arrives_in_order_whatever_the_callback_does_next() {
    check(0..5, |simulation| {
        for (sender, next) in [0, 1].into_iter().flat_map(|sender| ALL.map(|next| (sender, next))) {
            for send_buffer_bytes in [1_000_000, 6_000, 1_000] {
                let simulation = Simulation::new(simulation.seed());
                let shorten = |client: &Client| client.set_send_buffer_bytes_max(send_buffer_bytes);
                let (clients, written, end) = run(&simulation, sender, next, shorten);
                let context = format!("{next:?} after input of client {sender}, {send_buffer_bytes} bytes at a time");
                let [first, second] = clients.each_ref().map(Client::received);
                let is_reset = next == Next::Aborts || next == Next::Panics && sender == 0;
                assert_eq!(end, [matches!(next, Next::ShutsDown | Next::Closes), is_reset], "{context}");
                assert!(if is_reset { first.is_empty() } else { first == written[0] }, "{context}: {}", first.len());
                assert!(!written[0].is_empty() && second == written[1], "{context}: {}", second.len());
            }
        }
    });
}

#[test]
fn an_interrupted_send_keeps_long_input_and_a_reset_drops_it() {
    check(0..5, |simulation| {
        for errno in [Errno::EINTR, Errno::ECONNRESET] {
            let simulation = Simulation::new(simulation.seed());
            let fail = |_: &Client| simulation.fail_next(Fault::Send, errno as i32, 1);
            let (clients, written, _) = run(&simulation, 1, Next::WritesAgain, fail);
            let received = clients[0].received();
            let expected = if errno == Errno::ECONNRESET { &[][..] } else { &written[0] };
            assert!(received == expected, "{errno}: {} of {} bytes", received.len(), expected.len());
        }
    });
}

#[test]
fn a_panic_that_ends_the_loop_leaves_no_long_input_to_send() {
    let simulation = Simulation::new(1);
    let mut events = simulation.event_loop();
    let service = stream(|connection: &mut Connection<'_>, input: &[u8]| {
        connection.send(input).expect("there is room");
        panic!("this is the panic of the test")
    });
    events.listen(SERVER, service).expect("the address is free");
    let client = simulation.connect(SERVER).expect("the server listens");
    client.send(&long_input());
    let run = catch_unwind(AssertUnwindSafe(|| simulation.run_until_idle(&mut events)));
    assert!(run.is_err() && events.turn(Some(Duration::ZERO)).is_err(), "the panic ends the loop");
    drop(events);
    assert!(client.received().is_empty(), "nothing is sent after the panic");
}
