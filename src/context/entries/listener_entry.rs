//! The entry of one listener: listen, look-up, close.
//!
//! Outbound connections share an entry without a socket. An entry exists until its last connection is gone.

use std::path::PathBuf;

use crate::address::{Address, PackedAddress};
use crate::context::Context;
use crate::context::entries::source::Source;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{Key, ListenerId, SlotKey, Token, to_slot};
use crate::limits;
use crate::net::Listener;
use crate::net::backoff::LogThrottle;
use crate::net::descriptor_reserve::DescriptorReserve;
use crate::observe::entry::EntryKind;
use crate::options::connection_limits::ConnectionLimits;
use crate::options::listen::{Listen, WhenFull};
use crate::state::memory::{is_mostly_free, shrink_map};
use crate::state::source_address_limits::SourcePrefix;

/// One listener, and the common data of its accepted connections.
pub(crate) struct ListenerEntry {
    pub(crate) handler: u32,
    /// `None` after the close, and for outbound connections.
    pub(crate) socket: Option<Listener>,
    /// The bound address or path.
    pub(crate) address: Address,
    pub(crate) is_outbound: bool,
    /// Outbound with inherited streams: other descriptors of them may be open.
    pub(crate) is_inherited: bool,
    pub(crate) limits: ConnectionLimits,
    pub(crate) connections_max: usize,
    pub(crate) connections_per_source_max: Option<u32>,
    pub(crate) peer_addr_from_handler: bool,
    pub(crate) when_full: WhenFull,
    pub(crate) connections: u32,
    pub(crate) source: Source,
    pub(crate) reserve: DescriptorReserve,
    /// For the log line about waiting clients.
    pub(crate) full_log: LogThrottle,
}

impl ListenerEntry {
    pub(crate) fn outbound(handler: u32, limits: ConnectionLimits) -> Self {
        Self {
            handler,
            socket: None,
            address: Address::Unix(PathBuf::new()),
            is_outbound: true,
            is_inherited: false,
            limits,
            connections_max: usize::MAX,
            connections_per_source_max: None,
            peer_addr_from_handler: false,
            when_full: WhenFull::Pause,
            connections: 0,
            source: Source::default(),
            reserve: DescriptorReserve::default(),
            full_log: LogThrottle::default(),
        }
    }
}

impl Context {
    /// Returns an open listener.
    pub(crate) fn listener(&self, key: Key) -> Option<&ListenerEntry> {
        let entry = self.listeners.get(key.slot as usize)?;
        (entry.source.generation == key.generation && entry.socket.is_some()).then_some(entry)
    }

    /// Opens a listener for a handler.
    pub(crate) fn open_listener(&mut self, at: &Listen, handler: u32) -> Result<ListenerId> {
        at.validate(self.handlers[handler as usize].input_bytes_min)?;
        self.check_not_stopped(Some(&at.address))?;
        let key = Key { generation: self.next_generation(), slot: to_slot(self.listeners.vacant_key()) };
        let (socket, local, reserve) = self
            .network
            .listen(at, Token::new(SlotKey::Listener(key.slot), key.generation))
            .and_then(|(socket, local)| {
                let reserve = DescriptorReserve::new(at.descriptor_reserve, &socket);
                Ok((socket, local, reserve?))
            })
            .map_err(|error| Error::from_io(ErrorKind::Listen, Some(at.address.clone()), error))?;
        let descriptor = socket.descriptor() as u64;
        let slot = self.insert_listener(ListenerEntry {
            socket: Some(socket),
            address: local.map_or_else(|| at.address.clone(), Address::from),
            is_outbound: false,
            connections_max: at.connections_max.unwrap_or_else(|| (self.default_connections_max)()),
            connections_per_source_max: at.connections_per_source_max,
            peer_addr_from_handler: at.peer_addr_from_handler,
            when_full: at.when_full,
            source: self.new_source(key),
            reserve,
            ..ListenerEntry::outbound(handler, at.limits)
        });
        let address = || self.listeners[slot as usize].address.clone();
        let of_listener = SlotKey::Listener(slot);
        self.journal.note_address(EntryKind::Listening, of_listener, key.generation, [descriptor, 0], address);
        self.journal.note(EntryKind::Registered, of_listener, key.generation, [0; 2]);
        Ok(ListenerId(key))
    }

    /// Takes back what a reserve lacks, now or later: no event reports a free descriptor.
    pub(crate) fn refill_reserve(&mut self, slot: u32) {
        if let ListenerEntry { socket: Some(socket), reserve, .. } = &mut self.listeners[slot as usize]
            && reserve.refill(socket).is_err()
        {
            let at = self.deadline_after(limits::RESERVE_REFILL_INTERVAL);
            // planted: reserve-not-refilled
            self.deadlines.arm(SlotKey::Listener(slot), at);
        }
    }

    /// Adds an entry, which uses its handler while it exists.
    pub(crate) fn insert_listener(&mut self, entry: ListenerEntry) -> u32 {
        self.use_handler(entry.handler);
        to_slot(self.listeners.insert(entry))
    }

    /// Closes a listener; the kernel resets the clients in its backlog. Returns false if it is already closed.
    pub(crate) fn close_listener(&mut self, slot: u32) -> bool {
        let Some(socket) = self.listeners[slot as usize].socket.take() else {
            return false;
        };
        // Its duplicates would keep the address in use.
        self.listeners[slot as usize].reserve = DescriptorReserve::default();
        let (key, deregistered) = (SlotKey::Listener(slot), self.network.close_listener(socket));
        let generation = self.listeners[slot as usize].source.generation;
        self.journal.note_result(EntryKind::Deregistered, key, generation, [0; 2], &deregistered);
        self.journal.note(EntryKind::Closed, key, generation, [0; 2]);
        self.forget_source(key);
        self.remove_listener_if_unused(slot);
        true
    }

    /// Whether a listener's handler has its maximum of connections.
    pub(crate) fn is_full(&self, listener: u32) -> bool {
        let listener = &self.listeners[listener as usize];
        self.handlers[listener.handler as usize].clients >= listener.connections_max
    }

    /// Counts the connection in a slot for its source, instead of an earlier one. Returns false if the source has its
    /// maximum.
    pub(crate) fn try_count_source(&mut self, slot: u32, listener: u32, peer: PackedAddress) -> bool {
        let ListenerEntry { handler, connections_per_source_max, .. } = self.listeners[listener as usize];
        let (Some(connections_max), Some(peer)) = (connections_per_source_max, peer.socket_addr()) else {
            return true;
        };
        self.connection_counts.try_add(slot, handler, SourcePrefix::of(peer.ip()), connections_max)
    }

    /// The same for a client that is accepted next, unless its handler sets the address.
    #[cold]
    pub(crate) fn try_count_accepted(&mut self, listener: u32, peer: PackedAddress) -> bool {
        let slot = to_slot(self.connections.vacant_key());
        // planted: proxy-counted-as-a-source
        self.listeners[listener as usize].peer_addr_from_handler || self.try_count_source(slot, listener, peer)
    }

    /// Drops an entry that is closed and whose last connection is gone.
    #[inline]
    pub(crate) fn remove_listener_if_unused(&mut self, slot: u32) {
        let entry = &self.listeners[slot as usize];
        if entry.socket.is_none() && entry.connections == 0 {
            self.remove_listener(slot);
        }
    }

    /// Apart from the check, which is inlined: each close makes it.
    fn remove_listener(&mut self, slot: u32) {
        let ListenerEntry { handler, limits, is_outbound, is_inherited, .. } = self.listeners.remove(slot as usize);
        if is_outbound {
            self.outbound_entries.remove(&(handler, limits, is_inherited));
            // Many connects with limits of their own leave as many empty entries.
            shrink_map(&mut self.outbound_entries);
            let entries = self.listeners.len();
            // Seldom, because it may move all entries.
            if is_mostly_free(entries, self.listeners.capacity()) && entries.is_power_of_two() {
                self.listeners.shrink_to_fit();
            }
        }
        self.release_handler(handler);
    }
}
