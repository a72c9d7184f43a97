//! The events of the simulated poll, and their delay.
//!
//! An edge is reported once. A fault can delay it, or report an edge that does not exist.

use std::time::Duration;

use crate::ids::Token;
use crate::net::Event;
use crate::net::simulated::faults::Fault;
use crate::net::simulated::sim_socket::{ConnectAnswer, RecvQueue, Reset, SimSocket, SimSocketKind};
use crate::net::simulated::world::World;

/// The maximum delay of readiness by a fault: less than any timeout of the library. Otherwise a client would be timed
/// out if its readiness is delayed beyond a jump of the clock.
const LATE_MAX: Duration = Duration::from_millis(100);

impl World {
    /// The event that the poll would report for a socket now.
    pub(crate) fn readiness(&self, socket: usize, token: Token) -> Event {
        let quiet = Event { token, readable: false, writable: false, read_to_end: false, error: false, hang_up: false };
        match &self.sockets[socket].kind {
            SimSocketKind::Listener { backlog } => Event { readable: !backlog.is_empty(), ..quiet },
            SimSocketKind::Watched { readable, writable } => {
                Event { readable: *readable, writable: *writable, ..quiet }
            }
            SimSocketKind::Udp(RecvQueue { queue, pending_error, .. }) => {
                Event { readable: !queue.is_empty(), error: pending_error.is_some(), ..quiet }
            }
            SimSocketKind::Stream(stream) if stream.connect_answer == ConnectAnswer::Pending => quiet,
            SimSocketKind::Stream(stream) => {
                let is_refused = matches!(stream.connect_answer, ConnectAnswer::Failed(_));
                let is_reset = stream.reset != Reset::No || is_refused;
                Event {
                    token,
                    readable: !stream.recv_buffer.is_empty() || stream.fin_received || is_reset,
                    writable: is_reset || stream.is_writable(),
                    read_to_end: stream.fin_received || is_reset || stream.urgent_after.is_some(),
                    error: is_reset,
                    hang_up: is_reset || (stream.fin_received && stream.write_shut_down),
                }
            }
        }
    }

    /// Reports the pending edges, as many as fit, in any order: some late, some spurious.
    pub(crate) fn report_events(&mut self, events: &mut Vec<Event>, max: usize) -> bool {
        let count = self.active.len();
        let first = usize::try_from(self.random.below(count as u64)).unwrap_or(0);
        let before = events.len();
        for index in (first..count).chain(0..first) {
            let socket = self.active[index];
            let Some(token) = self.sockets[socket].token else { continue };
            let spurious = self.faults.occurs(Fault::SpuriousReadiness, &mut self.random);
            if !(self.sockets[socket].has_edge || spurious) || self.is_held_back(socket) {
                continue;
            }
            if events.len() - before == max {
                return true;
            }
            let mut event = self.readiness(socket, token);
            if spurious {
                event.readable |= self.random.one_in(2);
                event.writable |= self.random.one_in(2);
            }
            self.sockets[socket].clear_edge();
            if event.readable || event.writable || event.read_to_end || event.error || event.hang_up {
                events.push(event);
            }
        }
        false
    }

    /// Whether the fault delays readiness.
    fn is_held_back(&mut self, socket: usize) -> bool {
        let World { faults, random, sockets, clock, .. } = self;
        if !faults.occurs(Fault::LateReadiness, random) {
            return false;
        }
        let SimSocket { has_edge, late_since, .. } = &mut sockets[socket];
        if !*has_edge || faults.is_constant(Fault::LateReadiness) {
            return true;
        }
        let since = *late_since.get_or_insert(*clock);
        clock.saturating_sub(since) < LATE_MAX
    }

    /// Reports an event of a closed socket: an error, and ready for everything.
    pub(crate) fn report_stale_event(&mut self, events: &mut Vec<Event>) {
        let World { faults, random, stale_tokens, .. } = self;
        if !stale_tokens.is_empty() && faults.occurs(Fault::SpuriousReadiness, random) {
            let token = stale_tokens[usize::try_from(random.below(stale_tokens.len() as u64)).unwrap_or(0)];
            events.push(Event { token, readable: true, writable: true, read_to_end: true, error: true, hang_up: true });
        }
    }
}
