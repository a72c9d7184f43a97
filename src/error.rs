//! Errors of the library: what failed, at which address, and why.
//!
//! What a client does is never an [`Error`]; it is the [`CloseReason`](crate::CloseReason) of its connection.

use std::net::SocketAddr;
use std::{fmt, io};

use crate::address::Address;

/// The result of every fallible call of the library.
///
/// ```
/// fn serve() -> halloo::Result<()> {
///     let events = halloo::EventLoop::new()?;
///     drop(events);
///     Ok(())
/// }
/// # serve().unwrap();
/// ```
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the loop or of a call that sets it up.
///
/// Its text is one line with the step, the address and the cause, in the system's words. The
/// [`source()`](std::error::Error::source) is the cause alone.
///
/// ```
/// use halloo::{ErrorKind, EventLoop, stream};
///
/// let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let mut events = EventLoop::new()?;
/// let error = events.listen(taken.local_addr()?, stream(|_, input| input.len())).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Listen);
/// assert_eq!(error.address(), Some(taken.local_addr()?));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    address: Option<Address>,
    cause: Cause,
}

/// The step at which an [`Error`] happened.
///
/// ```
/// assert_eq!(halloo::ErrorKind::Listen.to_string(), "listen");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The loop could not be set up, or has ended.
    Setup,
    /// A TCP address or a unix path could not be listened on.
    Listen,
    /// A UDP address could not be bound.
    Bind,
    /// The poll failed, so the loop cannot go on.
    Poll,
    /// An option has an invalid value.
    InvalidOption,
    /// No object has the id: it was removed, or belongs to another loop.
    UnknownId,
    /// A descriptor could not be watched.
    Watch,
    /// A simulated loop did not become idle.
    Simulation,
}

#[derive(Debug)]
enum Cause {
    Io(io::Error),
    Message(&'static str),
}

impl Error {
    pub(crate) fn from_io(kind: ErrorKind, address: Option<Address>, cause: io::Error) -> Self {
        Self { kind, address, cause: Cause::Io(cause) }
    }

    pub(crate) fn with_message(kind: ErrorKind, address: Option<Address>, message: &'static str) -> Self {
        Self { kind, address, cause: Cause::Message(message) }
    }

    /// Returns the step that failed.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns the internet address of the error, if it has one. The path of a unix socket is in the text.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address.as_ref().and_then(Address::socket_addr)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.cause, &self.address) {
            (Cause::Message(message), Some(at)) => write!(f, "cannot use {at}: {message}"),
            (Cause::Message(message), None) => f.write_str(message),
            (Cause::Io(cause), Some(at)) => write!(f, "cannot {} at {at}: {cause}", self.kind),
            (Cause::Io(cause), None) => write!(f, "cannot {}: {cause}", self.kind),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            Cause::Io(error) => Some(error),
            Cause::Message(_) => None,
        }
    }
}

/// Keeps the [kind](io::Error::kind) of the cause, and the whole text.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error.cause {
            Cause::Io(cause) => cause.kind(),
            Cause::Message(_) if error.kind == ErrorKind::UnknownId => io::ErrorKind::NotFound,
            Cause::Message(_) => io::ErrorKind::InvalidInput,
        };
        Self::new(kind, error)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Setup => "set up the loop",
            Self::Listen => "listen",
            Self::Bind => "bind",
            Self::Poll => "poll",
            Self::InvalidOption => "use the option",
            Self::UnknownId => "find it",
            Self::Watch => "watch a descriptor",
            Self::Simulation => "run the simulation until it is idle",
        })
    }
}

/// The reason why [`Connection::send`](crate::Connection::send) queued nothing of a message.
///
/// ```
/// use halloo::{Connection, SendError};
///
/// fn announce(connection: &mut Connection<'_>, message: &[u8]) {
///     match connection.send(message) {
///         Ok(()) | Err(SendError::Closed) => {}
///         // on_flushed is called when the outbox is empty: a handler that must not lose messages sends this one then.
///         Err(SendError::Full) => println!("a slow client misses a message"),
///         Err(SendError::TooLong) => println!("raise outbox_bytes_max, or send the message in parts"),
///     }
/// }
/// # let _ = announce;
/// ```
///
/// As an [`io::Error`], [`Full`](Self::Full) is [`WouldBlock`](io::ErrorKind::WouldBlock), [`TooLong`](Self::TooLong)
/// is [`InvalidInput`](io::ErrorKind::InvalidInput), and [`Closed`](Self::Closed) is
/// [`BrokenPipe`](io::ErrorKind::BrokenPipe).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SendError {
    /// The outbox has no room for the message now. [`on_flushed`](crate::StreamHandler::on_flushed) is called when the
    /// outbox is empty.
    Full,
    /// The message is longer than `outbox_bytes_max`, so it never fits. The loop logs this at debug level.
    TooLong,
    /// The connection accepts no more output: it is closing, its sending side is shut down, or memory was refused.
    Closed,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "cannot send: the outbox has no room now; try again in on_flushed",
            Self::TooLong => "cannot send: the message is longer than the outbox; raise outbox_bytes_max or send parts",
            Self::Closed => "cannot send: the connection is closing or its sending side is shut down",
        })
    }
}

impl std::error::Error for SendError {}

impl From<SendError> for io::Error {
    fn from(error: SendError) -> Self {
        let kind = match error {
            SendError::Full => io::ErrorKind::WouldBlock,
            SendError::TooLong => io::ErrorKind::InvalidInput,
            SendError::Closed => io::ErrorKind::BrokenPipe,
        };
        Self::new(kind, error)
    }
}

/// The loop has ended, so a [`Handle`](crate::Handle) cannot reach it.
///
/// ```
/// let events = halloo::EventLoop::new()?;
/// let handle = events.handle();
/// drop(events);
/// assert_eq!(handle.stop(), Err(halloo::LoopStopped));
/// # Ok::<(), halloo::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LoopStopped;

impl fmt::Display for LoopStopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the event loop has stopped")
    }
}

impl std::error::Error for LoopStopped {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_io_error_keeps_the_kind_and_names_step_address_and_cause() {
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        let cause = io::Error::from(io::ErrorKind::PermissionDenied);
        let error = io::Error::from(Error::from_io(ErrorKind::Listen, Some(address.into()), cause));
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(error.to_string(), "cannot listen at 127.0.0.1:80: permission denied");
        let inner = error.get_ref().and_then(std::error::Error::source).expect("the cause is kept");
        assert_eq!(inner.to_string(), "permission denied");
    }
}
