//! The file of `--ready-file`: it exists while the server is ready.
//!
//! It is always whole, only the server that wrote a file removes it at the end, and no other file is replaced.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::cli::flags::serve_options::ServeOptions;
use crate::exit::{ExitError, ExitStatus, cause_and_hint};
use crate::record::recording_file::{RecordingFile, create_beside};
use crate::text::escape;

const CONTENTS: &str = "the READY line";

/// How the READY line begins: as text, and as JSON.
const BEGINNINGS: [&[u8]; 2] = [b"READY ", br#"{"event":"ready""#];

/// The file of `--ready-file`.
#[derive(Debug)]
pub(crate) struct ReadyFile {
    path: PathBuf,
    /// The flag or variable that gave the path, with a word for it.
    assignment: String,
    /// The file that was written. While it is open, no other file has its number.
    written: OnceLock<File>,
}

impl ReadyFile {
    /// The file of the command line, if there is one. An error if the file cannot be written.
    pub(crate) fn new(options: &ServeOptions) -> Result<Option<Self>, ExitError> {
        let Some(path) = options.output.ready_file.clone() else { return Ok(None) };
        let assignment = format!("{}FILE", options.given.assignment("ready_file"));
        let ready_file = Self { path, assignment, written: OnceLock::new() };
        ready_file.check()?;
        Ok(Some(ready_file))
    }

    /// Removes the file of an earlier server. All sockets are open: with the same addresses, that server has ended.
    pub(crate) fn remove_earlier(&self) -> Result<(), ExitError> {
        self.check_contents()?;
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.error(&error)),
            _ => Ok(()),
        }
    }

    /// Checks that this user can write the file.
    pub(crate) fn check(&self) -> Result<(), ExitError> {
        RecordingFile::check(&self.path, CONTENTS, &self.assignment)?;
        // Renaming replaces a link such as /dev/stdout, not the file behind it.
        match fs::symlink_metadata(&self.path) {
            Ok(file) if !file.is_file() => Err(self.error(&io::Error::other("it is a link or a device"))),
            _ => self.check_contents(),
        }
    }

    /// Returns an error if there is a file that no server has written.
    fn check_contents(&self) -> Result<(), ExitError> {
        match is_of_a_server(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.error(&error)),
            Ok(false) => {
                let cause = "it is not a file of an earlier server, which begins with READY";
                Err(self.error_of(&format!("{cause}; remove it, or choose another file with {}", self.assignment)))
            }
            _ => Ok(()),
        }
    }

    fn error(&self, error: &io::Error) -> ExitError {
        self.error_of(&cause_and_hint(error, &format!("choose another file with {}", self.assignment)))
    }

    fn error_of(&self, cause_and_hint: &str) -> ExitError {
        let path = escape::path(self.path.as_os_str().as_encoded_bytes());
        ExitError::new(ExitStatus::Unavailable, format!("cannot write {CONTENTS} to {path}: {cause_and_hint}"))
    }

    /// Writes the line beside the file, and renames it.
    pub(crate) fn write(&self, line: &[u8]) -> Result<(), ExitError> {
        self.check_contents()?;
        let (beside, mut file) = create_beside(&self.path).map_err(|error| self.error(&error))?;
        let written = file.write_all(line).and_then(|()| fs::rename(&beside, &self.path));
        written.map_err(|error| {
            let _ = fs::remove_file(&beside);
            self.error(&error)
        })?;
        let _ = self.written.set(file);
        Ok(())
    }

    /// Removes the file, unless a later server has replaced it, or it has other contents now.
    pub(crate) fn remove(&self) {
        let written = self.written.get().and_then(|file| file.metadata().ok());
        let found = fs::symlink_metadata(&self.path).ok();
        let is_own = written.as_ref().map(id_of) == found.as_ref().map(id_of);
        if written.is_some()
            && is_own
            && is_of_a_server(&self.path).unwrap_or(false)
            && let Err(error) = fs::remove_file(&self.path)
        {
            let cause = cause_and_hint(&error, "remove it by hand");
            log::warn!("cannot remove {}: {cause}", escape::path(self.path.as_os_str().as_encoded_bytes()));
        }
    }
}

/// Whether the file is empty, or begins as a READY line does.
fn is_of_a_server(path: &Path) -> io::Result<bool> {
    let mut beginning = Vec::new();
    File::open(path)?.take(BEGINNINGS[1].len() as u64).read_to_end(&mut beginning)?;
    Ok(beginning.is_empty() || BEGINNINGS.iter().any(|expected| beginning.starts_with(expected)))
}

/// The device and the number of a file, which identify it.
fn id_of(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}
