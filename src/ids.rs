//! Ids of connections, listeners, sockets, timers and watches, and poll tokens.
//!
//! An id contains a generation that is unique in the process. An id of a closed object, or of another loop, refers to
//! nothing.

/// The id of a connection, unique for the life of the process.
///
/// ```
/// use halloo::{ConnectionId, EventLoop, stream};
///
/// let mut last: Option<ConnectionId> = None;
/// let mut events = EventLoop::new()?;
/// events.listen(std::net::SocketAddr::from(([127, 0, 0, 1], 0)), stream(|connection, input| {
///     last = Some(connection.id());
///     input.len()
/// }))?;
/// # Ok::<(), halloo::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ConnectionId {
    pub(crate) generation: u64,
    pub(crate) slot: u32,
}

impl ConnectionId {
    /// Returns a number that no other object of the process has. It is the `generation` of the connection in a
    /// [recording](crate::observe).
    ///
    /// ```
    /// // A log line that names the connection as recordings do.
    /// let echo = halloo::stream(|connection, input| {
    ///     eprintln!("connection {}: {} bytes", connection.id().number(), input.len());
    ///     connection.try_write(input)
    /// });
    /// # let _ = echo;
    /// ```
    #[must_use]
    pub const fn number(self) -> u64 {
        self.generation
    }
}

/// The id of a stream handler or datagram handler.
///
/// [`EventLoop::attach`](crate::EventLoop::attach),
/// [`EventLoop::attach_datagrams`](crate::EventLoop::attach_datagrams),
/// [`Connection::handler`](crate::Connection::handler) and [`Datagram::handler`](crate::Datagram::handler) return it;
/// [`on_start`](crate::StreamHandler::on_start) receives it.
///
/// ```
/// let mut events = halloo::EventLoop::new()?;
/// let echo: halloo::HandlerId = events.attach(halloo::stream(|connection, input| connection.try_write(input)));
/// # Ok::<(), halloo::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct HandlerId(pub(crate) Key);

/// The id of a listener.
///
/// ```
/// let mut events = halloo::EventLoop::new()?;
/// let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
/// let listener: halloo::ListenerId = events.listen(address, halloo::stream(|_, input| input.len()))?;
/// assert_ne!(events.local_addr(listener)?.port(), 0);
/// # Ok::<(), halloo::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ListenerId(pub(crate) Key);

/// The id of a UDP socket.
///
/// ```
/// let mut events = halloo::EventLoop::new()?;
/// let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
/// let socket: halloo::UdpSocketId = events.bind(address, halloo::datagrams(|_, _| {}))?;
/// assert_ne!(events.local_addr(socket)?.port(), 0);
/// # Ok::<(), halloo::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct UdpSocketId(pub(crate) Key);

/// The id of a timer.
///
/// ```
/// use std::time::Duration;
///
/// let mut events = halloo::EventLoop::new()?;
/// let timer: halloo::TimerId = events.every(Duration::from_secs(1), |_| Some(Duration::from_secs(1)));
/// assert!(events.context().remove(timer));
/// # Ok::<(), halloo::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct TimerId(pub(crate) Key);

/// The id of a watched descriptor.
///
/// ```
/// use halloo::{EventLoop, Interest, Watch, WatchId};
/// use std::os::unix::net::UnixStream;
///
/// let (source, _peer) = UnixStream::pair()?;
/// source.set_nonblocking(true)?;
/// let mut events = EventLoop::new()?;
/// let watch: WatchId = events.watch(source, Interest::Read, |_, _, _| Watch::Drained)?;
/// assert!(events.context().remove(watch));
/// # Ok::<(), std::io::Error>(())
/// ```
#[cfg(unix)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct WatchId(pub(crate) Key);

/// The id of anything that can be removed: a listener, UDP socket, timer, watched descriptor or handler.
///
/// ```
/// let mut events = halloo::EventLoop::new()?;
/// let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
/// let socket = events.bind(address, halloo::datagrams(|_, _| {}))?;
/// let source = halloo::SourceId::from(socket);
/// assert!(events.context().remove(source));
/// # Ok::<(), halloo::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SourceId(pub(crate) SourceKey);

/// The kind and the key of a removable object.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) enum SourceKey {
    Listener(Key),
    UdpSocket(Key),
    Timer(Key),
    Handler(Key),
    #[cfg(unix)]
    Watch(Key),
}

/// A slot, and the generation of the object in it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) struct Key {
    pub(crate) generation: u64,
    pub(crate) slot: u32,
}

/// Makes each id that of a source.
macro_rules! source_ids {
    ($($(#[$cfg:meta])? $id:ident = $source:ident,)*) => {$(
        $(#[$cfg])?
        impl From<$id> for SourceId {
            fn from(id: $id) -> Self {
                Self(SourceKey::$source(id.0))
            }
        }
    )*};
}

source_ids! {
    ListenerId = Listener,
    UdpSocketId = UdpSocket,
    TimerId = Timer,
    HandlerId = Handler,
    #[cfg(unix)]
    WatchId = Watch,
}

/// A slot of one of the loop's tables.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) enum SlotKey {
    Connection(u32),
    Listener(u32),
    UdpSocket(u32),
    Timer(u32),
    #[cfg(unix)]
    Watch(u32),
}

impl SlotKey {
    /// The number of the kind, and the slot.
    pub(crate) fn kind_and_slot(self) -> (u32, u32) {
        match self {
            Self::Connection(slot) => (0, slot),
            Self::Listener(slot) => (1, slot),
            Self::UdpSocket(slot) => (2, slot),
            Self::Timer(slot) => (3, slot),
            #[cfg(unix)]
            Self::Watch(slot) => (4, slot),
        }
    }

    /// Packs both into 32 bits, with the kind in the highest three.
    pub(crate) fn pack(self) -> u32 {
        let (kind, slot) = self.kind_and_slot();
        debug_assert!(slot < 1 << SLOT_BITS, "a slot has 29 bits");
        kind << SLOT_BITS | slot
    }

    pub(crate) fn unpack(packed: u32) -> Self {
        let slot = packed & ((1 << SLOT_BITS) - 1);
        match packed >> SLOT_BITS {
            0 => Self::Connection(slot),
            1 => Self::Listener(slot),
            2 => Self::UdpSocket(slot),
            #[cfg(unix)]
            4 => Self::Watch(slot),
            _ => Self::Timer(slot),
        }
    }
}

/// The 64 bits that the kernel returns with each event: kind, slot, and the low half of the generation.
///
/// Half a generation is enough: a stale event exists only during one batch, and no slot is reused 2^32 times in a
/// batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Token(pub(crate) u64);

/// A slab's key as the slot of an id.
#[expect(clippy::cast_possible_truncation, reason = "a process has fewer than 2^32 descriptors")]
pub(crate) fn to_slot(key: usize) -> u32 {
    key as u32
}

const SLOT_BITS: u32 = 29;

#[expect(clippy::cast_possible_truncation, reason = "a token is two halves of 32 bits")]
impl Token {
    /// The token of the waker. It is that of a timer, and timers are not registered with the poll.
    pub(crate) const WAKE: Self = Self(u64::MAX);

    pub(crate) fn new(key: SlotKey, generation: u64) -> Self {
        Self(u64::from(key.pack()) << 32 | generation & u64::from(u32::MAX))
    }

    pub(crate) fn key(self) -> SlotKey {
        SlotKey::unpack((self.0 >> 32) as u32)
    }

    /// Whether the event belongs to the object that now has this generation.
    pub(crate) fn matches(self, generation: u64) -> bool {
        // planted: no-generation-in-token
        self.0 as u32 == generation as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_token_encodes_kind_slot_and_generation(slot in 0u32..1 << SLOT_BITS, generation: u64, other: u64) {
            let kinds = [SlotKey::Connection, SlotKey::Listener, SlotKey::UdpSocket, SlotKey::Timer, SlotKey::Watch];
            for kind in kinds {
                let token = Token::new(kind(slot), generation);
                prop_assert_eq!(token.key(), kind(slot));
                prop_assert!(token.matches(generation));
                prop_assert_eq!(token.matches(other), (other ^ generation).trailing_zeros() >= 32);
            }
        }
    }

    #[test]
    fn the_waker_token_belongs_to_no_source() {
        assert!(matches!(Token::WAKE.key(), SlotKey::Timer(_)));
    }
}
