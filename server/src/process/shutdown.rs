//! Ends all loops, after the drain delay or at once.
//!
//! The supervisor is notified before any loop drains, and all loops have the same deadlines.

use std::time::{Duration, Instant};

use halloo::{ConnectionId, Context, LoopStopped};

use crate::process::sd_notify::SdNotifier;
use crate::process::server_state::{ServerState, SharedServerState};
use crate::process::worker_loops::WorkerLoops;

/// Ends the server; every part that can end it has a clone.
#[derive(Clone, Debug)]
pub(crate) struct Shutdown {
    /// How long everything is served after a request to stop.
    pub(crate) drain_delay: Duration,
    /// How long open connections may take to finish.
    pub(crate) drain_timeout: Duration,
    pub(crate) notifier: SdNotifier,
    pub(crate) state: SharedServerState,
    pub(crate) loops: WorkerLoops,
    /// Whether clients stay connected after a reply: their connections close during the drain delay.
    pub(crate) keeps_connections: bool,
}

impl Shutdown {
    /// Serves everything during the drain delay, and then drains all loops; [`LoopStopped`] if they have ended already.
    /// Kept connections close one after the other during the delay: their clients do not all come back at one moment.
    pub(crate) fn drain_after_delay(&self) -> Result<(), LoopStopped> {
        if self.drain_delay.is_zero() {
            return self.drain();
        }
        self.announce();
        let start = Instant::now();
        let Self { drain_delay, drain_timeout, keeps_connections, ref loops, .. } = *self;
        let loops_by_index = loops.clone();
        loops.post(move |index, context| {
            let mut kept = Vec::new();
            if keeps_connections {
                for (handler, _) in &loops_by_index.as_slice()[index].listeners {
                    context.for_each_connection(*handler, |connection| kept.push(connection.id()));
                }
            }
            let mut delay = DelayedDrain::new(start, drain_delay, drain_timeout, kept);
            context.every(delay.next_close, move |context| delay.advance(context));
        })
    }

    /// Drains all loops; [`LoopStopped`] if they have ended already.
    pub(crate) fn drain(&self) -> Result<(), LoopStopped> {
        self.announce();
        let deadline = Instant::now() + self.drain_timeout;
        self.loops.post(move |_, context| context.drain(deadline.saturating_duration_since(context.now())))
    }

    /// Stops all loops at once; [`LoopStopped`] if they have ended already.
    pub(crate) fn stop(&self) -> Result<(), LoopStopped> {
        self.loops.post(|_, context| context.stop())
    }

    fn announce(&self) {
        self.state.advance_to(ServerState::Stopping);
        self.notifier.notify_stopping();
    }
}

/// The drain delay of one loop: kept connections close at even intervals, and the loop drains at the end.
struct DelayedDrain {
    start: Instant,
    drain_delay: Duration,
    drain_timeout: Duration,
    /// The connections that were open at the start and are not closed yet.
    kept: Vec<ConnectionId>,
    close_interval: Duration,
    /// When the next connection closes, from the start. The last one closes at the end of the delay.
    next_close: Duration,
}

impl DelayedDrain {
    fn new(start: Instant, drain_delay: Duration, drain_timeout: Duration, kept: Vec<ConnectionId>) -> Self {
        let close_interval = drain_delay / u32::try_from(kept.len()).unwrap_or(u32::MAX).max(1);
        Self { start, drain_delay, drain_timeout, kept, close_interval, next_close: close_interval }
    }

    /// Closes the connections that are due, and drains the loop at the end of the delay. Returns how long to wait for
    /// the next one; `None` at the end.
    fn advance(&mut self, context: &mut Context) -> Option<Duration> {
        let elapsed = self.start.elapsed();
        if elapsed >= self.drain_delay {
            context.drain(self.drain_delay.saturating_add(self.drain_timeout).saturating_sub(elapsed));
            return None;
        }
        while self.next_close <= elapsed
            && let Some(id) = self.kept.pop()
        {
            // Its handler drains it, in `on_notify`. A connection that has ended leaves its place in time empty.
            context.notify(id, 0);
            self.next_close += self.close_interval;
        }
        let next = if self.kept.is_empty() { self.drain_delay } else { self.next_close };
        Some(next.saturating_sub(elapsed))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpStream};
    use std::time::{Duration, Instant};

    use halloo::{Connection, EventLoop, HandlerId, StreamHandler, Turn};

    use super::DelayedDrain;

    /// Drains its connections as the handlers of kept connections do.
    struct DrainsWhenNotified;

    impl StreamHandler for DrainsWhenNotified {
        type Session = ();

        fn on_open(&mut self, _: &mut Connection<'_>) -> Option<()> {
            Some(())
        }

        fn on_data(&mut self, _: &mut Connection<'_>, (): &mut (), input: &[u8]) -> usize {
            input.len()
        }

        fn on_notify(&mut self, connection: &mut Connection<'_>, (): &mut (), _: u64) {
            connection.drain();
        }

        fn on_drain(&mut self, connection: &mut Connection<'_>, (): &mut ()) {
            connection.drain();
        }
    }

    fn open_connections(event_loop: &mut EventLoop<'_>, handler: HandlerId) -> usize {
        let mut count = 0;
        event_loop.context().for_each_connection(handler, |_| count += 1);
        count
    }

    #[test]
    fn kept_connections_close_at_even_intervals_and_then_the_loop_drains() {
        let mut event_loop = EventLoop::new().unwrap();
        let handler = event_loop.attach(DrainsWhenNotified);
        let listener = event_loop.listen_for(SocketAddr::from(([127, 0, 0, 1], 0)), handler).unwrap();
        let address = event_loop.local_addr(listener).unwrap();
        let connect = |event_loop: &mut EventLoop<'_>, count| {
            let clients: Vec<TcpStream> = (0..count).map(|_| TcpStream::connect(address).unwrap()).collect();
            let accepted = event_loop.stats().accepted + count;
            while event_loop.stats().accepted < accepted {
                let _ = event_loop.turn(Some(Duration::from_secs(20))).unwrap();
            }
            clients
        };
        let _clients = connect(&mut event_loop, 4);
        let mut kept = Vec::new();
        event_loop.context().for_each_connection(handler, |connection| kept.push(connection.id()));
        let (delay, timeout) = (Duration::from_secs(40), Duration::from_secs(5));
        let mut drain = DelayedDrain::new(Instant::now(), delay, timeout, kept);
        let _newcomer = connect(&mut event_loop, 1);
        for (elapsed, open) in [(0, 5), (10, 4), (11, 4), (30, 2)] {
            drain.start = Instant::now().checked_sub(Duration::from_secs(elapsed)).unwrap();
            let next = drain.advance(event_loop.context()).unwrap();
            assert!(next <= Duration::from_secs(10) && !next.is_zero(), "{next:?}");
            let _ = event_loop.turn(Some(Duration::ZERO)).unwrap();
            assert_eq!(open_connections(&mut event_loop, handler), open, "after {elapsed} s");
        }
        // The last kept connection ends with the delay.
        drain.start = Instant::now().checked_sub(delay + timeout).unwrap();
        assert_eq!(drain.advance(event_loop.context()), None);
        while !matches!(event_loop.turn(Some(Duration::ZERO)).unwrap(), Turn::Stopped(_)) {}
    }
}
