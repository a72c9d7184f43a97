//! The phases of a connection, its read and write state, its actions.

use crate::close_reason::CloseReason;

/// Where a connection is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// On its way to a peer that has not answered yet; perhaps closed by its handler already, which is for when it is
    /// open.
    Connecting(Option<CloseReason>),
    Open,
    /// Closed by its handler or a limit: what is written goes out, nothing is read.
    Flushing(CloseReason),
    /// Our end of stream is sent; late input is thrown away until the peer's end, or until this many bytes more.
    Lingering(CloseReason, u32),
    /// To be dropped as it is.
    Closing(CloseReason, CloseMode),
    /// The descriptor is closed; the slot is free at the end of the turn.
    Closed,
}

/// How a descriptor is closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CloseMode {
    /// As the kernel does it: what it has taken still goes out.
    Close,
    /// So that the peer sees a reset.
    Reset,
}

impl CloseMode {
    /// How a connection ends for which nobody has said more than the reason.
    pub(crate) fn of(reason: CloseReason) -> Self {
        match reason {
            CloseReason::Aborted
            | CloseReason::Drained
            | CloseReason::OutOfMemory
            | CloseReason::Panicked
            | CloseReason::WriteStalled => Self::Reset,
            CloseReason::Eof
            | CloseReason::Local
            | CloseReason::Reset
            | CloseReason::TimedOut
            | CloseReason::InputOverflow
            | CloseReason::Io(_) => Self::Close,
        }
    }
}

/// What is known about bytes to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ReadState {
    /// None: the poll will tell.
    WouldBlock,
    /// Some, or it is not known; a read that does not fill its buffer has emptied the queue.
    Readable,
    /// Some, and behind a short read there may be more or the end: an urgent mark, or the peer has shut down.
    ReadToEnd,
    /// The end of stream was read, and the handler does not know yet.
    Eof,
    /// The end of stream was read and told.
    EofDelivered,
}

/// What is known about room for bytes to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WriteState {
    Writable,
    /// The kernel said `WouldBlock`: the poll will tell.
    WouldBlock,
}

/// How far our side of the stream has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WriteHalf {
    Open,
    /// The handler has said that no more follows: once everything is sent, our end of stream is.
    ShutdownPending,
    Shutdown,
}

/// What the last read of this turn tells about the peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PeerActivity {
    /// It may well be sending more.
    Unknown,
    /// It sent one short message and nothing after it.
    Quiet,
}

/// Whether the handler is to hear that its output has gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FlushNotice {
    None,
    /// Once the outbox is empty.
    Due,
    /// It has heard in this turn.
    Delivered,
    /// It has heard in this turn and is owed another: the next turn's.
    DueNextTurn,
}

/// Which list of the loop the slot stands on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Queued {
    No,
    /// Touched by somebody else's callback: served at the end of this turn.
    Dirty,
    /// Left unfinished: served in the next turn.
    Deferred,
}

/// What to do next about a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    /// Nothing, until the poll, a deadline or somebody's callback changes the state.
    Wait,
    /// More, but not in this turn.
    Yield,
    /// Send what is in the outbox.
    Flush,
    /// Tell the handler that the loop drains.
    NotifyDrain,
    /// Everything written is sent, and reading goes on: end our side.
    ShutdownWrite,
    /// Tell the handler that its output has gone.
    NotifyFlushed,
    /// Show the handler what is in the inbox.
    Deliver,
    /// Read, and show what came.
    Read,
    /// Tell the handler of the end of stream.
    NotifyEof,
    /// Close: the handler left a full inbox untouched.
    CloseOverflow,
    /// Everything written is sent: end our side.
    Linger,
    /// Read and throw away.
    Discard,
    /// Close the descriptor.
    Close(CloseReason, CloseMode),
}

/// What has come due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Expiry {
    None,
    /// The handler's own timeout.
    HandlerTimeout,
    /// A limit ran out: the connection ends for this reason.
    ConnectionLimit(CloseReason),
}
