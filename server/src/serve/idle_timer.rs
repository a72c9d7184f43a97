//! Detects that no worker has had anything to do for a time.
//!
//! The time starts when the last connection closes, however long it was silent. An idle worker sets no timeout.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use halloo::EventLoop;

/// How many workers are idle; each worker marks itself.
#[derive(Debug)]
pub(crate) struct IdleWorkers {
    idle: AtomicUsize,
    total: usize,
}

impl IdleWorkers {
    /// All workers are busy at first.
    pub(crate) fn new(workers: usize) -> Arc<Self> {
        Arc::new(Self { idle: AtomicUsize::new(0), total: workers })
    }

    /// Counts one more idle worker; true if now all workers are idle.
    fn mark_idle(&self) -> bool {
        self.idle.fetch_add(1, Ordering::AcqRel) + 1 == self.total
    }

    fn mark_busy(&self) {
        self.idle.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Measures how long one worker has been idle.
#[derive(Debug)]
pub(crate) struct IdleTimer {
    /// How long the worker must be idle to be marked so.
    pub(crate) timeout: Duration,
    idle_since: Instant,
    previous_greetings: u64,
    previous_connections: u64,
    idle_workers: Arc<IdleWorkers>,
    is_marked_idle: bool,
}

impl IdleTimer {
    /// A timer of a worker that has been idle since that moment.
    pub(crate) fn new(timeout: Duration, idle_since: Instant, idle_workers: Arc<IdleWorkers>) -> Self {
        Self {
            timeout,
            idle_since,
            previous_greetings: 0,
            previous_connections: 0,
            idle_workers,
            is_marked_idle: false,
        }
    }

    /// How long the loop may wait; while a connection is open, its end will wake it.
    pub(crate) fn time_left(&self, event_loop: &EventLoop<'_>) -> Option<Duration> {
        let is_running = !self.is_marked_idle && event_loop.stats().connections == 0;
        is_running.then(|| self.timeout.saturating_sub(self.idle_since.elapsed()))
    }

    /// Checks what has changed since the last turn; true if with this worker all workers have been idle for the
    /// timeout.
    pub(crate) fn check_expired(&mut self, event_loop: &EventLoop<'_>, greeting_count: u64) -> bool {
        let connections = event_loop.stats().connections;
        // A connection that was open until this turn may have been so for long, and the time begins with its end.
        if connections + self.previous_connections > 0 || greeting_count != self.previous_greetings {
            self.idle_since = Instant::now();
            if std::mem::take(&mut self.is_marked_idle) {
                self.idle_workers.mark_busy();
            }
        }
        (self.previous_greetings, self.previous_connections) = (greeting_count, connections);
        if self.is_marked_idle || self.idle_since.elapsed() < self.timeout {
            return false;
        }
        self.is_marked_idle = true;
        self.idle_workers.mark_idle()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpStream};
    use std::time::{Duration, Instant};

    use halloo::{EventLoop, stream};

    use super::{IdleTimer, IdleWorkers};

    #[test]
    fn idleness_begins_with_the_end_of_a_connection_however_silent_it_was() {
        let mut event_loop = EventLoop::new().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = event_loop.listen(address, stream(|_, input| input.len())).unwrap();
        let timeout = Duration::from_millis(200);
        let mut timer = IdleTimer::new(timeout, Instant::now(), IdleWorkers::new(1));
        let client = TcpStream::connect(event_loop.local_addr(listener).unwrap()).unwrap();
        while event_loop.stats().connections == 0 {
            let _ = event_loop.turn(Some(timeout)).unwrap();
            assert!(!timer.check_expired(&event_loop, 0));
        }
        // Nothing happens for longer than anybody would wait.
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
    fn the_last_worker_that_lies_down_ends_it_and_one_that_gets_up_puts_it_off() {
        let event_loop = EventLoop::new().unwrap();
        let (timeout, long_ago) =
            (Duration::from_millis(20), Instant::now().checked_sub(Duration::from_secs(1)).unwrap());
        let idle_workers = IdleWorkers::new(2);
        let [mut first, mut second] = [0; 2].map(|_| IdleTimer::new(timeout, long_ago, idle_workers.clone()));
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
