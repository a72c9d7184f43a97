//! Since when nothing has happened, and when that has been so for long enough with every worker.
//!
//! Beside each loop, between two of its turns. A worker that has had nothing to do for the time given lies down to rest,
//! and gets up when something happens; when the last one lies down, the server has been idle for that long. It promises
//! that idleness begins with the end of a connection however silent it was, and that whoever rests sleeps until there is
//! something to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use halloo::EventLoop;

/// How many workers are at rest, told by themselves.
#[derive(Debug)]
pub(crate) struct Rest {
    resting: AtomicUsize,
    workers: usize,
}

impl Rest {
    /// Of so many workers none rests yet.
    pub(crate) fn new(workers: usize) -> Arc<Self> {
        Arc::new(Self { resting: AtomicUsize::new(0), workers })
    }

    /// One more; true if now all do.
    fn lie_down(&self) -> bool {
        self.resting.fetch_add(1, Ordering::AcqRel) + 1 == self.workers
    }

    fn get_up(&self) {
        self.resting.fetch_sub(1, Ordering::AcqRel);
    }
}

/// One worker's idleness.
#[derive(Debug)]
pub(crate) struct Idleness {
    /// How long it may go on.
    pub(crate) patience: Duration,
    since: Instant,
    given_before: u64,
    connections_before: u64,
    rest: Arc<Rest>,
    is_resting: bool,
}

impl Idleness {
    /// Nothing has happened since that moment.
    pub(crate) fn new(patience: Duration, since: Instant, rest: Arc<Rest>) -> Self {
        Self { patience, since, given_before: 0, connections_before: 0, rest, is_resting: false }
    }

    /// How long the loop may wait; while a connection is open, its end will wake it.
    pub(crate) fn wait(&self, events: &EventLoop<'_>) -> Option<Duration> {
        let is_counting = !self.is_resting && events.stats().connections == 0;
        is_counting.then(|| self.patience.saturating_sub(self.since.elapsed()))
    }

    /// Looks at what the last turn brought, greetings given so far among it; true if all workers have been idle for long
    /// enough now.
    pub(crate) fn is_over(&mut self, events: &EventLoop<'_>, given: u64) -> bool {
        let connections = events.stats().connections;
        // A connection that was open until this turn may have been so for long, and the time begins with its end.
        if connections + self.connections_before > 0 || given != self.given_before {
            self.since = Instant::now();
            if std::mem::take(&mut self.is_resting) {
                self.rest.get_up();
            }
        }
        (self.given_before, self.connections_before) = (given, connections);
        if self.is_resting || self.since.elapsed() < self.patience {
            return false;
        }
        self.is_resting = true;
        self.rest.lie_down()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpStream};
    use std::time::{Duration, Instant};

    use halloo::{EventLoop, stream};

    use super::{Idleness, Rest};

    #[test]
    fn idleness_begins_with_the_end_of_a_connection_however_silent_it_was() {
        let mut events = EventLoop::new().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = events.listen(address, stream(|_, input| input.len())).unwrap();
        let patience = Duration::from_millis(200);
        let mut idleness = Idleness::new(patience, Instant::now(), Rest::new(1));
        let client = TcpStream::connect(events.local_addr(listener).unwrap()).unwrap();
        while events.stats().connections == 0 {
            let _ = events.turn(Some(patience)).unwrap();
            assert!(!idleness.is_over(&events, 0));
        }
        // Nothing happens for longer than anybody would wait.
        let silent_since = Instant::now();
        while silent_since.elapsed() < 2 * patience {
            let _ = events.turn(Some(patience)).unwrap();
        }
        drop(client);
        while events.stats().connections > 0 {
            let _ = events.turn(None).unwrap();
        }
        assert!(!idleness.is_over(&events, 0));
        let _ = events.turn(idleness.wait(&events)).unwrap();
        assert!(idleness.is_over(&events, 0));
    }

    #[test]
    fn the_last_worker_that_lies_down_ends_it_and_one_that_gets_up_puts_it_off() {
        let events = EventLoop::new().unwrap();
        let (patience, long_ago) =
            (Duration::from_millis(20), Instant::now().checked_sub(Duration::from_secs(1)).unwrap());
        let rest = Rest::new(2);
        let [mut one, mut other] = [0; 2].map(|_| Idleness::new(patience, long_ago, rest.clone()));
        assert!(!one.is_over(&events, 0));
        assert_eq!(one.wait(&events), None, "who rests sleeps");
        // It greets somebody, and does not rest.
        assert!(!one.is_over(&events, 1));
        assert!(one.wait(&events).is_some());
        assert!(!other.is_over(&events, 0));
        while !one.is_over(&events, 1) {
            assert!(long_ago.elapsed() < Duration::from_secs(20));
        }
        assert!(!other.is_over(&events, 0) && !one.is_over(&events, 1), "it is said once");
    }
}
