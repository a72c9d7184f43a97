//! Traces of system calls of a running process, with injected errors.
//!
//! strace attaches to one thread. A call with an injected error is not made: its datagram still waits.

use std::process::{Command, Stdio};

use crate::process::child::Process;
use crate::wait::{INTERVAL, repeat_every, wait_until};

/// A trace, and the fault in it, for as long as it lives.
pub struct FaultInjection {
    strace: Process,
    name: String,
}

impl FaultInjection {
    /// Has a system call of a process fail from now on: `when` is strace's, such as `1`, `1..3`, `1+3` for every third
    /// or `1+` for all.
    #[track_caller]
    pub fn start(process: &Process, call: &str, errno: &str, when: &str) -> Self {
        Self::start_on_thread(process.pid(), call, errno, when)
    }

    /// The same for another thread of it, and no other.
    #[track_caller]
    pub fn start_on_thread(thread: u32, call: &str, errno: &str, when: &str) -> Self {
        let (trace, fault) = (format!("trace={call}"), format!("inject={call}:error={errno}:when={when}"));
        Self::attach(thread, &["-e", &trace, "-e", &fault], format!("{call} {errno} when={when}"))
    }

    /// Traces system calls of a process, separated by commas, without a fault.
    #[track_caller]
    pub fn trace(process: &Process, calls: &str) -> Self {
        Self::attach(process.pid(), &["-e", &format!("trace={calls}")], format!("trace of {calls}"))
    }

    #[track_caller]
    fn attach(thread: u32, arguments: &[&str], name: String) -> Self {
        let mut command = Command::new("strace");
        command.args(["-p", &thread.to_string()]).args(arguments).stderr(Stdio::piped());
        let strace = Process::spawn(command);
        let is_attached = || strace.stderr.count_lines_with("attached") > 0;
        wait_until(&format!("{name}: strace to attach"), || is_attached() || strace.stderr.is_closed());
        assert!(is_attached(), "{name}: may this user trace? {}", strace.stderr.text());
        Self { strace, name }
    }

    /// How a failure names this fault.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The calls seen so far.
    pub fn calls(&self) -> Vec<String> {
        self.strace.stderr.lines().into_iter().filter(|line| line.contains('(') && line.contains(" = ")).collect()
    }

    /// The number of calls that have met the fault so far.
    pub fn injected_count(&self) -> usize {
        self.strace.stderr.count_lines_with("(INJECTED)")
    }

    /// Waits until so many calls have met the fault.
    #[track_caller]
    pub fn wait_injected(&self, count: usize) {
        wait_until(&format!("{}: {count} calls to meet it", self.name), || self.injected_count() >= count);
    }

    /// Ends the fault, and returns the calls that were made meanwhile.
    #[track_caller]
    pub fn end(mut self) -> Vec<String> {
        self.detach();
        wait_until(&format!("{}: the end of the trace", self.name), || self.strace.stderr.is_closed());
        self.calls()
    }

    /// Ends strace by SIGTERM: killed by SIGKILL, it could leave a call half made.
    fn detach(&mut self) {
        if self.strace.is_running() {
            self.strace.signal("TERM");
            repeat_every(INTERVAL, || self.strace.is_running());
        }
    }
}

impl Drop for FaultInjection {
    fn drop(&mut self) {
        self.detach();
    }
}

/// Those calls that met the fault.
pub fn injected(calls: &[String]) -> impl Iterator<Item = &String> {
    calls.iter().filter(|call| call.contains("(INJECTED)"))
}
