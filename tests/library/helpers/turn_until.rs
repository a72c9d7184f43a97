//! Turning a loop until a condition holds, with a deadline.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use halloo::{DrainReport, EventLoop, Turn};
use support::wait::TIMEOUT;

/// How long a turn waits while clients on the same thread may have work.
const SHORT: Duration = Duration::from_millis(2);

/// Turns the loop until the condition holds.
#[track_caller]
pub(crate) fn turn_until(
    events: &mut EventLoop<'_>,
    description: &str,
    mut condition: impl FnMut(&mut EventLoop<'_>) -> bool,
) {
    let deadline = Instant::now() + TIMEOUT;
    while !condition(events) {
        assert!(Instant::now() < deadline, "not within {TIMEOUT:?}: {description}; {}", events.stats());
        let _ = events.turn(Some(SHORT)).expect("the poll works");
    }
}

/// Turns the loop until it has no work. A loop that spins fails here.
#[track_caller]
pub(crate) fn turn_until_idle(events: &mut EventLoop<'_>) {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let is_idle = events.next_timeout() != Some(Duration::ZERO);
        let turn = events.turn(Some(10 * SHORT)).expect("the poll works");
        if is_idle && turn == Turn::Idle {
            return;
        }
        assert!(Instant::now() < deadline, "the loop always has work; {}", events.stats());
    }
}

/// Turns the loop until it has stopped.
#[track_caller]
pub(crate) fn turn_until_stopped(events: &mut EventLoop<'_>) -> DrainReport {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        if let Turn::Stopped(report) = events.turn(Some(SHORT)).expect("the poll works") {
            return report;
        }
        assert!(Instant::now() < deadline, "the loop never stops; {}", events.stats());
    }
}

/// Turns the loop until a datagram has arrived at the peer, and returns it.
#[track_caller]
pub(crate) fn recv(events: &mut EventLoop<'_>, peer: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut received = None;
    turn_until(events, "a datagram", |_| {
        let mut room = vec![0; 65_536];
        received = peer.recv_from(&mut room).ok().map(|(count, from)| (room[..count].to_vec(), from));
        received.is_some()
    });
    received.expect("a datagram")
}
