//! The file that a recording or its page replaces.
//!
//! It is checked at the start, and written whole.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use halloo::observe::{self, Finding, Recording};

use crate::cli::flags::values::is_page;
use crate::exit::{ExitError, ExitStatus, cause_and_hint, describe_io_error};
use crate::page;
use crate::text::escape;

/// The file of `--record` or `--html`.
#[derive(Clone, Debug)]
pub(crate) struct RecordingFile(PathBuf);

impl RecordingFile {
    /// Checks that a file can be written to this path, without a change to it. `contents` is what errors name, and
    /// `assignment` the flag or the variable that gave the path, with a word for it.
    pub(crate) fn check(path: &Path, contents: &str, assignment: &str) -> Result<Self, ExitError> {
        let cannot_write = |cause: &str| {
            ExitError::new(ExitStatus::Unavailable, format!("cannot write {contents} to {}: {cause}", display(path)))
        };
        let choose_another = format!("choose another file with {assignment}");
        // The file behind a link is replaced, not the link.
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if target.is_dir() || path.as_os_str().as_bytes().ends_with(b"/") {
            return Err(cannot_write(&format!("it is a folder; name a file in it with {assignment}")));
        }
        if target.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo()) {
            return Err(cannot_write(&format!("it is a pipe, which blocks without a reader; {choose_another}")));
        }
        // A device is not replaced, and its errors appear when it is opened.
        if target.exists() && !target.is_file() {
            return Ok(Self(path.to_owned()));
        }
        // The writing of a recording creates one, too.
        let Err(error) = create_beside(&target).and_then(|(beside, _)| fs::remove_file(beside)) else {
            return Ok(Self(path.to_owned()));
        };
        let folder = escape::path(folder_of(&target).as_os_str().as_bytes());
        let cause = describe_io_error(&error);
        Err(cannot_write(&match error.kind() {
            io::ErrorKind::NotFound => format!("{cause}: there is no folder {folder}; create it, or {choose_another}"),
            io::ErrorKind::NotADirectory => format!("{cause}: {folder} is not a folder; {choose_another}"),
            io::ErrorKind::PermissionDenied => format!(
                "{cause}: this user may not create a file in {folder}; {choose_another}, or allow this user \
                         to write there"
            ),
            _ => cause_and_hint(&error, &choose_another),
        }))
    }

    /// Replaces the file by this recording: by its page if the name of the file ends in `.html` or `.htm`.
    pub(crate) fn write(&self, recording: &Recording) -> Result<(), ExitError> {
        if is_page(&self.0) {
            let name = self.0.file_name().unwrap_or_default();
            return self.write_page(recording, &observe::findings(recording), &escape::path(name.as_bytes()));
        }
        recording.save(&self.0).map_err(|error| self.error("the recording", &error))
    }

    /// Replaces the file by the page of this recording.
    pub(crate) fn write_page(&self, recording: &Recording, findings: &[Finding], title: &str) -> Result<(), ExitError> {
        let written = recording.save_with(&self.0, |file| page::write(recording, findings, title, file));
        written.map_err(|error| self.error("the page", &error))
    }

    fn error(&self, contents: &str, error: &io::Error) -> ExitError {
        let (text, prefix) = (error.to_string(), format!("cannot write {}: ", self.0.display()));
        let cause = text.strip_prefix(&prefix).unwrap_or(&text);
        let (phrase, hint) = cause.split_once("; ").unwrap_or((cause, "try again, or name another file"));
        let cause = describe_io_error(&io::Error::other(phrase));
        ExitError::new(ExitStatus::RuntimeError, format!("cannot write {contents} to {self}: {cause}; {hint}"))
    }
}

impl std::fmt::Display for RecordingFile {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&display(&self.0))
    }
}

fn display(path: &Path) -> String {
    escape::path(path.as_os_str().as_bytes())
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Creates an empty file in the folder of this one, with a name of its own. A killed process leaves it; in a container,
/// the next one has the same process id.
pub(crate) fn create_beside(path: &Path) -> io::Result<(PathBuf, File)> {
    let name = format!(".halloo-{}-{:016x}.part", std::process::id(), fastrand::u64(..));
    let beside = folder_of(path).join(name);
    let file = OpenOptions::new().write(true).create_new(true).open(&beside)?;
    Ok((beside, file))
}
