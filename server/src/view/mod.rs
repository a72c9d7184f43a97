//! `halloo view`: prints the findings of a recording, and writes its page.

pub(crate) mod recording_parser;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use halloo::observe::{EntryKind, Recording};

use crate::cli::flags::view_options::ViewOptions;
use crate::cli::usage_error::usage_error;
use crate::exit::{ExitError, ExitStatus, cause_and_hint};
use crate::output::standard_stream;
use crate::page;
use crate::process::inherited_signals;
use crate::record::recording_file::RecordingFile;
use crate::text::escape;

/// The file name that means standard input, and for a page standard output.
const STANDARD_STREAM: &str = "-";

/// Writes the page of a recording, or prints its findings, one a line, or both. The last line has their number.
pub(crate) fn run(options: &ViewOptions) -> Result<ExitStatus, ExitError> {
    inherited_signals::end_process_on_signals();
    for warning in &options.warnings {
        // If standard error is closed, the exit status remains.
        let _ = standard_stream::stderr().write_line(format_args!("halloo: {warning}"));
    }
    let page_path = options.html.as_deref();
    let is_page_printed = page_path == Some(Path::new(STANDARD_STREAM));
    // Before the recording is read, which may take long.
    let page_file = page_path.filter(|_| !is_page_printed).map(|path| page_file(path, options)).transpose()?;
    let recording = read(options.file.as_os_str())?;
    let findings = halloo::observe::findings(&recording);
    let title = title_of(&options.file);
    if is_page_printed {
        let mut page = Vec::new();
        page::write(&recording, &findings, &title, &mut page).expect("memory has room");
        return standard_stream::print(&page);
    }
    if let Some(file) = &page_file {
        file.write_page(&recording, &findings, &title)?;
    }
    let mut lines: Vec<String> = Vec::new();
    if options.findings {
        lines.extend(findings.iter().map(|finding| escape::message(&finding.to_string(), LINE_BYTES_MAX)));
    }
    let page = page_file.map_or_else(String::new, |file| format!("page written to {file}: "));
    lines.push(page + &summary(findings.len(), &recording));
    standard_stream::print((lines.join("\n") + "\n").as_bytes())?;
    Ok(if findings.is_empty() || !options.findings { ExitStatus::Success } else { ExitStatus::Mismatch })
}

/// The file of the page. It must not replace the recording.
fn page_file(path: &Path, options: &ViewOptions) -> Result<RecordingFile, ExitError> {
    let recording = if options.file == Path::new(STANDARD_STREAM) { Path::new("/dev/stdin") } else { &options.file };
    let assignment = format!("{}OUT", options.given.assignment("html"));
    if let (Ok(page), Ok(recording)) = (fs::canonicalize(path), fs::canonicalize(recording))
        && page == recording
    {
        let name = escape::path(path.as_os_str().as_bytes());
        return Err(usage_error(&format!(
            "the page would replace the recording {name}; choose another file with {assignment}"
        )));
    }
    RecordingFile::check(path, "the page", &assignment)
}

/// The longest line of a finding, in bytes. It may contain the path of a socket.
const LINE_BYTES_MAX: usize = 4096;

fn read(file: &OsStr) -> Result<Recording, ExitError> {
    let cannot_read =
        |cause: String| ExitError::new(ExitStatus::Unavailable, format!("cannot read {}: {cause}", name_of(file)));
    let input: Box<dyn Read> = if file == STANDARD_STREAM {
        Box::new(io::stdin().lock())
    } else {
        let hint = "write the path of a file that halloo --record has written";
        Box::new(File::open(file).map_err(|error| cannot_read(cause_and_hint(&error, hint)))?)
    };
    recording_parser::parse(BufReader::new(input)).map_err(cannot_read)
}

/// The name of a recording, for people.
fn name_of(file: &OsStr) -> String {
    if file == STANDARD_STREAM { "standard input".to_owned() } else { escape::path(file.as_bytes()) }
}

/// The title of the page. A page is sent to other people, so it does not contain the folders of this machine.
fn title_of(file: &Path) -> String {
    name_of(file.file_name().unwrap_or(file.as_os_str()))
}

/// The last line.
fn summary(findings: usize, recording: &Recording) -> String {
    let entries = || recording.loops.iter().flat_map(|part| &part.entries);
    let lost: u64 = entries().filter(|entry| entry.kind == EntryKind::Lost).map(|entry| entry.numbers[0]).sum();
    let (entries, loops) = (entries().count(), recording.loops.len());
    format!("findings={findings} entries={entries} lost={lost} loops={loops}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_title_of_a_page_is_the_file_name_without_its_folders() {
        assert_eq!(title_of(Path::new("/home/user/customer/run.json")), "run.json");
        assert_eq!(title_of(Path::new("../run.json")), "run.json");
        assert_eq!(title_of(Path::new("run.json")), "run.json");
        assert_eq!(title_of(Path::new("-")), "standard input");
    }
}
