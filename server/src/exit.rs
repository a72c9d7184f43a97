//! The exit statuses of the process, and the error it ends with.
//!
//! An exit status has the same meaning in every command.

use std::error::Error;
use std::{fmt, io};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};

use crate::text::escape;

/// The exit statuses, with the numbers that the shell sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExitStatus {
    /// Stopped as asked, or every reply was right.
    Success = 0,
    /// An error while running.
    RuntimeError = 1,
    /// The command line is wrong.
    UsageError = 2,
    /// An address could not be bound, a file not be used, or a probe could not reach the server.
    Unavailable = 3,
    /// No reply in time, or idle before the last greeting was sent.
    TimedOut = 4,
    /// A wrong reply, or a closed or reset connection before a right one; findings in a recording; a failed case.
    Mismatch = 5,
}

/// The hint for an error without a known cause.
pub(crate) const TRY_AGAIN: &str = "try again; the system log may name the cause";

/// The system's message for an error, in lower case and without the error number.
pub(crate) fn describe_io_error(error: &io::Error) -> String {
    let text = error.to_string();
    let message = text.split(" (os error").next().unwrap_or(&text);
    // The resolver's message starts with what failed, which the caller has already named.
    let message = message.strip_prefix("failed to lookup address information: ").unwrap_or(message);
    escape::text(message.to_lowercase().as_bytes())
}

/// The system's message for an error, and a hint: the one given, unless the error has its own.
pub(crate) fn cause_and_hint(error: &io::Error, hint: &str) -> String {
    let cause = describe_io_error(error);
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EMFILE) => {
            let limit = descriptor_limit().map_or_else(String::new, |limit| format!(", the limit is {limit}"));
            format!("{cause}{limit}; raise the limit with ulimit -n")
        }
        Some(Errno::ENFILE) => format!("{cause}; raise the system's limit, on Linux with sysctl fs.file-max"),
        Some(Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG) => format!("{cause}; make room, or write elsewhere"),
        // Of all calls, only the start of a thread fails with it: a limit on processes (pthread_create(3)).
        Some(Errno::EAGAIN) => format!("{cause}; raise the limit with ulimit -u, or TasksMax of the systemd unit"),
        _ => format!("{cause}; {hint}"),
    }
}

/// The soft limit on the descriptors of the process.
pub(crate) fn descriptor_limit() -> Option<usize> {
    // The system's number is signed on FreeBSD, and unsigned on Linux.
    getrlimit(Resource::RLIMIT_NOFILE).ok().and_then(|(soft, _)| usize::try_from(soft).ok())
}

/// The cause of a library error: the system's error, if there is one.
pub(crate) fn os_error(error: halloo::Error) -> io::Error {
    match error.source().and_then(|source| source.downcast_ref::<io::Error>()) {
        Some(cause) => match cause.raw_os_error() {
            Some(errno) => io::Error::from_raw_os_error(errno),
            None => io::Error::new(cause.kind(), cause.to_string()),
        },
        None => io::Error::from(error),
    }
}

/// Why the process ends with an error: the message for standard error, and the exit status.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ExitError {
    /// The exit status.
    pub(crate) status: ExitStatus,
    /// What failed, the cause and a hint; in lower case, without a full stop.
    pub(crate) message: String,
}

impl ExitError {
    /// An error for an action that failed with a system error.
    pub(crate) fn from_io(action: &str, error: &io::Error) -> Self {
        let cause = cause_and_hint(error, TRY_AGAIN);
        Self::new(ExitStatus::RuntimeError, format!("{action}: {cause}"))
    }

    /// An error with that status.
    pub(crate) fn new(status: ExitStatus, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }
}

/// The line on standard error.
impl fmt::Display for ExitError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "halloo: {}", self.message)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use nix::errno::Errno;

    use super::{ExitError, ExitStatus, describe_io_error};

    #[test]
    fn a_cause_is_only_the_systems_phrase_on_one_line() {
        let taken = io::Error::from_raw_os_error(Errno::EADDRINUSE as i32);
        assert_eq!(describe_io_error(&taken), "address already in use");
        let unknown = io::Error::other("failed to lookup address information: Name or service not known");
        assert_eq!(describe_io_error(&unknown), "name or service not known");
        assert_eq!(describe_io_error(&io::Error::other("a\nb\x1b[31m")), r"a\nb\x1b[31m");
    }

    #[test]
    fn a_system_error_is_reported_with_its_phrase_and_a_hint() {
        let error = ExitError::from_io("cannot begin", &io::Error::from_raw_os_error(24));
        if cfg!(target_os = "linux") {
            let expected = format!(
                "halloo: cannot begin: too many open files, the limit is {}; raise the limit with ulimit -n",
                super::descriptor_limit().unwrap()
            );
            assert_eq!(error.to_string(), expected);
            let error = ExitError::from_io("cannot begin", &io::Error::from_raw_os_error(23));
            assert!(error.message.contains("too many open files in system; ") && error.message.contains("fs.file-max"));
            let error = ExitError::from_io("cannot start worker 2", &io::Error::from_raw_os_error(11));
            let expected = "resource temporarily unavailable; raise the limit with ulimit -u, or TasksMax of";
            assert!(error.message.contains(expected), "{}", error.message);
        }
        assert_eq!(error.status, ExitStatus::RuntimeError);
    }
}
