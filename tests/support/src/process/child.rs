//! A child process, killed with its test, and its proc(5) figures.

use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Once};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::process::captured_output::CapturedOutput;
use crate::wait::{TIMEOUT, wait_for_within, wait_until};

/// The exit status and output of a command.
#[derive(Debug)]
pub struct ProcessOutput {
    /// The exit status.
    pub status: i32,
    /// All of standard output.
    pub stdout: String,
    /// All of standard error.
    pub stderr: String,
}

/// Runs a command to its end.
#[track_caller]
pub fn run(command: Command) -> ProcessOutput {
    let mut process = Process::spawn(command);
    let status = process.wait();
    process.wait_for_eof();
    ProcessOutput { status, stdout: process.stdout.text(), stderr: process.stderr.text() }
}

/// A child process, killed when it is dropped.
pub struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    /// Standard output, if it is piped.
    pub stdout: CapturedOutput,
    /// Standard error, if it is piped.
    pub stderr: CapturedOutput,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    /// Starts a program.
    #[track_caller]
    pub fn spawn(mut command: Command) -> Self {
        unignore_signals();
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let stdin = child.stdin.take();
        let stdout = CapturedOutput::read_from(child.stdout.take());
        let stderr = CapturedOutput::read_from(child.stderr.take());
        Self { child, stdin, stdout, stderr }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes to standard input, which has to be piped.
    #[track_caller]
    pub fn write_stdin(&mut self, text: &str) {
        self.stdin.as_mut().expect("standard input is open").write_all(text.as_bytes()).expect("the process reads");
    }

    /// Closes standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    // ---- signals and the end ----------------------------------------------------------------------------------------

    /// Sends a signal, by its name without `SIG`.
    #[track_caller]
    pub fn signal(&self, name: &str) {
        let signal: Signal = format!("SIG{name}").parse().expect("the name of a signal");
        let pid = Pid::from_raw(self.pid().try_into().expect("a process id"));
        kill(pid, signal).unwrap_or_else(|error| panic!("SIG{name} to {pid}: {error}"));
    }

    /// Stops all threads (SIGSTOP): what arrives waits in the kernel.
    #[track_caller]
    pub fn pause(&self) {
        self.signal("STOP");
        // A lower case t: stopped under a tracer.
        let is_stopped = |thread: &String| matches!(self.stat(thread)[0].as_str(), "T" | "t");
        wait_until("all threads to stop", || self.threads().iter().all(is_stopped));
    }

    /// Continues after [`pause`](Self::pause) (SIGCONT).
    #[track_caller]
    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// Whether the process has not exited.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child of this process").is_none()
    }

    /// Waits for the exit, and returns the exit status.
    #[track_caller]
    pub fn wait(&mut self) -> i32 {
        self.wait_within(TIMEOUT)
    }

    /// Waits for the exit for `timeout` at most, and returns the exit status.
    #[track_caller]
    pub fn wait_within(&mut self, timeout: Duration) -> i32 {
        let status = self.wait_for_exit(timeout);
        status.code().unwrap_or_else(|| panic!("ended by a signal: {status}"))
    }

    /// Waits for the exit, and returns the signal that ended the process, if one did.
    #[track_caller]
    pub fn wait_for_signal(&mut self) -> Option<Signal> {
        self.wait_for_exit(TIMEOUT).signal().map(|number| Signal::try_from(number).expect("a signal of this system"))
    }

    #[track_caller]
    fn wait_for_exit(&mut self, timeout: Duration) -> ExitStatus {
        let check = || self.child.try_wait().expect("a child of this process");
        wait_for_within("the exit of the process", timeout, check)
    }

    /// Waits for EOF on both pipes, which follows the exit.
    #[track_caller]
    pub fn wait_for_eof(&self) {
        wait_until("the end of the pipes", || self.stdout.is_closed() && self.stderr.is_closed());
    }

    /// Sends SIGTERM, and fails unless the process exits with status 0.
    #[track_caller]
    pub fn assert_exits_on_sigterm(&mut self) {
        assert!(self.is_running(), "it exited before SIGTERM: {}", self.stderr.text());
        self.signal("TERM");
        assert_eq!(self.wait(), 0, "{}", self.stderr.text());
    }

    // ---- proc(5) ----------------------------------------------------------------------------------------------------

    fn threads(&self) -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("the process runs");
        tasks.map(|task| task.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }

    /// The number of threads.
    pub fn thread_count(&self) -> usize {
        self.threads().len()
    }

    /// The names of the threads, with their ids. A thread that ends meanwhile is left out.
    pub fn thread_names(&self) -> Vec<(u32, String)> {
        let name = |id: String| {
            let name = fs::read_to_string(format!("/proc/{}/task/{id}/comm", self.pid())).ok()?;
            Some((id.parse().expect("a thread id"), name.trim().to_owned()))
        };
        self.threads().into_iter().filter_map(name).collect()
    }

    fn stat(&self, thread: &str) -> Vec<String> {
        stat_fields(&format!("/proc/{}/task/{thread}/stat", self.pid())).expect("the process runs")
    }

    /// Whether the main thread sleeps (state `S`), rather than runs or waits for a processor.
    pub fn is_asleep(&self) -> bool {
        self.stat(&self.pid().to_string())[0] == "S"
    }

    /// The processor time used so far by all threads, in steps of 10 ms.
    pub fn cpu_time(&self) -> Duration {
        let fields = stat_fields(&format!("/proc/{}/stat", self.pid())).expect("the process runs");
        // utime and stime, fields 14 and 15 of the whole line.
        let ticks: u64 = fields.iter().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Duration::from_millis(ticks * 10)
    }

    /// The processor time used since an earlier [`cpu_time`](Self::cpu_time).
    pub fn cpu_time_since(&self, before: Duration) -> Duration {
        self.cpu_time().saturating_sub(before)
    }

    /// The voluntary context switches of all threads. Each wake-up causes one.
    pub fn voluntary_context_switches(&self) -> u64 {
        let count = |thread: &String| self.status(&format!("task/{thread}/status"), "voluntary_ctxt_switches:");
        self.threads().iter().map(count).sum()
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        self.status("status", "VmRSS:")
    }

    fn status(&self, file: &str, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/{file}", self.pid())).expect("the process runs");
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
        value.unwrap_or_else(|| panic!("{file} has no {name}"))
    }

    /// The number of open file descriptors.
    pub fn fd_count(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("the process runs").count()
    }

    /// What the open file descriptors refer to.
    pub fn fd_targets(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("the process runs");
        entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()).collect()
    }
}

/// Gives children the default action of SIGHUP, SIGINT and SIGQUIT if this process ignores them.
///
/// It does so under `nohup` or after `&` in a script. A child inherits an ignored signal, but not a handler.
fn unignore_signals() {
    static DONE: Once = Once::new();
    DONE.call_once(|| {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
        for signal in [Signal::SIGHUP as i32, Signal::SIGINT as i32, Signal::SIGQUIT as i32] {
            if mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1) {
                signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))
                    .expect("the signal can be caught");
            }
        }
    });
}

/// The child processes of `parent`, zombies included.
pub fn children_of(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").expect("Linux has it").flatten();
    let processes = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let parent_of = |process: &u32| stat_fields(&format!("/proc/{process}/stat"))?.get(1)?.parse().ok();
    processes.filter(|process| parent_of(process) == Some(parent)).collect()
}

/// The fields of a `stat` file after the name, which may contain any character. The first is the state, the second the
/// parent. `None` if the process does not exist.
fn stat_fields(path: &str) -> Option<Vec<String>> {
    let stat = fs::read_to_string(path).ok()?;
    let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

/// The name of the test that contains the closure, in the form of an argument to the test program.
pub fn test_name_of<F>(body: &F) -> &'static str {
    let (_, name) = std::any::type_name_of_val(body).split_once("::").expect("a path that starts with the crate");
    name.trim_end_matches("::{{closure}}")
}
