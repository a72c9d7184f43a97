//! Simulated servers for outbound connections, and what each must receive.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::outbound_handlers::OutboundLog;

use crate::testing::{Client, Simulation};

/// What a server sends after EOF of the client.
pub(super) const SERVER_RESPONSE: &[u8] = b"bye";

/// The server behind the proxy.
pub(super) const PROXY_TARGET: SocketAddr = SocketAddr::new(REMOTE_HOST, 9);

const REMOTE_HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9));

/// The destination of a connect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Target {
    /// Reads to EOF, answers and closes.
    Answers = 20,
    Resets = 21,
    Blackhole = 22,
    Refuses = 23,
    /// The connect has an invalid option, though the server would answer.
    InvalidOptions = 24,
}

impl Target {
    pub(super) const ALL: [Self; 5] =
        [Self::Answers, Self::Resets, Self::Blackhole, Self::Refuses, Self::InvalidOptions];

    pub(super) fn address(self) -> SocketAddr {
        SocketAddr::new(REMOTE_HOST, self as u16)
    }
}

/// A server's side of one connection.
struct ServerConnection {
    peer: Client,
    at: SocketAddr,
    has_ended: bool,
}

/// All servers.
#[derive(Default)]
pub(super) struct SimServers {
    connections: Vec<ServerConnection>,
}

impl SimServers {
    pub(super) fn new(simulation: &Simulation) -> Self {
        for at in [PROXY_TARGET, Target::Answers.address(), Target::Resets.address(), Target::InvalidOptions.address()]
        {
            simulation.listen(at);
        }
        simulation.blackhole(Target::Blackhole.address());
        Self::default()
    }

    /// Runs one step of every server.
    pub(super) fn step(&mut self, simulation: &Simulation) {
        for at in [PROXY_TARGET, Target::Answers.address(), Target::Resets.address()] {
            while let Some(peer) = simulation.accept(at) {
                if simulation.random_below(3) == 0 {
                    peer.set_window(usize::try_from(1 + simulation.random_below(2_000)).expect("a length"));
                }
                self.connections.push(ServerConnection { peer, at, has_ended: false });
            }
        }
        assert!(
            simulation.accept(Target::InvalidOptions.address()).is_none(),
            "a connect with invalid options reached the server"
        );
        for served in self.connections.iter_mut().filter(|served| !served.has_ended) {
            served.step(simulation);
        }
    }

    /// Whether every server has ended, or its connection was faulty.
    pub(super) fn are_finished(&self) -> bool {
        self.connections.iter().all(|served| served.has_ended || served.peer.saw_reset() || served.is_faulted())
    }

    /// The loop's addresses of connections that met an injected error or whose FIN was lost.
    pub(super) fn faulted(&self) -> impl Iterator<Item = SocketAddr> {
        self.connections.iter().filter(|served| served.is_faulted()).map(|served| served.peer.loop_address())
    }

    /// Checks that the servers received what was written.
    pub(super) fn check(&self, outbound_log: &OutboundLog, is_lenient: bool) {
        let by_side: BTreeMap<SocketAddr, &ServerConnection> =
            self.connections.iter().map(|served| (served.peer.loop_address(), served)).collect();
        for (id, call) in outbound_log.by_id.iter().filter(|(_, call)| call.target == Target::Answers) {
            let Some(local) = call.local else { continue };
            let (served, peer) = (by_side[&local], &by_side[&local].peer);
            let (received, written) = (peer.received(), &call.written);
            assert!(written.starts_with(&received), "bytes arrived that were not written to {id:?}");
            if !is_lenient && !call.is_aborted && !served.is_faulted() {
                let (received_bytes, written_bytes) = (received.len(), written.len());
                assert!(!call.is_lost, "{id:?} closed as reset though its server only sent FIN");
                assert!(
                    peer.saw_eof() && received_bytes == written_bytes,
                    "{received_bytes} of {written_bytes} bytes of {id:?} arrived"
                );
            }
        }
    }
}

impl ServerConnection {
    /// Whether it met an injected error, or the FIN was lost.
    fn is_faulted(&self) -> bool {
        self.peer.was_hit_by_fault() || self.peer.missed_eof()
    }

    fn step(&mut self, simulation: &Simulation) {
        let unread = self.peer.read();
        if self.at == Target::Resets.address() {
            if simulation.random_below(2) == 0 {
                self.peer.send(SERVER_RESPONSE);
            }
            self.peer.reset();
            self.has_ended = true;
            return;
        }
        if self.at == PROXY_TARGET {
            self.peer.send(&unread);
        }
        if self.peer.saw_eof() && !self.peer.saw_reset() {
            if self.at != PROXY_TARGET {
                self.peer.send(SERVER_RESPONSE);
            }
            self.peer.shutdown_write();
            self.has_ended = true;
        }
    }
}
