//! The words for where a connection stands and what comes next: each an enum, none a flag.

use crate::close_reason::CloseReason;

/// Where a connection is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// On its way to a peer that has not answered yet; perhaps closed by its handler already, which is for when it is
    /// open.
    Opening(Option<CloseReason>),
    Open,
    /// Closed by its handler or a limit: what is written goes out, nothing is read.
    Closing(CloseReason),
    /// Our end of stream is sent; late input is thrown away until the peer's end, or until this many bytes more.
    Lingering(CloseReason, u32),
    /// To be dropped as it is.
    Condemned(CloseReason, Ending),
    /// The descriptor is closed; the slot is free at the end of the turn.
    Gone,
}

/// How a descriptor is closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ending {
    /// As the kernel does it: what it has taken still goes out.
    Close,
    /// So that the peer sees a reset.
    Reset,
}

impl Ending {
    /// How a connection ends for which nobody has said more than the reason.
    pub(crate) fn of(reason: CloseReason) -> Self {
        match reason {
            CloseReason::Aborted | CloseReason::Drained | CloseReason::Panicked | CloseReason::WriteStalled => {
                Self::Reset
            }
            _ => Self::Close,
        }
    }
}

/// What is known about bytes to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Input {
    /// None: the poll will tell.
    Waiting,
    /// Some, or it is not known; a read that does not fill its buffer has emptied the queue.
    Ready,
    /// Some, and behind a short read there may be more or the end: an urgent mark, or the peer has shut down.
    Deep,
    /// The end of stream was read, and the handler does not know yet.
    Ended,
    /// The end of stream was read and told.
    Told,
}

/// What is known about room for bytes to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Output {
    Ready,
    /// The kernel said `WouldBlock`: the poll will tell.
    Blocked,
}

/// Whether the handler should be shown what is in the inbox.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rest {
    /// It has been, and nothing has changed since.
    Seen,
    Fresh,
}

/// How far our side of the stream has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sending {
    Open,
    /// The handler has said that no more follows: once everything is sent, our end of stream is.
    Finishing,
    Finished,
}

/// What the last read of this turn tells about the peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tail {
    /// It may well be sending more.
    Unknown,
    /// It sent one short message and nothing after it.
    Quiet,
}

/// Whether the handler is to hear that its output has gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Notice {
    None,
    /// Once the outbox is empty.
    Owed,
    /// It has heard in this turn.
    Told,
    /// It has heard in this turn and is owed another: the next turn's.
    OwedAgain,
}

/// Which list of the loop the slot stands on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Queued {
    No,
    /// Touched by somebody else's callback: served at the end of this turn.
    Marked,
    /// Left unfinished: served in the next turn.
    Deferred,
}

/// What to do next about a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Nothing, until the poll, a deadline or somebody's callback changes the state.
    Wait,
    /// More, but not in this turn.
    Later,
    /// Send what is in the outbox.
    Flush,
    /// Tell the handler that the loop drains.
    Drain,
    /// Everything written is sent, and reading goes on: end our side.
    Finish,
    /// Tell the handler that its output has gone.
    Flushed,
    /// Show the handler what is in the inbox.
    Show,
    /// Read, and show what came.
    Read,
    /// Tell the handler of the end of stream.
    End,
    /// Close: the handler left a full inbox untouched.
    Overflow,
    /// Everything written is sent: end our side.
    Shut,
    /// Read and throw away.
    Discard,
    /// Close the descriptor.
    Drop(CloseReason, Ending),
}

/// What has come due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Due {
    Nothing,
    /// The handler's own timeout.
    Timer,
    /// A limit ran out: the connection ends for this reason.
    End(CloseReason),
}
