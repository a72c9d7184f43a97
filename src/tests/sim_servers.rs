//! The other side of outbound connections: simulated servers, and what each must have received.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::outbound::Calls;

use crate::testing::{Client, Simulation};

/// What a server says when it has heard everything.
pub(super) const BYE: &[u8] = b"bye";

/// The server behind the proxy.
pub(super) const BEHIND: SocketAddr = SocketAddr::new(FAR, 9);

const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9));

/// Whom a call is to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Target {
    /// Hears everything to its end, says goodbye and ends.
    Answers = 20,
    Resets = 21,
    Silent = 22,
    Nobody = 23,
    /// An option that cannot work; the server would answer.
    Nonsense = 24,
}

impl Target {
    pub(super) const ALL: [Self; 5] = [Self::Answers, Self::Resets, Self::Silent, Self::Nobody, Self::Nonsense];

    pub(super) fn address(self) -> SocketAddr {
        SocketAddr::new(FAR, self as u16)
    }
}

/// A server's side of one connection.
struct Served {
    peer: Client,
    at: SocketAddr,
    has_ended: bool,
}

/// All servers.
#[derive(Default)]
pub(super) struct Servers {
    served: Vec<Served>,
}

impl Servers {
    pub(super) fn new(simulation: &Simulation) -> Self {
        for at in [BEHIND, Target::Answers.address(), Target::Resets.address(), Target::Nonsense.address()] {
            simulation.serve(at);
        }
        simulation.silence(Target::Silent.address());
        Self::default()
    }

    /// Has every server do what it is there for.
    pub(super) fn act(&mut self, simulation: &Simulation) {
        for at in [BEHIND, Target::Answers.address(), Target::Resets.address()] {
            while let Some(peer) = simulation.accept(at) {
                if simulation.below(3) == 0 {
                    peer.set_window(usize::try_from(1 + simulation.below(2_000)).expect("a length"));
                }
                self.served.push(Served { peer, at, has_ended: false });
            }
        }
        assert!(
            simulation.accept(Target::Nonsense.address()).is_none(),
            "nobody is asked with options that cannot work"
        );
        for served in self.served.iter_mut().filter(|served| !served.has_ended) {
            served.act(simulation);
        }
    }

    /// Whether everybody has heard the end, or will not.
    pub(super) fn are_done(&self) -> bool {
        self.served.iter().all(|served| served.has_ended || served.peer.was_reset() || served.is_struck())
    }

    /// Our sides of the connections whose server has met an injected error, or could not be told of our end.
    pub(super) fn struck(&self) -> impl Iterator<Item = SocketAddr> {
        self.served.iter().filter(|served| served.is_struck()).map(|served| served.peer.loop_side())
    }

    /// Checks what has arrived against what was written.
    pub(super) fn check(&self, calls: &Calls, is_lenient: bool) {
        let by_side: BTreeMap<SocketAddr, &Served> =
            self.served.iter().map(|served| (served.peer.loop_side(), served)).collect();
        for (id, call) in calls.by_id.iter().filter(|(_, call)| call.target == Target::Answers) {
            let Some(local) = call.local else { continue };
            let (served, peer) = (by_side[&local], &by_side[&local].peer);
            let (received, written) = (peer.received(), &call.written);
            assert!(written.starts_with(&received), "{id:?} has brought what was not written to it");
            if !is_lenient && !call.is_given_up && !served.is_struck() {
                let (got, wanted) = (received.len(), written.len());
                assert!(!call.is_lost, "{id:?} was taken for broken, and its server has only ended");
                assert!(peer.has_ended() && got == wanted, "{got} of {wanted} bytes of {id:?} have arrived");
            }
        }
    }
}

impl Served {
    /// Whether it has met an injected error, or could not be told of our end.
    fn is_struck(&self) -> bool {
        self.peer.was_struck() || self.peer.missed_the_end()
    }

    fn act(&mut self, simulation: &Simulation) {
        let news = self.peer.read();
        if self.at == Target::Resets.address() {
            if simulation.below(2) == 0 {
                self.peer.send(BYE);
            }
            self.peer.reset();
            self.has_ended = true;
            return;
        }
        if self.at == BEHIND {
            self.peer.send(&news);
        }
        if self.peer.has_ended() && !self.peer.was_reset() {
            if self.at != BEHIND {
                self.peer.send(BYE);
            }
            self.peer.finish();
            self.has_ended = true;
        }
    }
}
