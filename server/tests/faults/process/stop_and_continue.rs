//! SIGSTOP and SIGCONT under load.
//!
//! Every client is served afterwards.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use support::network::streams::{GREETING, REQUEST, read_to_end, send};
use support::network::tcp::connect_many;
use support::network::udp::UDP_GREETING;
use support::wait::{repeat_for, wait_until};

use crate::HALLOO;
use crate::run_fault_cases::{Baseline, assert_serves};
use crate::streams::fallible_clients::{request, request_udp};

const STOPS: usize = 15;

#[test]
fn stopped_and_continued_under_load_it_serves_all_clients() {
    let mut server = HALLOO.start(&["--listen", "127.0.0.1:0"]);
    assert_serves(&server, "before");
    let (log, descriptors) = (server.log_lines().len(), server.fd_count());
    let (is_done, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    assert_eq!(request(server.tcp()), GREETING);
                    assert_eq!(request_udp(server.udp()), UDP_GREETING);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for _ in 0..STOPS {
            let before = answered.load(Ordering::Relaxed);
            server.pause();
            repeat_for(Duration::from_millis(20), || ());
            server.resume();
            wait_until("service to go on", || answered.load(Ordering::Relaxed) > before + 10);
        }
        is_done.store(true, Ordering::Relaxed);
    });
    assert!(answered.load(Ordering::Relaxed) > STOPS * 10);
    wait_until("the descriptors to be closed", || server.fd_count() == descriptors);
    assert_eq!(server.log_lines().len(), log, "{:#?}", server.log_lines());
    server.assert_exits_on_sigterm();
}

/// The stop is longer than the idle timeout: requests arrive before the deadline and are read after it.
#[test]
fn clients_that_send_while_it_is_stopped_are_answered_despite_expired_timeouts() {
    let mut server = HALLOO.start(&["--listen", "127.0.0.1:0", "--idle-timeout", "1s"]);
    let descriptors = server.fd_count();
    let clients = connect_many(50, server.tcp());
    wait_until("the clients to be accepted", || server.fd_count() == descriptors + clients.len());
    server.pause();
    for client in &clients {
        send(client, REQUEST);
    }
    repeat_for(Duration::from_millis(1500), || ());
    server.resume();
    for client in &clients {
        assert_eq!(read_to_end(client), GREETING);
    }
    server.assert_exits_on_sigterm();
}

/// A stop and a continue make every blocking call of the first thread return (signal(7)).
#[test]
fn sigstop_and_sigcont_while_it_waits_do_not_wake_the_loop() {
    let mut server = HALLOO.start(&["--listen", "127.0.0.1:0"]);
    let before = Baseline::of(&server);
    for _ in 0..30 {
        server.pause();
        server.resume();
    }
    before.assert_unharmed(&mut server, "30 stops", 0);
    server.assert_exits_on_sigterm();
}
