//! The station of listeners: accepts clients, within limits, whatever accept returns.
//!
//! A listener that may have clients waiting is on the roster's ready list until accept has said `WouldBlock`, or until
//! something holds it up: its handler is full, or it pauses after an error. It promises that clients in the backlog
//! never need another client's knock to be served, and that no error ends or spins the loop.

use std::net::SocketAddr;

use crate::address::{Endpoint, Peer};
use crate::context::Context;
use crate::event_loop::backoff::{Backoff, Reaction, Seldom};
use crate::event_loop::connections::Connections;
use crate::event_loop::ready_queue::{Roster, Round};
use crate::ids::{Place, Stub, slot_of};
use crate::limits;
use crate::net::Network;
use crate::net::io_error_class::Trouble;
use crate::options::listen::WhenFull;

/// All listeners, by the slot of their entry in the tables.
pub(crate) struct Listeners<N: Network> {
    stations: Vec<Option<Station<N::Listener>>>,
    pub(crate) roster: Roster,
}

struct Station<L> {
    listener: L,
    serial: u64,
    at: Endpoint,
    backoff: Backoff,
    /// Clients that may still be accepted once a drain has begun; `None` before.
    last_call: Option<u32>,
    /// About clients that wait, and about those that are refused.
    held: Seldom,
    refused: Seldom,
}

impl<L> Station<L> {
    /// Counts a client that was refused, for want of room in all or for its source, and says so now and then.
    fn refused(&mut self, tables: &mut Context, peer: Option<SocketAddr>, is_full: bool) {
        let stats = &mut tables.stats;
        let (count, whose) =
            if is_full { (&mut stats.refused_full, "in all") } else { (&mut stats.refused_source, "of its source") };
        *count += 1;
        if self.refused.may_say(tables.now) {
            log::info!(
                "{}: refused, the most connections {whose} are open; so far {count} were refused so",
                Peer::from(peer)
            );
        }
    }
}

impl<N: Network> Listeners<N> {
    pub(crate) fn new() -> Self {
        Self { stations: Vec::new(), roster: Roster::default() }
    }

    pub(crate) fn add(&mut self, place: Place, listener: N::Listener, at: Endpoint) {
        let slot = place.slot as usize;
        if self.stations.len() <= slot {
            self.stations.resize_with(slot + 1, || None);
        }
        let station = Station {
            listener,
            serial: place.serial,
            at,
            backoff: Backoff::new(),
            last_call: None,
            held: Seldom::default(),
            refused: Seldom::default(),
        };
        self.stations[slot] = Some(station);
        self.roster.add(place.slot);
    }

    /// Closes a listener; the kernel resets who is left in its backlog.
    pub(crate) fn remove(&mut self, network: &mut N, tables: &mut Context, slot: u32) {
        if let Some(station) = self.stations[slot as usize].take() {
            network.close_listener(station.listener);
            self.roster.remove(slot);
            tables.origins[slot as usize].listening = false;
            tables.forget_origin(slot);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.stations.iter().all(Option::is_none)
    }

    /// Takes note of an event, unless the listener it was for is gone.
    pub(crate) fn on_event(&mut self, stub: Stub) {
        if let Some(Some(station)) = self.stations.get(stub.slot as usize)
            && stub.is_of(station.serial)
        {
            self.roster.edge(stub.slot);
        }
    }

    /// Gives every ready listener its budget of accepts.
    pub(crate) fn serve(&mut self, network: &mut N, tables: &mut Context, connections: &mut Connections<'_, N>) {
        for _ in 0..self.roster.ready() {
            let Some(slot) = self.roster.front() else {
                return;
            };
            let round = self.accept(network, tables, connections, slot);
            self.roster.conclude(round, tables.now);
            if round == Round::Emptied {
                self.emptied(network, tables, slot);
            }
        }
    }

    fn accept(
        &mut self,
        network: &mut N,
        tables: &mut Context,
        connections: &mut Connections<'_, N>,
        slot: u32,
    ) -> Round {
        let Some(station) = &mut self.stations[slot as usize] else {
            return Round::Emptied;
        };
        for _ in 0..limits::ACCEPTS_PER_TURN_MAX {
            let is_full = tables.is_full(slot);
            if is_full && tables.origins[slot as usize].when_full == WhenFull::Pause {
                if station.held.may_say(tables.now) {
                    let most = tables.origins[slot as usize].connections_max;
                    log::info!("{}: {most} connections are open, the most allowed: further clients wait", station.at);
                }
                return Round::Held;
            }
            if station.last_call == Some(0) {
                return Round::Emptied;
            }
            match network.accept(&station.listener) {
                Ok((stream, peer)) => {
                    station.backoff.succeeded();
                    station.last_call = station.last_call.map(|left| left - 1);
                    if !is_full && tables.admit(slot, peer.map(|peer| peer.ip())) {
                        connections.open(network, tables, stream, peer, slot);
                        continue;
                    }
                    network.close(stream);
                    station.refused(tables, peer, is_full);
                }
                Err(error) => {
                    let trouble = Trouble::of(&error);
                    // planted: first-accept-error-ends-accepting
                    if trouble == Trouble::Empty {
                        return Round::Emptied;
                    }
                    tables.stats.accept_errors += 1;
                    if let Reaction::Pause { after, say } = station.backoff.failed(trouble, tables.now) {
                        if say {
                            log::warn!("{}: cannot accept, clients wait in the backlog: {error}", station.at);
                        }
                        tables.stats.pauses += 1;
                        return Round::Paused(after);
                    }
                }
            }
        }
        Round::Spent
    }

    /// Nobody waits: trouble is over, and so is a listener's last call.
    fn emptied(&mut self, network: &mut N, tables: &mut Context, slot: u32) {
        let Some(station) = &mut self.stations[slot as usize] else {
            return;
        };
        if let Some(relief) = station.backoff.emptied(tables.now) {
            let (at, failures, lasted) = (&station.at, relief.failures, relief.lasted);
            log::info!("{at}: accepts again, after {failures} failed tries in {lasted:.1?}");
        }
        if station.last_call.is_some() {
            self.remove(network, tables, slot);
        }
    }

    /// Has every listener accept what is in its backlog, and then close.
    pub(crate) fn begin_drain(&mut self) {
        for (slot, station) in self.stations.iter_mut().enumerate() {
            if let Some(station) = station {
                station.last_call = Some(limits::DRAIN_BACKLOG_MAX);
                self.roster.make_ready(slot_of(slot));
            }
        }
    }

    /// Closes every listener at once.
    pub(crate) fn close_all(&mut self, network: &mut N, tables: &mut Context) {
        for slot in 0..self.stations.len() {
            self.remove(network, tables, slot_of(slot));
        }
    }

    #[cfg(test)]
    pub(crate) fn each(&self) -> impl Iterator<Item = (u32, &N::Listener)> {
        let each = self.stations.iter().enumerate();
        each.filter_map(|(slot, station)| Some((slot_of(slot), &station.as_ref()?.listener)))
    }
}
