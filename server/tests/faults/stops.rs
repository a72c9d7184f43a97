//! Stopped and continued in the middle of work: time is lost, and nothing else.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::clients::{GREETING, UDP_GREETING, ask, ask_udp};
use crate::rows::{Before, assert_serves};
use crate::support::{Server, throughout, wait_until};

const STOPS: usize = 15;

#[test]
fn stopped_and_continued_under_load_it_serves_everybody() {
    let mut server = Server::start(&["--listen", "127.0.0.1:0"]);
    assert_serves(&server, "before");
    let (log, descriptors) = (server.log().len(), server.descriptors());
    let (over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    assert_eq!(ask(server.tcp()), GREETING);
                    assert_eq!(ask_udp(server.udp()), UDP_GREETING);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for _ in 0..STOPS {
            let before = answered.load(Ordering::Relaxed);
            server.freeze();
            throughout(Duration::from_millis(20), || ());
            server.thaw();
            wait_until("service to go on", || answered.load(Ordering::Relaxed) > before + 10);
        }
        over.store(true, Ordering::Relaxed);
    });
    assert!(answered.load(Ordering::Relaxed) > STOPS * 10);
    wait_until("the descriptors to come back", || server.descriptors() == descriptors);
    assert_eq!(server.log().len(), log, "{:#?}", server.log());
    server.assert_stops();
}

/// The first thread is interrupted wherever it is: a stop and a continue make every call that waits return.
#[test]
fn a_stop_while_it_waits_wakes_nobody() {
    let mut server = Server::start(&["--listen", "127.0.0.1:0"]);
    let before = Before::of(&server);
    for _ in 0..30 {
        server.freeze();
        server.thaw();
    }
    before.assert_unharmed(&mut server, "30 stops", 0);
    server.assert_stops();
}
