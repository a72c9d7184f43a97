//! A server of a case as a child process, with its recording.
//!
//! Every wait has a deadline. Neither the process nor its folder is left behind, also after a signal.

use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, ChildStdin, Command, ExitStatus as ChildStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use halloo::observe::Recording;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level;

use crate::exit::{ExitError, ExitStatus, TRY_AGAIN, cause_and_hint};
use crate::process::inherited_signals;
use crate::text::escape;
use crate::tour::case::Case;
use crate::tour::served::recording_name;
use crate::view::recording_parser;

/// How long a server may take to start.
const START_TIME_MAX: Duration = Duration::from_secs(5);

/// How long it may take to end and to write its recording.
const STOP_TIME_MAX: Duration = Duration::from_secs(6);

/// Between two checks whether a process has ended.
const CHECK_INTERVAL: Duration = Duration::from_millis(5);

/// The most that is read of the standard error of a server, in bytes.
const STDERR_BYTES_MAX: u64 = 64 * 1024;

/// The signals that end the program.
pub(crate) const SIGNALS: [i32; 4] = [SIGINT, SIGTERM, SIGQUIT, SIGHUP];

/// What must not stay: the folder of unfinished recordings, and a process.
#[derive(Clone)]
pub(crate) struct Workplace(Arc<Mutex<Leftovers>>);

struct Leftovers {
    folder: PathBuf,
    child: Option<Child>,
}

impl Leftovers {
    fn remove(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Workplace {
    /// Creates a folder in this one, and unblocks the signals, which end the program and remove the folder.
    pub(crate) fn create(parent: &Path) -> Result<Self, ExitError> {
        let folder = parent.join(format!(".halloo-tour-{}", process::id()));
        let workplace = Self(Arc::new(Mutex::new(Leftovers { folder: folder.clone(), child: None })));
        workplace.clear_on_signals().map_err(|error| ExitError::from_io("cannot catch signals", &error))?;
        workplace.uninterrupted(|| fs::create_dir(&folder)).map_err(|error| {
            let (name, cause) = (display(&folder), cause_and_hint(&error, "choose another folder with --save FOLDER"));
            ExitError::new(ExitStatus::Unavailable, format!("cannot create the folder {name}: {cause}"))
        })?;
        Ok(workplace)
    }

    fn clear_on_signals(&self) -> io::Result<()> {
        let signals = SIGNALS.into_iter().filter(|signal| !inherited_signals::is_ignored(*signal));
        let mut signals = Signals::new(signals)?;
        inherited_signals::unblock_signals();
        let workplace = self.clone();
        thread::Builder::new().spawn(move || {
            let Some(signal) = signals.forever().next() else { return };
            // It stays locked: no other process starts.
            let mut leftovers = workplace.lock();
            leftovers.remove();
            // Process 1 of a container survives the default action.
            if process::id() > 1 {
                let _ = low_level::emulate_default_handler(signal);
            }
            process::exit(128 + signal);
        })?;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Leftovers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does a step to its end. A signal ends the program before it or after it.
    pub(crate) fn uninterrupted<T>(&self, step: impl FnOnce() -> T) -> T {
        let _leftovers = self.lock();
        step()
    }

    /// The folder of unfinished recordings.
    pub(crate) fn folder(&self) -> PathBuf {
        self.lock().folder.clone()
    }

    /// Ends what runs, and removes the folder.
    pub(crate) fn clear(&self) {
        self.lock().remove();
    }
}

/// A server that runs.
pub(crate) struct ServerProcess {
    workplace: Workplace,
    /// The server ends when it is closed.
    stdin: Option<ChildStdin>,
    stderr: Receiver<String>,
    recording: PathBuf,
    pub(crate) address: SocketAddr,
}

/// What a server left.
pub(crate) struct Ended {
    /// The file and its contents, or why there is none.
    pub(crate) recording: Result<(PathBuf, Recording), String>,
    /// The error that ended it.
    pub(crate) error: Option<String>,
}

impl ServerProcess {
    /// Starts the server of a case with this name on the command line, and waits until it serves.
    pub(crate) fn start(case: &Case, server: &str, workplace: &Workplace) -> Result<Self, ExitError> {
        let cannot_start = |error: &io::Error| ExitError::from_io(&format!("cannot start the server {server}"), error);
        let folder = workplace.folder();
        let program = std::env::current_exe().map_err(|error| cannot_start(&error))?;
        let mut command = Command::new(program);
        command.args(["tour", case.name, "--serve", server, "--save"]).arg(&folder);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Ctrl-C is for this process, which ends the server.
        command.process_group(0);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HALLOO_")) {
            command.env_remove(name);
        }
        let mut leftovers = workplace.lock();
        let child = leftovers.child.insert(command.spawn().map_err(|error| cannot_start(&error))?);
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        drop(leftovers);
        let first_line = read_on_thread(stdout, |stdout| {
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line).map(|_| line)
        });
        let stderr = read_on_thread(stderr, |stderr| {
            let mut bytes = Vec::new();
            stderr.take(STDERR_BYTES_MAX).read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        });
        let recording = folder.join(recording_name(case, server, false));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut process = Self { workplace: workplace.clone(), stdin, stderr, recording, address };
        let reason = match first_line.recv_timeout(START_TIME_MAX) {
            Ok(line) => match address_in(&line) {
                Some(address) => {
                    process.address = address;
                    return Ok(process);
                }
                None => process.stop().error.unwrap_or_else(|| format!("it ended without an error; {TRY_AGAIN}")),
            },
            Err(RecvTimeoutError::Timeout) => format!("it does not serve within {START_TIME_MAX:?}; {TRY_AGAIN}"),
            Err(RecvTimeoutError::Disconnected) => format!("its output cannot be read; {TRY_AGAIN}"),
        };
        let message = format!("cannot start the server {server} of case {}: {reason}", case.number);
        Err(ExitError::new(ExitStatus::RuntimeError, message))
    }

    /// Lets the server end, and reads its recording.
    pub(crate) fn stop(mut self) -> Ended {
        drop(self.stdin.take());
        let status = self.wait();
        let stderr = self.stderr.recv_timeout(STOP_TIME_MAX).unwrap_or_default();
        let folder = self.workplace.folder();
        let error = match (stderr.lines().next_back(), &status) {
            (_, None) => Some(format!("it did not end within {STOP_TIME_MAX:?} and was killed; {TRY_AGAIN}")),
            (Some(line), _) => Some(without_folder(line, &folder)),
            (None, Some(status)) if !status.success() => Some(format!("it has ended: {status}; {TRY_AGAIN}")),
            (None, _) => None,
        };
        let recording = fs::File::open(&self.recording)
            .map_err(|_| error.clone().unwrap_or_else(|| format!("it has written none; {TRY_AGAIN}")));
        let recording = recording.and_then(|file| recording_parser::parse(BufReader::new(file)));
        Ended { recording: recording.map(|recording| (self.recording, recording)), error }
    }

    /// Waits for the end of the process, and kills it after the deadline.
    fn wait(&self) -> Option<ChildStatus> {
        let deadline = Instant::now() + STOP_TIME_MAX;
        loop {
            let mut leftovers = self.workplace.lock();
            let child = leftovers.child.as_mut()?;
            if let Ok(Some(status)) = child.try_wait() {
                leftovers.child = None;
                return Some(status);
            }
            if Instant::now() >= deadline {
                let _ = child.kill();
                let _ = child.wait();
                leftovers.child = None;
                return None;
            }
            drop(leftovers);
            thread::sleep(CHECK_INTERVAL);
        }
    }
}

/// Reads a pipe on a thread: a read has no deadline of its own.
fn read_on_thread<P: Read + Send + 'static>(
    pipe: Option<P>,
    read: impl FnOnce(P) -> io::Result<String> + Send + 'static,
) -> Receiver<String> {
    let (sender, receiver) = mpsc::sync_channel(1);
    // Without the thread, the sender is dropped, and nothing can be received.
    let _ = thread::Builder::new().spawn(move || {
        if let Some(text) = pipe.and_then(|pipe| read(pipe).ok()) {
            let _ = sender.send(text);
        }
    });
    receiver
}

/// The TCP address in a READY line. UDP has the same port.
fn address_in(line: &str) -> Option<SocketAddr> {
    line.strip_prefix("READY ")?.split_whitespace().find_map(|word| word.strip_prefix("tcp=")?.parse().ok())
}

/// An error line of a server, without the name of the program and the folder, which is gone when the line is read.
fn without_folder(line: &str, folder: &Path) -> String {
    let line = line.strip_prefix("halloo: ").unwrap_or(line);
    escape::message(&line.replace(&format!("{}/", display(folder)), ""), 1024)
}

fn display(path: &Path) -> String {
    escape::path(path.as_os_str().as_encoded_bytes())
}
