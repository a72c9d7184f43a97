//! The phases of a connection, its read and write state, its actions.

use crate::close_reason::CloseReason;

/// The phase of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// A connect without an answer. If the handler has already closed, the reason applies once the connection is open.
    Connecting(Option<CloseReason>),
    Open,
    /// Closed by the handler or a limit: output is sent, and nothing is read.
    Flushing(CloseReason),
    /// Our FIN is sent. Late input is discarded until EOF, or up to this many more bytes.
    Lingering(CloseReason, u32),
    /// The descriptor is to be closed without further output.
    Closing(CloseReason, CloseMode),
    /// The descriptor is closed; the slot is freed at the end of the turn.
    Closed,
}

/// The way a descriptor is closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CloseMode {
    /// A normal close: the kernel still sends the output that it has accepted.
    Close,
    /// The peer sees an RST.
    Reset,
}

impl CloseMode {
    /// The default close mode of a reason.
    pub(crate) fn of(reason: CloseReason) -> Self {
        match reason {
            CloseReason::Aborted
            | CloseReason::Drained
            | CloseReason::OutOfMemory
            | CloseReason::Panicked
            | CloseReason::Rejected
            | CloseReason::WriteStalled => Self::Reset,
            CloseReason::Eof
            | CloseReason::Local
            | CloseReason::Reset
            | CloseReason::TimedOut
            | CloseReason::InputOverflow
            | CloseReason::InvalidInput
            | CloseReason::Io(_) => Self::Close,
        }
    }
}

/// Whether input waits in the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ReadState {
    /// No: an event will report input.
    WouldBlock,
    /// Yes, or unknown. A read that does not fill its buffer has emptied the queue.
    Readable,
    /// Yes, and more input or EOF may follow a short read: an urgent mark, or the peer's FIN.
    ReadToEnd,
    /// EOF was read, but not delivered to the handler.
    Eof,
    /// EOF was read and delivered.
    EofDelivered,
}

/// Whether the kernel has room for output.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WriteState {
    Writable,
    /// The kernel returned `WouldBlock`: an event will report room.
    WouldBlock,
}

/// The state of our side of the stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WriteHalf {
    Open,
    /// The handler writes no more: a FIN follows the last output.
    ShutdownPending,
    Shutdown,
}

/// Whether the peer may be sending, as the last read of this turn suggests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PeerActivity {
    /// It may be sending more.
    Unknown,
    /// It sent one short message, and nothing after it.
    Quiet,
}

/// Whether `on_flushed` is to be called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FlushNotice {
    None,
    /// When the outbox is empty.
    Due,
    /// It was called in this turn.
    Delivered,
    /// It was called in this turn, and is to be called again in the next.
    DueNextTurn,
}

/// How far the end of a connection in a drain is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DrainStep {
    None,
    /// `on_drain` is to be called.
    NoticeDue,
    /// `Connection::drain` was called: the kernel is to accept no further input.
    StopDue,
    /// The input that the kernel has accepted is delivered. Then the connection closes.
    Stopped(InputStop),
}

/// The way in which the kernel was made to accept no further input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum InputStop {
    /// None: the peer has sent EOF, or the system has no such way.
    None,
    /// A filter drops segments with data, so that the peer keeps them. It is removed after our FIN.
    Filter,
    /// The peer's writes fail. Reads return EOF, which the peer did not send.
    Shutdown,
}

/// The queue of the loop that contains the slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Queued {
    No,
    /// Changed by a callback of another connection, a timer or a job: served at the end of this turn.
    Dirty,
    /// Has work left: served in the next turn.
    Deferred,
}

/// The next action for a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    /// Nothing until an event, a deadline or a callback changes the state.
    Wait,
    /// Continue in the next turn.
    Yield,
    /// Send the outbox.
    Flush,
    /// Call `on_drain`.
    NotifyDrain,
    /// Make the kernel accept no further input.
    StopInput,
    /// All input is delivered, and all output is sent: close.
    EndDrain,
    /// All output is sent, and reading continues: send a FIN.
    ShutdownWrite,
    /// Call `on_flushed`.
    NotifyFlushed,
    /// Deliver the inbox to the handler.
    Deliver,
    /// Read, and deliver the bytes.
    Read,
    /// Call `on_eof`.
    NotifyEof,
    /// Close: the handler consumed nothing of a full inbox.
    CloseOverflow,
    /// All output is sent: send a FIN, and linger.
    Linger,
    /// Read and discard.
    Discard,
    /// Close the descriptor.
    Close(CloseReason, CloseMode),
}

/// The result of an expired deadline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Expiry {
    None,
    /// The handler's own timeout.
    HandlerTimeout,
    /// A limit expired: the connection ends for this reason.
    ConnectionLimit(CloseReason),
}
