//! Standard output of the tour: wrapped text, verdicts in colour.
//!
//! A text line has at most 80 columns. Without a terminal, or with `NO_COLOR`, there are no escape codes.

use std::io;

use crate::cli::parse;
use crate::exit::{ExitError, ExitStatus};
use crate::output::standard_stream;
use crate::text::escape;
use crate::tour::case::Outcome;

/// The widest line of text.
pub(crate) const COLUMNS_MAX: usize = 80;

/// The longest text from a server or of an error, in bytes.
const TEXT_BYTES_MAX: usize = 2048;

const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const PLAIN: &str = "\x1b[0m";

/// Standard output. After an error it prints nothing more.
pub(crate) struct Screen {
    has_styles: bool,
    error: Option<io::Error>,
}

impl Screen {
    pub(crate) fn new() -> Self {
        Self { has_styles: parse::stdout_has_styles(), error: None }
    }

    /// Whether everything was printed so far.
    pub(crate) fn is_open(&self) -> bool {
        self.error.is_none()
    }

    /// Prints text as it is.
    pub(crate) fn print(&mut self, text: &str) {
        if self.is_open() {
            self.error = io::Write::write_all(&mut standard_stream::stdout(), text.as_bytes()).err();
        }
    }

    /// Prints a line, which fits.
    pub(crate) fn line(&mut self, text: &str) {
        self.print(&format!("{text}\n"));
    }

    /// Prints text behind a label, wrapped. The further lines begin below the text.
    pub(crate) fn paragraph(&mut self, label: &str, text: &str) {
        self.print(&wrap(label, &plain(text)));
    }

    /// The word of a verdict for people: green or red on a terminal.
    pub(crate) fn verdict(&self, outcome: Outcome) -> String {
        let (word, colour) = match outcome {
            Outcome::Pass => ("pass", GREEN),
            Outcome::Fail => ("FAIL", RED),
            Outcome::CannotBeJudged => return "cannot be judged".to_owned(),
        };
        if self.has_styles { format!("{colour}{word}{PLAIN}") } else { word.to_owned() }
    }

    /// The end of the program. A reader that has closed the pipe, such as head, has read enough.
    pub(crate) fn finish(self, status: ExitStatus) -> Result<ExitStatus, ExitError> {
        match self.error.filter(|error| error.kind() != io::ErrorKind::BrokenPipe) {
            Some(error) => Err(ExitError::from_io("cannot write to standard output", &error)),
            None => Ok(status),
        }
    }
}

/// Text on one printable line, without the error numbers of the system.
pub(crate) fn plain(text: &str) -> String {
    let mut parts = text.split(" (os error ");
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        whole.push_str(part.split_once(')').map_or("", |(_, rest)| rest));
    }
    escape::message(&whole, TEXT_BYTES_MAX)
}

/// Breaks text between words into lines. The first begins with the label, the others below the text.
pub(crate) fn wrap(label: &str, text: &str) -> String {
    let indent = label.chars().count();
    let (mut lines, mut columns, mut is_empty) = (label.to_owned(), indent, true);
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let length = word.chars().count();
        if !is_empty && columns + 1 + length > COLUMNS_MAX {
            lines.push('\n');
            lines.push_str(&" ".repeat(indent));
            (columns, is_empty) = (indent, true);
        }
        if !is_empty {
            lines.push(' ');
            columns += 1;
        }
        lines.push_str(word);
        (columns, is_empty) = (columns + length, false);
    }
    lines.truncate(lines.trim_end().len());
    lines + "\n"
}

#[cfg(test)]
mod tests {
    use super::{plain, wrap};

    #[test]
    fn a_long_text_is_broken_between_words_below_its_beginning() {
        let text = "word ".repeat(40);
        let lines = wrap("  came  ", &text);
        assert!(lines.lines().count() == 3 && lines.lines().all(|line| line.len() <= 80), "{lines}");
        assert!(
            lines.starts_with("  came  word") && lines.lines().nth(1).unwrap().starts_with("        word"),
            "{lines}"
        );
        assert_eq!(wrap("a ", ""), "a\n");
        assert_eq!(wrap("", &"x".repeat(100)).lines().count(), 1);
    }

    #[test]
    fn the_systems_error_number_is_left_out_and_control_characters_are_escaped() {
        assert_eq!(plain("reset: Connection refused (os error 111), twice"), "reset: Connection refused, twice");
        assert_eq!(plain("a\x1b[31m\nb"), r"a\x1b[31m\nb");
    }
}
