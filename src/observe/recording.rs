//! Recordings of what loops have noted, in memory and in files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::observe::chrome_trace;
use crate::observe::entry::Entry;
use crate::observe::journal::Detail;
use crate::observe::recorder::Recorder;

/// What the loops of a program noted, from one moment to another.
///
/// Its file is Chrome trace JSON, described at [`write_to`](Self::write_to).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Recording {
    /// One part for each loop.
    pub loops: Vec<LoopRecording>,
}

/// What one loop noted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct LoopRecording {
    /// The name of the loop, for people.
    pub name: String,
    /// The time from the start of the earliest loop to the start of this one, which is time zero of its entries.
    pub started_after: Duration,
    /// The entries, in the order in which things happened.
    pub entries: Vec<Entry>,
    /// Details of entries, by their index in [`entries`](Self::entries), in ascending order.
    pub details: Vec<(usize, Detail)>,
    /// The bytes that [`Detail::Payload`] refers to.
    pub payload: Vec<u8>,
}

impl LoopRecording {
    pub(super) fn entries_with_details(&self) -> impl DoubleEndedIterator<Item = (&Entry, &[(usize, Detail)])> {
        self.entries.iter().enumerate().map(|(index, entry)| {
            let first = self.details.partition_point(|(of, _)| *of < index);
            let end = self.details.partition_point(|(of, _)| *of <= index);
            (entry, &self.details[first..end])
        })
    }
}

impl Recording {
    /// Makes the recording of all loops of a program from their recorders.
    #[must_use]
    pub fn new(recorders: impl IntoIterator<Item = Recorder>) -> Self {
        let recorders: Vec<Recorder> = recorders.into_iter().collect();
        let earliest = recorders.iter().filter_map(|recorder| recorder.started).min();
        let loops = recorders.into_iter().map(|recorder| {
            let started_after = recorder.started.zip(earliest).map(|(started, earliest)| started - earliest);
            LoopRecording { started_after: started_after.unwrap_or_default(), ..recorder.into_recording() }
        });
        Self { loops: loops.collect() }
    }

    /// Writes the recording to a file, which [`write_to`](Self::write_to) describes.
    ///
    /// It writes a new file in the same folder, and renames it, so that no reader sees a part of it. An error leaves the
    /// file as it was. A file with [payload](Detail::Payload) can be read by its owner only. What is no regular file, a
    /// pipe for example, is written directly.
    ///
    /// # Errors
    /// The error of the failed system call, with the name of the file and a hint: `cannot write FILE: cause; hint`.
    pub fn save(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.save_with(path, |mut file| self.write_to(&mut file))
    }

    /// Writes a file in a format of your own, as [`save`](Self::save) does: `write` gets the new file.
    ///
    /// ```
    /// use halloo::observe::Recording;
    /// use std::io::Write;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("run.txt");
    /// let recording = Recording::default();
    /// recording.save_with(&path, |file| {
    ///     recording.loops.iter().try_for_each(|part| writeln!(file, "{}: {}", part.name, part.entries.len()))
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`save`](Self::save), and the errors of `write`.
    pub fn save_with(
        &self,
        path: impl AsRef<Path>,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let path = path.as_ref();
        self.replace(path, write).map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::NotFound => "; create its folder first",
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    "; choose a folder in which this user may create files"
                }
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; free space, or choose another disk",
                io::ErrorKind::IsADirectory => "; choose the name of a file",
                io::ErrorKind::InvalidFilename => "; choose another name",
                _ => "",
            };
            io::Error::new(error.kind(), format!("cannot write {}: {error}{hint}", path.display()))
        })
    }

    fn replace(&self, path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        let write_whole = |file: File| {
            let mut file = BufWriter::new(file);
            write(&mut file)?;
            file.into_inner().map_err(io::IntoInnerError::into_error)
        };
        // A link stays, and its target is replaced.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if fs::metadata(&path).is_ok_and(|metadata| !metadata.is_file()) {
            return write_whole(OpenOptions::new().write(true).open(&path)?).map(drop);
        }
        let (file, beside) = self.create_beside(&path)?;
        // Without the sync the file may be empty after a power failure.
        let written = write_whole(file).and_then(|file| file.sync_all());
        // An error of the removal would hide the cause.
        written.and_then(|()| fs::rename(&beside, &path)).inspect_err(|_| drop(fs::remove_file(&beside)))
    }

    /// Creates a new file in the same folder.
    fn create_beside(&self, path: &Path) -> io::Result<(File, PathBuf)> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        if self.loops.iter().any(|part| !part.payload.is_empty()) {
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        }
        let mut number = 0;
        loop {
            let beside = path.with_file_name(format!(".halloo-{}-{number}.part", std::process::id()));
            match options.open(&beside) {
                // Another thread writes a recording, or a process with the same id was killed while it did.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                file => return Ok((file?, beside)),
            }
        }
    }

    /// Writes the recording as Chrome trace JSON, which <https://ui.perfetto.dev> opens.
    ///
    /// Each line of the file is one event. An event with `args.kind` is an [`Entry`] with all its fields: `kind`,
    /// `object`, `slot`, `generation`, `errno` with its name in `error`, and `time_ns`. The two numbers have the names
    /// of [`EntryKind::number_names`](super::EntryKind::number_names). Details are in `address`, `path` and `payload`.
    /// The other events are for the eye: names of lanes, and work between two polls.
    ///
    /// - The first line has `"format":"halloo recording"`, the version of the format, and for each loop its name, its
    ///   process ids (`pid` for its own entries, `peers` for those of simulated peers) and `started_after_ns`.
    /// - `ts` is in microseconds since the earliest loop was created, and never decreases within a loop.
    /// - A field that is zero may be missing. `"none"` is `u64::MAX`; numbers above 2⁵³ − 1 are strings, because JSON
    ///   readers may round them (RFC 7493).
    /// - `path` and `payload` have one character for each byte, from U+0000 to U+00FF. The file is ASCII without `<`
    ///   inside of strings, so it can be put into an HTML page.
    ///
    /// # Errors
    /// Returns the errors of the writer.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        let mut out = BufWriter::new(out);
        chrome_trace::write(self, &mut out)?;
        out.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::observe::entry::{EntryKind, Object};
    use crate::observe::journal::TurnEntries;

    /// A recorder with one read of these bytes, by a loop that was created at `started`.
    fn recorded(name: &str, started: Instant, bytes: &[u8]) -> Recorder {
        let entries = [Entry::new(EntryKind::Read, Object::Connection, 0, 1)];
        let len = u32::try_from(bytes.len()).expect("short");
        let details: &[_] = if bytes.is_empty() { &[] } else { &[(0, Detail::Payload { start: 0, len })] };
        let mut recorder = Recorder::new(name, 0);
        recorder.record(&TurnEntries { entries: &entries, details, payload: bytes, started });
        recorder
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder");
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn the_time_of_each_loop_counts_from_the_start_of_the_earliest() {
        let started = Instant::now();
        let later = started + Duration::from_millis(3);
        let recorders = [recorded("second", later, b""), recorded("first", started, b""), Recorder::new("none", 0)];
        let loops = Recording::new(recorders).loops;
        let times: Vec<_> = loops.iter().map(|part| (part.name.as_str(), part.started_after)).collect();
        assert_eq!(times, [("second", Duration::from_millis(3)), ("first", Duration::ZERO), ("none", Duration::ZERO)]);
    }

    #[test]
    fn a_saved_file_is_complete_at_every_moment() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("run.json");
        let recording = Recording::new([recorded("main", Instant::now(), &[b'a'; 10_000])]);
        let mut expected = Vec::new();
        recording.write_to(&mut expected).expect("memory");
        recording.save(&path).expect("a new file");
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| (0..20).for_each(|_| recording.save(&path).expect("the same file")));
            loop {
                let is_last = writer.is_finished();
                assert!(fs::read(&path).expect("it is always there") == expected, "a part of the file is visible");
                if is_last {
                    break;
                }
            }
        });
        assert_eq!(names(folder.path()), ["run.json"]);
    }

    #[test]
    fn a_failed_save_leaves_no_file_and_names_the_cause() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = |path: &Path| Recording::default().save(path).expect_err("it fails").to_string();
        let long = folder.path().join("a".repeat(300));
        assert!(error(&long).starts_with(&format!("cannot write {}: ", long.display())), "{}", error(&long));
        assert_eq!(names(folder.path()), [""; 0]);
        let text = error(&folder.path().join("none/run.json"));
        assert!(text.ends_with("; create its folder first"), "{text}");
        let text = error(folder.path());
        assert!(text.ends_with("; choose the name of a file"), "{text}");
        assert_eq!(names(folder.path()), [""; 0]);
    }

    #[test]
    fn a_file_of_another_format_is_replaced_whole_or_not_at_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("run.txt");
        let save = |write: fn(&mut dyn Write) -> io::Result<()>| Recording::default().save_with(&path, write);
        save(|file| file.write_all(b"first")).expect("a new file");
        let part_of_second = save(|file| file.write_all(b"second").and(Err(io::Error::other("no end"))));
        let text = part_of_second.expect_err("it fails").to_string();
        assert_eq!(text, format!("cannot write {}: no end", path.display()));
        assert_eq!(fs::read(&path).expect("a file"), b"first");
        assert_eq!(names(folder.path()), ["run.txt"]);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_device_is_written_and_not_replaced() {
        let recording = Recording::new([recorded("main", Instant::now(), b"")]);
        let error = recording.save("/dev/full").expect_err("it has no room").to_string();
        assert!(error.starts_with("cannot write /dev/full: No space left on device"), "{error}");
        assert!(error.ends_with("; free space, or choose another disk"), "{error}");
        assert!(!fs::metadata("/dev/full").expect("a device").is_file());
    }

    #[test]
    #[cfg(unix)]
    fn a_link_stays_and_payload_is_for_the_owner() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let (path, link) = (folder.path().join("run.json"), folder.path().join("link"));
        std::os::unix::fs::symlink(&path, &link).expect("a link");
        let mode = |path: &Path| fs::metadata(path).expect("a file").permissions().mode() & 0o777;
        fs::write(&path, "an older recording").expect("a file");
        Recording::new([recorded("main", Instant::now(), b"secret")]).save(&link).expect("the target of the link");
        assert!(fs::symlink_metadata(&link).expect("a link").is_symlink());
        assert_eq!(mode(&path), 0o600);
        assert!(fs::read_to_string(&path).expect("text").contains("secret"));
    }
}
