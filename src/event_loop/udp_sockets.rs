//! The station of UDP sockets: receives datagrams, calls their handler, sends what is staged.
//!
//! A socket that may have datagrams waiting is on the roster's ready list until a receive has said `WouldBlock`, or that
//! an edge will tell of the next, or until it pauses after errors in a row. It promises that one datagram's trouble,
//! coming or going, costs no other datagram, and that nothing is queued beyond the turn: what the kernel will not take is
//! lost and counted.

use std::io;
use std::net::SocketAddr;

use crate::context::Context;
use crate::context::datagram::Datagram;
use crate::context::handler::DatagramHandler;
use crate::event_loop::backoff::{Backoff, Reaction, Seldom};
use crate::event_loop::callbacks::guarded;
use crate::event_loop::ready_queue::{Roster, Round};
use crate::ids::{Place, Stub, slot_of};
use crate::limits;
use crate::net::Network;
use crate::net::io_error_class::Trouble;
use crate::net::recv_batch::Batch;

/// All UDP sockets, by the slot of their entry in the tables.
pub(crate) struct Datagrams<'h, N: Network> {
    stations: Vec<Option<Station<'h, N::Datagrams>>>,
    pub(crate) roster: Roster,
    /// What has come in by the socket at the front of the roster. Between turns it holds something only if a handler
    /// has unwound.
    batch: Batch,
}

struct Station<'h, S> {
    socket: S,
    place: Place,
    address: SocketAddr,
    handler: Box<dyn DatagramHandler + 'h>,
    backoff: Backoff,
    lost_said: Seldom,
    /// Datagrams that a drain still waits for; `None` before it has begun.
    awaited: Option<u32>,
}

impl<'h, N: Network> Datagrams<'h, N> {
    pub(crate) fn new() -> Self {
        Self { stations: Vec::new(), roster: Roster::default(), batch: Batch::default() }
    }

    pub(crate) fn add(
        &mut self,
        place: Place,
        socket: N::Datagrams,
        address: SocketAddr,
        handler: Box<dyn DatagramHandler + 'h>,
    ) {
        let slot = place.slot as usize;
        if self.stations.len() <= slot {
            self.stations.resize_with(slot + 1, || None);
        }
        self.stations[slot] = Some(Station {
            socket,
            place,
            address,
            handler,
            backoff: Backoff::new(),
            lost_said: Seldom::default(),
            awaited: None,
        });
        self.roster.add(place.slot);
    }

    pub(crate) fn remove(&mut self, network: &mut N, tables: &mut Context, slot: u32) {
        if let Some(station) = self.stations[slot as usize].take() {
            if self.roster.front() == Some(slot) {
                self.batch.clear();
            }
            network.close_socket(station.socket);
            self.roster.remove(slot);
            tables.sockets.remove(slot as usize);
        }
    }

    /// Whether a drain has nothing to wait for here.
    pub(crate) fn is_drained(&self) -> bool {
        self.stations.iter().flatten().all(|station| station.awaited == Some(0))
    }

    /// Takes note of an event, unless the socket it was for is gone.
    pub(crate) fn on_event(&mut self, stub: Stub) {
        if let Some(Some(station)) = self.stations.get(stub.slot as usize)
            && stub.is_of(station.place.serial)
        {
            self.roster.edge(stub.slot);
        }
    }

    /// Gives every ready socket its budget of datagrams.
    pub(crate) fn serve(&mut self, network: &mut N, tables: &mut Context) {
        for _ in 0..self.roster.ready() {
            let Some(slot) = self.roster.front() else {
                return;
            };
            let round = self.receive(network, tables, slot);
            self.roster.conclude(round, tables.now);
            if round == Round::Emptied {
                self.emptied(tables, slot);
            }
        }
    }

    fn receive(&mut self, network: &mut N, tables: &mut Context, slot: u32) -> Round {
        let mut budget = limits::DATAGRAMS_PER_TURN_MAX;
        // planted: undelivered-datagrams-lost-on-panic
        let mut may_have_more = true;
        loop {
            let Some(station) = &mut self.stations[slot as usize] else {
                return Round::Emptied;
            };
            budget = budget.saturating_sub(station.hand_on(&mut self.batch, network, tables));
            if tables.staged.is_heavy() {
                self.transmit(network, tables);
            }
            let Some(station) = &mut self.stations[slot as usize] else {
                return Round::Emptied;
            };
            // A drain is over when there is nothing more: it waits for no edge.
            if !may_have_more && station.awaited.is_none() {
                return Round::Emptied;
            }
            if budget == 0 {
                return Round::Spent;
            }
            match network.receive(&mut station.socket, &mut self.batch, budget as usize) {
                Ok(more) => {
                    // planted: full-batch-is-the-last
                    may_have_more = more;
                    station.backoff.succeeded();
                }
                Err(error) => {
                    if let Some(round) = station.on_receive_error(tables, &error) {
                        return round;
                    }
                }
            }
        }
    }

    /// The kernel has no more: trouble is over, and a drain need not wait.
    fn emptied(&mut self, tables: &mut Context, slot: u32) {
        let Some(station) = &mut self.stations[slot as usize] else {
            return;
        };
        if let Some(relief) = station.backoff.emptied(tables.now) {
            let (address, failures, lasted) = (station.address, relief.failures, relief.lasted);
            log::info!("{address}: receives again, after {failures} failed tries in {lasted:.1?}");
        }
        station.awaited = station.awaited.map(|_| 0);
    }

    /// Sends what callbacks have staged, each socket's letters together.
    pub(crate) fn transmit(&mut self, network: &mut N, tables: &mut Context) {
        let Context { staged, stats, now, .. } = tables;
        staged.group();
        for letters in staged.letters.chunk_by(|one, next| one.socket == next.socket) {
            let Some(Some(station)) = self.stations.get_mut(letters[0].socket as usize) else {
                stats.datagrams_dropped += letters.len() as u64;
                continue;
            };
            let Station { socket, address, lost_said, .. } = station;
            network.transmit(socket, letters, staged, |letter, sent| match sent {
                Ok(()) => stats.datagrams_sent += 1,
                Err(error) => {
                    stats.datagrams_dropped += 1;
                    if lost_said.may_say(*now) {
                        log::warn!("{address}: lost a datagram to {}: {error}", letter.to);
                    }
                }
            });
        }
        staged.clear();
    }

    /// Has every socket read what the kernel holds. They go on being served until the loop ends.
    pub(crate) fn begin_drain(&mut self) {
        for (slot, station) in self.stations.iter_mut().enumerate() {
            if let Some(station) = station {
                station.awaited = Some(limits::DRAIN_BACKLOG_MAX);
                self.roster.make_ready(slot_of(slot));
            }
        }
    }

    /// Closes every socket.
    pub(crate) fn close_all(&mut self, network: &mut N, tables: &mut Context) {
        for slot in 0..self.stations.len() {
            self.remove(network, tables, slot_of(slot));
        }
    }

    #[cfg(test)]
    pub(crate) fn each(&self) -> impl Iterator<Item = (u32, &N::Datagrams)> {
        let each = self.stations.iter().enumerate();
        each.filter_map(|(slot, station)| Some((slot_of(slot), &station.as_ref()?.socket)))
    }
}

impl<S> Station<'_, S> {
    /// Hands on what has been received, and says how many datagrams that were.
    fn hand_on<N: Network>(&mut self, batch: &mut Batch, network: &mut N, tables: &mut Context) -> u32 {
        let mut count = 0;
        while let Some((envelope, payload)) = batch.next() {
            count += 1;
            self.awaited = self.awaited.map(|left| left.saturating_sub(1));
            tables.stats.datagrams_received += 1;
            tables.stats.datagrams_truncated += u64::from(envelope.truncated);
            let is_own = is_own(network, tables, envelope.peer, envelope.asked.unwrap_or(self.address.ip()));
            let (socket, handler) = (self.place, &mut self.handler);
            let called = guarded(tables, |context| {
                handler.on_datagram(&mut Datagram { context, socket, envelope, is_own }, payload);
            });
            if called.is_none() {
                log::error!("{}: a handler has panicked over a datagram from {}", self.address, envelope.peer);
            }
        }
        count
    }

    /// Says how the round ends, or `None` to go on with the next datagram.
    fn on_receive_error(&mut self, tables: &mut Context, error: &io::Error) -> Option<Round> {
        if Trouble::of(error) == Trouble::Empty {
            return Some(Round::Emptied);
        }
        tables.stats.receive_errors += 1;
        // Even of exhaustion: the datagram it concerned is gone, and the next may do.
        match self.backoff.failed(Trouble::Passing, tables.now) {
            Reaction::Retry => None,
            Reaction::Pause { after, say } => {
                if say {
                    log::warn!("{}: cannot receive, datagrams wait: {error}", self.address);
                }
                tables.stats.pauses += 1;
                Some(Round::Paused(after))
            }
        }
    }
}

/// Whether a datagram comes from a socket of this loop, or says so: answering it would make us talk to ourselves.
fn is_own<N: Network>(network: &mut N, tables: &Context, peer: SocketAddr, asked: std::net::IpAddr) -> bool {
    tables.sockets.iter().filter(|(_, socket)| socket.local.port() == peer.port()).any(|(_, socket)| {
        let bound = socket.local.ip();
        bound == peer.ip() || (bound.is_unspecified() && (peer.ip() == asked || network.is_local(peer.ip())))
    })
}
