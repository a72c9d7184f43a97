//! Detects that all workers have been idle for a time.
//!
//! The time starts when the last connection closes, even if it was silent for long. An idle worker sets no timeout.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use halloo::EventLoop;

/// Measures how long one worker has been idle.
#[derive(Debug)]
pub(crate) struct IdleTimer<'w> {
    /// How long the worker must be idle before it is marked idle.
    pub(crate) timeout: Duration,
    idle_since: Instant,
    /// Greetings sent and connections accepted until the end of the last turn.
    previous_activity: (u64, u64),
    /// Connections open after the last turn.
    previous_connections: u64,
    /// Workers that are not marked idle; each marks itself.
    busy_workers: &'w AtomicUsize,
    is_marked_idle: bool,
}

impl<'w> IdleTimer<'w> {
    /// A timer of a worker that has been idle since that moment.
    pub(crate) fn new(timeout: Duration, idle_since: Instant, busy_workers: &'w AtomicUsize) -> Self {
        let (previous_activity, previous_connections) = ((0, 0), 0);
        Self { timeout, idle_since, previous_activity, previous_connections, busy_workers, is_marked_idle: false }
    }

    /// How long the loop may wait; `None` while a connection is open, since its close wakes the loop.
    pub(crate) fn time_left(&self, event_loop: &EventLoop<'_>) -> Option<Duration> {
        let is_running = !self.is_marked_idle && event_loop.stats().connections == 0;
        is_running.then(|| self.timeout.saturating_sub(self.idle_since.elapsed()))
    }

    /// Starts the idle time again: work waits that the loop does not count.
    pub(crate) fn restart(&mut self) {
        self.idle_since = Instant::now();
    }

    /// Checks for activity since the last turn. Returns true if this worker becomes idle and all others are idle.
    pub(crate) fn check_expired(&mut self, event_loop: &EventLoop<'_>, greeting_count: u64) -> bool {
        let connections = event_loop.stats().connections;
        // A connection that has opened and closed within the turn is activity, too, even without a greeting.
        let activity = (greeting_count, event_loop.stats().accepted);
        // A connection that closed in this turn may have been open for long: the time starts now.
        if connections + self.previous_connections > 0 || activity != self.previous_activity {
            self.idle_since = Instant::now();
            if std::mem::take(&mut self.is_marked_idle) {
                self.busy_workers.fetch_add(1, Ordering::AcqRel);
            }
        }
        (self.previous_activity, self.previous_connections) = (activity, connections);
        if self.is_marked_idle || self.idle_since.elapsed() < self.timeout {
            return false;
        }
        self.is_marked_idle = true;
        self.busy_workers.fetch_sub(1, Ordering::AcqRel) == 1
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpStream};
    use std::time::{Duration, Instant};

    use halloo::{EventLoop, stream};

    use super::{AtomicUsize, IdleTimer};

    #[test]
    fn idle_time_starts_when_a_silent_connection_closes() {
        let mut event_loop = EventLoop::new().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = event_loop.listen(address, stream(|_, input| input.len())).unwrap();
        let timeout = Duration::from_millis(200);
        let busy_workers = AtomicUsize::new(1);
        let mut timer = IdleTimer::new(timeout, Instant::now(), &busy_workers);
        let client = TcpStream::connect(event_loop.local_addr(listener).unwrap()).unwrap();
        while event_loop.stats().connections == 0 {
            let _ = event_loop.turn(Some(timeout)).unwrap();
            assert!(!timer.check_expired(&event_loop, 0));
        }
        // The connection is silent for longer than the timeout.
        let silent_since = Instant::now();
        while silent_since.elapsed() < 2 * timeout {
            let _ = event_loop.turn(Some(timeout)).unwrap();
        }
        drop(client);
        while event_loop.stats().connections > 0 {
            let _ = event_loop.turn(None).unwrap();
        }
        assert!(!timer.check_expired(&event_loop, 0));
        let _ = event_loop.turn(timer.time_left(&event_loop)).unwrap();
        assert!(timer.check_expired(&event_loop, 0));
    }

    #[test]
    fn a_connection_that_opens_and_closes_within_one_turn_is_activity() {
        let mut event_loop = EventLoop::new().unwrap();
        let handler = stream(|connection, input| {
            connection.close();
            input.len()
        });
        let listener = event_loop.listen(SocketAddr::from(([127, 0, 0, 1], 0)), handler).unwrap();
        let (timeout, busy_workers) = (Duration::from_millis(50), AtomicUsize::new(2));
        let mut timer = IdleTimer::new(timeout, Instant::now(), &busy_workers);
        while timer.time_left(&event_loop).is_some() {
            let _ = event_loop.turn(timer.time_left(&event_loop)).unwrap();
            assert!(!timer.check_expired(&event_loop, 0), "another worker is busy");
        }
        drop(TcpStream::connect(event_loop.local_addr(listener).unwrap()).unwrap());
        while event_loop.stats().accepted == 0 || event_loop.stats().connections > 0 {
            let _ = event_loop.turn(None).unwrap();
        }
        assert!(!timer.check_expired(&event_loop, 0));
        assert!(timer.time_left(&event_loop).is_some(), "the idle time starts again");
    }

    #[test]
    fn the_server_exits_when_the_last_worker_becomes_idle() {
        let event_loop = EventLoop::new().unwrap();
        let (timeout, long_ago) =
            (Duration::from_millis(20), Instant::now().checked_sub(Duration::from_secs(1)).unwrap());
        let busy_workers = AtomicUsize::new(2);
        let [mut first, mut second] = [0; 2].map(|_| IdleTimer::new(timeout, long_ago, &busy_workers));
        assert!(!first.check_expired(&event_loop, 0));
        assert_eq!(first.time_left(&event_loop), None, "an idle worker sets no timeout");
        // A greeting makes the worker busy again.
        assert!(!first.check_expired(&event_loop, 1));
        assert!(first.time_left(&event_loop).is_some());
        assert!(!second.check_expired(&event_loop, 0));
        while !first.check_expired(&event_loop, 1) {
            assert!(long_ago.elapsed() < Duration::from_secs(20));
        }
        assert!(
            !second.check_expired(&event_loop, 0) && !first.check_expired(&event_loop, 1),
            "the expiry is reported once"
        );
    }
}
