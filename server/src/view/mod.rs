//! `halloo view`: reads a recording and prints its findings.

mod recording_parser;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;

use halloo::observe::{EntryKind, Recording};

use crate::cli::flags::ViewOptions;
use crate::exit::{ExitError, ExitStatus, cause_and_hint};
use crate::output::standard_stream;
use crate::page;
use crate::process::inherited_signals;
use crate::text::escape;

/// The file name that means standard input.
const STDIN: &str = "-";

/// Prints the findings of a recording, one a line, and their number.
pub(crate) fn run(options: &ViewOptions) -> Result<ExitStatus, ExitError> {
    inherited_signals::end_process_on_signals();
    for warning in &options.warnings {
        // If standard error is closed, the exit status remains.
        let _ = standard_stream::stderr().write_line(format_args!("halloo: {warning}"));
    }
    let recording = read(options.file.as_os_str())?;
    let findings = halloo::observe::findings(&recording);
    if let Some(path) = &options.html {
        let title = escape::path(options.file.as_os_str().as_bytes());
        let written = File::create(path).and_then(|mut file| page::write(&recording, &findings, &title, &mut file));
        written.map_err(|error| ExitError::from_io("cannot write the page", &error))?;
    }
    let mut text = String::new();
    for finding in &findings {
        text += &escape::message(&finding.to_string(), LINE_BYTES_MAX);
        text.push('\n');
    }
    text += &summary(findings.len(), &recording);
    match standard_stream::stdout().write_all(text.as_bytes()) {
        // A reader that has closed the pipe, such as head, has read enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            return Err(ExitError::from_io("cannot write to standard output", &error));
        }
        _ => {}
    }
    Ok(if findings.is_empty() { ExitStatus::Success } else { ExitStatus::Mismatch })
}

/// The longest line of a finding, in bytes. It may contain the path of a socket.
const LINE_BYTES_MAX: usize = 4096;

fn read(file: &OsStr) -> Result<Recording, ExitError> {
    let name = if file == STDIN { "standard input".to_owned() } else { escape::path(file.as_bytes()) };
    let cannot_read = |cause: String| ExitError::new(ExitStatus::Unavailable, format!("cannot read {name}: {cause}"));
    let input: Box<dyn Read> = if file == STDIN {
        Box::new(io::stdin().lock())
    } else {
        let hint = "write the path of a file that halloo --record has written";
        Box::new(File::open(file).map_err(|error| cannot_read(cause_and_hint(&error, hint)))?)
    };
    recording_parser::parse(BufReader::new(input)).map_err(cannot_read)
}

/// The last line.
fn summary(findings: usize, recording: &Recording) -> String {
    let entries = || recording.loops.iter().flat_map(|part| &part.entries);
    let lost: u64 = entries().filter(|entry| entry.kind == EntryKind::Lost).map(|entry| entry.numbers[0]).sum();
    let (entries, loops) = (entries().count(), recording.loops.len());
    format!("findings={findings} entries={entries} lost={lost} loops={loops}\n")
}
