//! The exit statuses of the process, and the error it ends with.
//!
//! An exit status has the same meaning in every command.

use std::{fmt, io};

use crate::text::escape;

/// What the exit status says to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExitStatus {
    /// Stopped as asked, or every answer was right.
    Success,
    /// An error while running.
    RuntimeError,
    /// The command line is wrong.
    UsageError,
    /// An address could not be bound, or a probe could not reach the server.
    Unavailable,
    /// No answer in time.
    TimedOut,
    /// An answer, and the wrong one.
    Mismatch,
}

impl ExitStatus {
    /// The number the shell sees.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::RuntimeError => 1,
            Self::UsageError => 2,
            Self::Unavailable => 3,
            Self::TimedOut => 4,
            Self::Mismatch => 5,
        }
    }

    /// The more severe of two statuses: a wrong answer before a refused connection, and that before a timeout.
    pub(crate) fn most_severe(self, other: Self) -> Self {
        if other.severity() > self.severity() { other } else { self }
    }

    const fn severity(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::TimedOut => 1,
            Self::Unavailable => 2,
            Self::Mismatch => 3,
            Self::RuntimeError => 4,
            Self::UsageError => 5,
        }
    }
}

/// The system's message for an error, in lower case and without the error number.
pub(crate) fn describe_io_error(error: &io::Error) -> String {
    let text = error.to_string();
    let message = text.split(" (os error").next().unwrap_or(&text);
    // The resolver's message starts with what failed, which the caller has already named.
    let message = message.strip_prefix("failed to lookup address information: ").unwrap_or(message);
    escape::text(message.to_lowercase().as_bytes())
}

/// What to do about a system error, where it is known.
pub(crate) fn hint(message: &str) -> Option<&'static str> {
    message.starts_with("too many open files").then_some("raise the limit with ulimit -n")
}

/// Why the process ends with an error: the message for standard error, and the exit status.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ExitError {
    /// The exit status.
    pub(crate) status: ExitStatus,
    /// What failed, the cause and a hint; lower case, no full stop.
    pub(crate) message: String,
}

impl ExitError {
    /// A system error that made an action fail.
    pub(crate) fn from_io(action: &str, error: &io::Error) -> Self {
        let cause = describe_io_error(error);
        let hint = hint(&cause).unwrap_or("try again, and see what the system's log says");
        Self::new(ExitStatus::RuntimeError, format!("{action}: {cause}; {hint}"))
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

    use super::{ExitError, ExitStatus};

    #[test]
    fn a_failure_of_the_machine_is_told_in_plain_words_with_a_way_out() {
        let error = ExitError::from_io("cannot begin", &io::Error::from_raw_os_error(24));
        if cfg!(target_os = "linux") {
            let expected = "halloo: cannot begin: too many open files; raise the limit with ulimit -n";
            assert_eq!(error.to_string(), expected);
        }
        assert_eq!(error.status.code(), 1);
    }

    #[test]
    fn of_several_answers_the_worst_decides() {
        let worst = |statuses: &[ExitStatus]| {
            statuses.iter().copied().fold(ExitStatus::Success, ExitStatus::most_severe).code()
        };
        assert_eq!(worst(&[ExitStatus::Success, ExitStatus::Success]), 0);
        assert_eq!(worst(&[ExitStatus::Success, ExitStatus::TimedOut]), 4);
        assert_eq!(worst(&[ExitStatus::Unavailable, ExitStatus::TimedOut]), 3);
        assert_eq!(worst(&[ExitStatus::Mismatch, ExitStatus::Unavailable, ExitStatus::TimedOut]), 5);
    }
}
