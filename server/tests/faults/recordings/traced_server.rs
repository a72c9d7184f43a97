//! A server that records, under strace.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use halloo::observe::Entry;
use socket2::SockAddr;
use support::process::server::Server;
use support::wait::wait_for;
use tempfile::TempDir;

use crate::HALLOO;
use crate::recordings::comparison::{Outcomes, compare};
use crate::recordings::entries_in_file::read_recording;
use crate::recordings::strace_calls::{STRACE, STRACE_FOR_PEOPLE, TRACED, parse_calls};

/// After it, silent clients are reset.
const DRAIN_TIMEOUT: [&str; 2] = ["--drain-timeout", "200ms"];

/// A running server, and the folder with its recording and with the output of strace.
pub(crate) struct TracedServer {
    pub(crate) server: Server,
    folder: TempDir,
}

impl TracedServer {
    /// Starts a server on TCP, UDP and a unix socket. `faults` are those of strace, such as
    /// `accept4:error=EMFILE:when=3+5`.
    #[track_caller]
    pub(crate) fn start(arguments: &[&str], faults: &[&str]) -> Self {
        Self::start_under(&STRACE, "recording.json", arguments, faults)
    }

    /// The same, but the recording is a page with the first bytes of each call, and strace prints for people.
    #[track_caller]
    pub(crate) fn start_for_page(arguments: &[&str]) -> Self {
        let with_bytes = [&["--record-payload", "64"], arguments].concat();
        Self::start_under(&STRACE_FOR_PEOPLE, "recording.html", &with_bytes, &[])
    }

    #[track_caller]
    fn start_under(strace: &[&str], recording: &str, arguments: &[&str], faults: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        let (calls, recording, socket) = (path("calls"), path(recording), path("socket"));
        let faults: Vec<String> = faults.iter().map(|fault| format!("--inject={fault}")).collect();
        let trace = format!("--trace={TRACED}");
        let mut wrapper = strace.to_vec();
        wrapper.extend(["-o", &calls, &trace]);
        wrapper.extend(faults.iter().map(String::as_str));
        let serve = ["--unix", &socket, "--record", &recording];
        let server = Server::start(HALLOO.command_under(&wrapper, &[&serve[..], &DRAIN_TIMEOUT, arguments].concat()));
        Self { server, folder }
    }

    /// Where it serves streams: TCP, unix.
    #[track_caller]
    pub(crate) fn stream_addresses(&self) -> [SockAddr; 2] {
        [self.server.tcp().into(), SockAddr::unix(self.folder.path().join("socket")).expect("a short path")]
    }

    /// Stops the server. Fails unless each loop has noted the calls of its thread. Returns the calls of all.
    #[track_caller]
    pub(crate) fn end(mut self, name: &str) -> Outcomes {
        let is_loop = |thread: &String| thread.starts_with("worker-");
        let mut threads = self.server.thread_names();
        threads.retain(|(id, thread)| *id == self.server.pid() || is_loop(thread));
        self.server.assert_exits_on_sigterm();
        let loops = self.read_recording();
        assert_eq!(loops.len(), threads.len(), "{name}: {threads:?}");
        let mut outcomes = Outcomes::new();
        for (id, thread) in threads {
            let number = thread.strip_prefix("worker-").unwrap_or("1");
            let entries = &loops[&format!("worker {number}")];
            for (outcome, count) in self.compare_thread(id, entries).unwrap_or_else(|error| panic!("{name}: {error}")) {
                *outcomes.entry(outcome).or_default() += count;
            }
        }
        outcomes
    }

    /// Stops a server with one loop. Returns its page, and the output of strace about its thread.
    #[track_caller]
    pub(crate) fn end_with_page(mut self) -> (TempDir, PathBuf, String) {
        self.server.assert_exits_on_sigterm();
        let trace = whole_trace(&self.folder.path().join(format!("calls.{}", self.server.pid())));
        let page = self.folder.path().join("recording.html");
        (self.folder, page, trace)
    }

    /// The entries of each loop, after the end.
    #[track_caller]
    pub(crate) fn read_recording(&self) -> BTreeMap<String, Vec<Entry>> {
        read_recording(&self.folder.path().join("recording.json"))
    }

    fn compare_thread(&self, id: u32, entries: &[Entry]) -> Result<Outcomes, String> {
        compare(entries, &parse_calls(&whole_trace(&self.folder.path().join(format!("calls.{id}")))))
    }
}

/// The output of strace about a thread. It is complete a moment after the exit.
#[track_caller]
pub(crate) fn whole_trace(path: &Path) -> String {
    wait_for("the end of the trace", || {
        fs::read_to_string(path).ok().filter(|text| text.contains("\n+++ exited with "))
    })
}
