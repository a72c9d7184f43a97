//! What the simulated poll tells, and when: readiness by edges, late, for nothing and out of order.

use crate::faults::Fault;
use crate::network::Event;
use crate::world::World;

impl World {
    /// Tells the edges there are, at most as many as fit; some late, some for nothing, in any order.
    pub(crate) fn tell(&mut self, events: &mut Vec<Event>, most: usize) -> bool {
        let count = self.alive.len();
        let first = usize::try_from(self.random.below(count as u64)).unwrap_or(0);
        let before = events.len();
        for index in (first..count).chain(0..first) {
            let end = self.alive[index];
            let Some(token) = self.ends[end].token else { continue };
            let World { faults, random, ends, .. } = self;
            let spurious = faults.strikes(Fault::SpuriousReadiness, random);
            if !(ends[end].edge || spurious) || faults.strikes(Fault::LateReadiness, random) {
                continue;
            }
            if events.len() - before == most {
                return true;
            }
            let mut event = self.readiness(end, token);
            if spurious {
                event.readable |= self.random.one_in(2);
                event.writable |= self.random.one_in(2);
            }
            self.ends[end].edge = false;
            if event.readable || event.writable || event.deep || event.broken || event.over {
                self.say(|| format!("          edge {end} {event:?}"));
                events.push(event);
            }
        }
        false
    }

    /// Tells of a socket that is closed: as broken, and as ready for everything.
    pub(crate) fn tell_ghost(&mut self, events: &mut Vec<Event>) {
        let World { faults, random, ghosts, .. } = self;
        if !ghosts.is_empty() && faults.strikes(Fault::SpuriousReadiness, random) {
            let token = ghosts[usize::try_from(random.below(ghosts.len() as u64)).unwrap_or(0)];
            events.push(Event { token, readable: true, writable: true, deep: true, broken: true, over: true });
        }
    }
}
