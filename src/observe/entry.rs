//! The entries of the journal: one per step of the loop.
//!
//! An entry is plain data of 40 bytes. It borrows nothing and names no type of the loop.

use std::fmt;
use std::io;
use std::num::NonZeroU16;
use std::time::Duration;

use crate::ids::SlotKey;

/// Makes an enum whose variants have a word each, from one list.
macro_rules! words {
    ($(#[$docs:meta])* $name:ident { $($(#[$variant_docs:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$docs])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$variant_docs])* $variant,)*
        }

        impl $name {
            /// All variants, in the order of their declaration.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Returns the word for it in recordings.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }

            /// Returns the variant with this word.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.as_str() == word)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

pub(crate) use words;

/// One step of a loop.
///
/// The meaning of the two numbers depends on [`EntryKind`]. Unused numbers are zero.
///
/// ```
/// use halloo::observe::{Entry, EntryKind, Object};
///
/// let entry = Entry::new(EntryKind::Read, Object::Connection, 3, 17).numbers([18, 65_536]);
/// assert_eq!(entry.errno(), None);
/// assert_eq!(size_of::<Entry>(), 40);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// What happened.
    pub kind: EntryKind,
    /// The kind of object that it happened to.
    pub object: Object,
    /// The error number of a failed system call.
    pub errno: Option<NonZeroU16>,
    /// The slot of the object. The loop reuses slots.
    pub slot: u32,
    /// The generation of the object, unique in the process; zero for the loop itself.
    pub generation: u64,
    /// Two numbers, described at [`EntryKind`].
    pub numbers: [u64; 2],
    /// Nanoseconds since the loop was created. The clock is read when a poll begins or ends, and when a callback ends.
    /// Entries between have the time of the last of these.
    pub nanoseconds: u64,
}

words! {
    /// What an [`Entry`] is about.
    ///
    /// The entry of a system call comes after the call. Its [`errno`](Entry::errno) is the error number of the call;
    /// EAGAIN means that the call would have blocked. Queries, such as getsockname(2), and the calls that open a socket
    /// have no entries, nor has the waker.
    EntryKind {
        /// A poll begins. Numbers: the most nanoseconds that it may wait, `u64::MAX` for no limit; 0.
        PollBegin = "poll-begin",
        /// A poll ended. Numbers: events; 1 if more may follow at once. Fails: `epoll_wait(2)`.
        PollEnd = "poll-end",
        /// A turn ended. Numbers: 1 if it handled something; 0.
        TurnEnd = "turn-end",
        /// Entries are missing here. Numbers: how many; 1 if all of them are of one turn, which goes on after this entry.
        Lost = "lost",
        /// The poll reported an object. Numbers: the sum of 1 for readable, 2 for writable, 4 for read-to-end (EOF or
        /// urgent data), 8 for an error and 16 for hang-up; the lower half of the generation in the event. The entry's own
        /// generation is that of the object in the slot.
        Readiness = "readiness",
        /// The poll reported an object that is gone; the event is ignored. Numbers as for `Readiness`. The entry's own
        /// generation is that of the object now in the slot, or 0.
        StaleEvent = "stale-event",
        /// An object exists since before this recording. Numbers: its descriptor; for a connection, the slot of its
        /// listener entry. Has a detail: its address.
        Existing = "existing",
        /// A listener was opened. Numbers: its descriptor; 0. Has a detail: its address.
        Listening = "listening",
        /// A UDP socket was bound. Numbers: its descriptor; 0. Has a detail: its address.
        Bound = "bound",
        /// A descriptor of the embedder is watched. Numbers: the descriptor; the sum of 1 for reading, 2 for writing.
        Watching = "watching",
        /// A listener accepted a client, or tried to. Numbers: the new descriptor; 1 if the call failed because no descriptor
        /// was free, and no client waited. Call: `accept4(2)`.
        Accept = "accept",
        /// A client that was accepted is refused. Numbers: 0 for the total limit, 1 for the limit per source; 0. Call:
        /// `close(2)`, of the descriptor in the last `Accept` of the listener.
        Refused = "refused",
        /// A listener has as many connections as it may. New clients wait in the backlog. Numbers: its connections; 0.
        Full = "full",
        /// A connection has its slot. Numbers: its descriptor, 0 for a connect that has not started; the slot of its
        /// listener entry. Has a detail: the peer's address.
        Opened = "opened",
        /// A connect was started, or failed at once. Numbers: the descriptor; 1 for a stream that was connected already.
        /// A connect in progress has no error number. Call: `connect(2)`, none for a stream that was connected already. A
        /// failure may also be that of a call before it, such as `socket(2)`.
        Connect = "connect",
        /// A connect has finished. The error number is that of the failure.
        Connected = "connected",
        /// The poll watches an object from now on. Call: `epoll_ctl(2)`, `EPOLL_CTL_ADD`.
        Registered = "registered",
        /// The poll watches an object no longer, before its close. Call: `epoll_ctl(2)`, `EPOLL_CTL_DEL`.
        Deregistered = "deregistered",
        /// A read of a connection. Numbers: bytes read, 0 for EOF; room for bytes. Call: `recvfrom(2)`.
        Read = "read",
        /// A write to a connection. Numbers: bytes that the kernel accepted; bytes offered. Call: `sendto(2)` or
        /// `sendmsg(2)`.
        Write = "write",
        /// Our side of a connection was shut down: the kernel sends a FIN after all output. Numbers: 0; 1 if the peer's
        /// side was shut down, too, before the close of a stream that was connected already. Call: `shutdown(2)`.
        ShutdownWrite = "shutdown-write",
        /// A socket option was set after the socket was opened. Numbers: the protocol level and the option. Call:
        /// `setsockopt(2)`. The memberships of multicast groups have no entries.
        OptionSet = "option-set",
        /// The kernel accepts no further input of a connection that [drains](crate::Connection::drain). Numbers: 1 on a
        /// unix socket; 0. Call: `setsockopt(2)` with `SO_ATTACH_FILTER`, on a unix socket `shutdown(2)` with `SHUT_RD`.
        InputStopped = "input-stopped",
        /// UDP datagrams were received in one call. Numbers: datagrams; the most that were asked for. Call:
        /// `recvmmsg(2)`, or `recvmsg(2)` for one datagram.
        ReceiveBatch = "receive-batch",
        /// A datagram was received. Numbers: its bytes; 1 if it was cut. Has a detail: the peer's address.
        DatagramIn = "datagram-in",
        /// UDP datagrams were sent in one call. Numbers: messages that the kernel accepted; messages offered. Call:
        /// `sendmmsg(2)`, or `sendto(2)` or `sendmsg(2)` for one message.
        SendBatch = "send-batch",
        /// A datagram was sent, or was lost with the error number. Numbers: its bytes; 0. Has a detail: the peer's address.
        DatagramOut = "datagram-out",
        /// A callback begins. Numbers: the index of its [`Callback`]; its input: bytes, datagrams, or the value of a timer
        /// or note.
        CallbackBegin = "callback-begin",
        /// A callback returned. Numbers: the index of its [`Callback`]; bytes consumed, `u64::MAX` if it panicked.
        CallbackEnd = "callback-end",
        /// A handler paused reading.
        Paused = "paused",
        /// A handler resumed reading.
        Resumed = "resumed",
        /// An object has work left and waits for the next turn, because its budget is spent.
        Deferred = "deferred",
        /// A connection is not read until the loop has memory for its input.
        AwaitsMemory = "awaits-memory",
        /// A deadline was set. Numbers: its time in nanoseconds since the loop was created; 0.
        DeadlineSet = "deadline-set",
        /// A deadline has passed, and takes effect. Numbers: its time in nanoseconds since the loop was created; 0.
        DeadlineFired = "deadline-fired",
        /// A message from another thread or from a handler is taken. Numbers: 0 for a job, 1 for a note; the value of the
        /// note.
        Message = "message",
        /// A listener or UDP socket pauses after an error. Numbers: nanoseconds of the pause; 0. The error number is that
        /// of the failed call.
        Backoff = "backoff",
        /// A listener or UDP socket works again. Numbers: failed tries; nanoseconds since the first.
        Recovered = "recovered",
        /// An object was closed. Numbers: for a connection, the index of its [`CloseReason`](crate::CloseReason) in
        /// [`CLOSE_REASONS`](super::CLOSE_REASONS), and 1 for a reset; else 0. Call: `close(2)`, whose error is ignored. A
        /// watched descriptor stays open, and a connection may have none.
        Closed = "closed",
        /// The slot of a connection is free.
        Freed = "freed",
        /// The loop ends in stages: it serves what has arrived, then closes. Numbers: nanoseconds until its end, at most; 0.
        Drain = "drain",
        /// A simulated peer connected. Has a detail: its address.
        PeerConnect = "peer-connect",
        /// A simulated peer sent bytes. Numbers: bytes; 0.
        PeerSend = "peer-send",
        /// A simulated peer received bytes. Numbers: bytes; 0.
        PeerReceive = "peer-receive",
        /// A simulated peer sent an urgent byte.
        PeerUrgent = "peer-urgent",
        /// A simulated peer sent a FIN.
        PeerFin = "peer-fin",
        /// A simulated peer sent an RST.
        PeerReset = "peer-reset",
        /// A simulated peer read EOF.
        PeerEof = "peer-eof",
        /// A simulated peer got an RST.
        PeerWasReset = "peer-was-reset",
        /// A simulated peer sent a datagram. Numbers: bytes; 0. Has a detail: its address.
        PeerDatagramOut = "peer-datagram-out",
        /// A datagram of the loop arrived at a simulated peer. Numbers: bytes; 0. Has a detail: the peer's address.
        PeerDatagramIn = "peer-datagram-in",
        /// A datagram of the loop was lost on the way to a simulated peer. Numbers: bytes; 0. Has a detail: the peer's
        /// address.
        PeerDatagramLost = "peer-datagram-lost",
    }
}

words! {
    /// The kind of object that an [`Entry`] is about.
    Object {
        /// The loop itself.
        Loop = "loop",
        /// A connection, accepted or outbound.
        Connection = "connection",
        /// A listener.
        Listener = "listener",
        /// A UDP socket.
        UdpSocket = "udp-socket",
        /// A timer.
        Timer = "timer",
        /// A watched descriptor.
        Watch = "watch",
        /// A handler.
        Handler = "handler",
        /// A simulated peer.
        Peer = "peer",
    }
}

words! {
    /// A callback of an embedder.
    Callback {
        /// `on_start` of a handler.
        Start = "on_start",
        /// [`StreamHandler::on_open`](crate::StreamHandler::on_open)
        Open = "on_open",
        /// [`StreamHandler::on_data`](crate::StreamHandler::on_data)
        Data = "on_data",
        /// [`StreamHandler::on_eof`](crate::StreamHandler::on_eof)
        Eof = "on_eof",
        /// [`StreamHandler::on_flushed`](crate::StreamHandler::on_flushed)
        Flushed = "on_flushed",
        /// [`StreamHandler::on_timeout`](crate::StreamHandler::on_timeout)
        Timeout = "on_timeout",
        /// `on_drain` of a handler.
        Drain = "on_drain",
        /// [`StreamHandler::on_notify`](crate::StreamHandler::on_notify)
        Notify = "on_notify",
        /// [`StreamHandler::on_close`](crate::StreamHandler::on_close)
        Close = "on_close",
        /// [`StreamHandler::on_connect_failed`](crate::StreamHandler::on_connect_failed)
        ConnectFailed = "on_connect_failed",
        /// `on_timer` of a handler, or the closure of a timer.
        Timer = "on_timer",
        /// The closure of a watched descriptor.
        Watch = "on_watch",
        /// A job of [`Handle::post`](crate::Handle::post).
        Job = "job",
        /// [`DatagramHandler::on_datagram`](crate::DatagramHandler::on_datagram), once for each datagram of a batch
        Datagram = "on_datagram",
    }
}

words! {
    /// How much a loop notes.
    Level {
        /// Nothing.
        Off = "off",
        /// The begin and end of polls and turns. The turn statistics in [`Stats`](crate::Stats) are kept.
        Turns = "turns",
        /// Everything.
        All = "all",
    }
}

impl EntryKind {
    /// The lowest level at which it is noted.
    #[must_use]
    pub fn level(self) -> Level {
        match self {
            Self::PollBegin | Self::PollEnd | Self::TurnEnd | Self::Lost => Level::Turns,
            _ => Level::All,
        }
    }

    /// Whether the address in the detail of such an entry is that of its object.
    #[must_use]
    pub fn names_object(self) -> bool {
        matches!(
            self,
            Self::Existing | Self::Opened | Self::Listening | Self::Bound | Self::PeerConnect | Self::PeerDatagramOut
        )
    }
}

impl Callback {
    /// Returns the callback with this index in [`ALL`](Self::ALL).
    #[must_use]
    pub fn from_index(index: u64) -> Option<Self> {
        Self::ALL.get(usize::try_from(index).ok()?).copied()
    }
}

impl Entry {
    /// Creates an entry at time zero, without numbers and error.
    #[must_use]
    pub fn new(kind: EntryKind, object: Object, slot: u32, generation: u64) -> Self {
        Self { kind, object, errno: None, slot, generation, numbers: [0; 2], nanoseconds: 0 }
    }

    /// Sets the two numbers.
    #[must_use]
    pub fn numbers(mut self, numbers: [u64; 2]) -> Self {
        self.numbers = numbers;
        self
    }

    /// Sets the time.
    #[must_use]
    pub fn at(mut self, time: Duration) -> Self {
        self.nanoseconds = nanoseconds(time);
        self
    }

    /// Sets the error number, from a failed system call.
    #[must_use]
    pub fn error(mut self, error: &io::Error) -> Self {
        self.errno = to_errno(raw_errno(error));
        self
    }

    /// Returns the error number of a failed system call.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        self.errno.map(|errno| errno.get().into())
    }

    /// Returns the object in whose lane a viewer shows the entry: its kind, slot and generation.
    ///
    /// Polls, turns, handlers and stale events are in the lane of the loop, as is an object without a generation. The end of
    /// a callback that removed its own object belongs to the lane of its begin.
    #[must_use]
    pub fn lane(&self) -> (Object, u32, u64) {
        let is_of_loop = match self.object {
            _ if matches!(self.kind, EntryKind::PollBegin | EntryKind::PollEnd | EntryKind::TurnEnd) => true,
            // The object now in the slot has nothing to do with a stale event.
            _ if self.kind == EntryKind::StaleEvent => true,
            Object::Loop | Object::Handler => true,
            object => object != Object::Peer && self.generation == 0,
        };
        if is_of_loop { (Object::Loop, 0, 0) } else { (self.object, self.slot, self.generation) }
    }

    /// Returns the time since the loop was created.
    #[must_use]
    pub fn time(&self) -> Duration {
        Duration::from_nanos(self.nanoseconds)
    }
}

impl From<SlotKey> for Object {
    fn from(key: SlotKey) -> Self {
        match key {
            SlotKey::Connection(_) => Self::Connection,
            SlotKey::Listener(_) => Self::Listener,
            SlotKey::UdpSocket(_) => Self::UdpSocket,
            SlotKey::Timer(_) => Self::Timer,
            #[cfg(unix)]
            SlotKey::Watch(_) => Self::Watch,
        }
    }
}

/// The error number in entries for an error that has none.
const UNKNOWN_ERRNO: u16 = u16::MAX;

/// The error number of a failed call, never 0.
#[inline]
pub(crate) fn raw_errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or_else(|| errno_of_kind(error.kind()))
}

/// A simulated network, and the loop itself, make some errors from a kind.
#[cfg(target_os = "linux")]
#[cold]
fn errno_of_kind(kind: io::ErrorKind) -> i32 {
    match kind {
        io::ErrorKind::WouldBlock => nix::errno::Errno::EAGAIN as i32,
        io::ErrorKind::Interrupted => nix::errno::Errno::EINTR as i32,
        io::ErrorKind::ConnectionReset => nix::errno::Errno::ECONNRESET as i32,
        io::ErrorKind::ConnectionRefused => nix::errno::Errno::ECONNREFUSED as i32,
        io::ErrorKind::TimedOut => nix::errno::Errno::ETIMEDOUT as i32,
        io::ErrorKind::OutOfMemory => nix::errno::Errno::ENOMEM as i32,
        _ => UNKNOWN_ERRNO.into(),
    }
}

#[cfg(not(target_os = "linux"))]
#[cold]
fn errno_of_kind(_kind: io::ErrorKind) -> i32 {
    UNKNOWN_ERRNO.into()
}

pub(crate) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The error number in an entry; `None` is 0, which is no error.
pub(crate) fn to_errno(raw: i32) -> Option<NonZeroU16> {
    NonZeroU16::new(u16::try_from(raw).unwrap_or(UNKNOWN_ERRNO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_of_one_variant() {
        for kind in EntryKind::ALL {
            assert_eq!(EntryKind::from_word(kind.as_str()), Some(*kind));
        }
        for callback in Callback::ALL {
            assert_eq!(Callback::from_word(callback.as_str()), Some(*callback));
            assert_eq!(Callback::from_index(*callback as u64), Some(*callback));
        }
        assert_eq!(EntryKind::from_word("polls"), None);
    }

    #[test]
    fn an_error_has_its_number_or_that_of_its_kind() {
        let entry = Entry::new(EntryKind::Read, Object::Connection, 0, 1);
        assert_eq!(entry.error(&io::Error::from_raw_os_error(104)).errno(), Some(104));
        assert_eq!(entry.error(&io::ErrorKind::WouldBlock.into()).errno(), Some(11));
        assert_eq!(entry.error(&io::Error::other("cause")).errno(), Some(65_535));
    }
}
