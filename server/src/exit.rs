//! How the process ends: the exit statuses, and the one sentence that goes with a failure.
//!
//! Beside the flow: every room that can fail hands a [`Failure`] up to `main`, which prints it.
//! It promises that a status means the same everywhere; it never ends the process itself.

use std::{fmt, io};

use crate::text::escape;

/// What the exit status says to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// Stopped as asked, or every answer was right.
    Done,
    /// An error while running.
    RunTime,
    /// The command line is wrong.
    Usage,
    /// Could not bind; or nobody to be reached by a probe.
    Unreachable,
    /// No answer in time.
    TimedOut,
    /// An answer, and the wrong one.
    WrongAnswer,
}

impl Status {
    /// The number the shell sees.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::RunTime => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::TimedOut => 4,
            Self::WrongAnswer => 5,
        }
    }

    /// The worse of two answers: a wrong answer tells more than none, and a closed door more than silence.
    pub(crate) fn worse(self, other: Self) -> Self {
        if other.rank() > self.rank() { other } else { self }
    }

    const fn rank(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::TimedOut => 1,
            Self::Unreachable => 2,
            Self::WrongAnswer => 3,
            Self::RunTime => 4,
            Self::Usage => 5,
        }
    }
}

/// What the system says about an error, in plain words and without its number.
pub(crate) fn plain_words(error: &io::Error) -> String {
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or(&text);
    // The resolver's sentence says what everybody knows before it says what is wrong.
    let words = words.strip_prefix("failed to lookup address information: ").unwrap_or(words);
    escape::text(words.to_lowercase().as_bytes())
}

/// The way out of an error that is the machine's, where one is known.
pub(crate) fn way_out(words: &str) -> Option<&'static str> {
    words.starts_with("too many open files").then_some("raise the limit with ulimit -n")
}

/// Why halloo cannot do what was asked: one sentence, and the status to leave with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The exit status.
    pub(crate) status: Status,
    /// Names the thing and the way out; lower case, no full stop.
    pub(crate) sentence: String,
}

impl Failure {
    /// A failure of the machine's, at some step.
    pub(crate) fn of_system(step: &str, error: &io::Error) -> Self {
        let words = plain_words(error);
        let way_out = way_out(&words).unwrap_or("try again, and see what the system's log says");
        Self::new(Status::RunTime, format!("{step}: {words}; {way_out}"))
    }

    /// A failure of that kind.
    pub(crate) fn new(status: Status, sentence: impl Into<String>) -> Self {
        Self { status, sentence: sentence.into() }
    }
}

/// The line on standard error.
impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "halloo: {}", self.sentence)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{Failure, Status};

    #[test]
    fn a_failure_of_the_machine_is_told_in_plain_words_with_a_way_out() {
        let failure = Failure::of_system("cannot begin", &io::Error::from_raw_os_error(24));
        if cfg!(target_os = "linux") {
            let sentence = "halloo: cannot begin: too many open files; raise the limit with ulimit -n";
            assert_eq!(failure.to_string(), sentence);
        }
        assert_eq!(failure.status.code(), 1);
    }

    #[test]
    fn of_several_answers_the_worst_decides() {
        let worst = |answers: &[Status]| answers.iter().copied().fold(Status::Done, Status::worse).code();
        assert_eq!(worst(&[Status::Done, Status::Done]), 0);
        assert_eq!(worst(&[Status::Done, Status::TimedOut]), 4);
        assert_eq!(worst(&[Status::Unreachable, Status::TimedOut]), 3);
        assert_eq!(worst(&[Status::WrongAnswer, Status::Unreachable, Status::TimedOut]), 5);
    }
}
