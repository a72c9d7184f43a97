//! strace on a running process: traces and injected errors.
//!
//! strace attaches to one thread, and suppresses a call with an injected error: a datagram stays in the queue.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::process::child::Process;
use crate::wait::{INTERVAL, repeat_every, wait_until};

/// A running strace, which ends when this is dropped.
pub struct FaultInjection {
    strace: Process,
    name: String,
}

impl FaultInjection {
    /// Makes a system call of a process fail from now on.
    ///
    /// `when` is that of strace, such as `1`, `1..3`, `1+3` for every third or `1+` for all.
    #[track_caller]
    pub fn start(process: &Process, call: &str, errno: &str, when: &str) -> Self {
        Self::start_on_thread(process.pid(), call, errno, when)
    }

    /// The same for one thread of a process.
    #[track_caller]
    pub fn start_on_thread(thread: u32, call: &str, errno: &str, when: &str) -> Self {
        let (trace, fault) = (format!("trace={call}"), format!("inject={call}:error={errno}:when={when}"));
        Self::attach(thread, &["-e", &trace, "-e", &fault], format!("{call} {errno} when={when}"))
    }

    /// Delays every system call of this name that one thread begins.
    #[track_caller]
    pub fn delay_on_thread(thread: u32, call: &str, delay: Duration) -> Self {
        let (trace, microseconds) = (format!("trace={call}"), delay.as_micros());
        let fault = format!("inject={call}:delay_enter={microseconds}");
        Self::attach(thread, &["-e", &trace, "-e", &fault], format!("{call} delayed by {delay:?}"))
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

    /// The name of the fault in failure messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The calls seen so far.
    pub fn calls(&self) -> Vec<String> {
        self.strace.stderr.lines().into_iter().filter(|line| line.contains('(') && line.contains(" = ")).collect()
    }

    /// The number of calls with an injected error so far.
    pub fn injected_count(&self) -> usize {
        self.strace.stderr.count_lines_with("(INJECTED)")
    }

    /// Waits until `count` calls had an injected error.
    #[track_caller]
    pub fn wait_injected(&self, count: usize) {
        wait_until(&format!("{}: {count} injected errors", self.name), || self.injected_count() >= count);
    }

    /// Ends strace, and returns the traced calls.
    #[track_caller]
    pub fn end(mut self) -> Vec<String> {
        self.detach();
        wait_until(&format!("{}: the end of the trace", self.name), || self.strace.stderr.is_closed());
        self.calls()
    }

    /// Ends strace by SIGTERM: SIGKILL could leave a call unfinished.
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

/// The calls with an injected error.
pub fn injected(calls: &[String]) -> impl Iterator<Item = &String> {
    calls.iter().filter(|call| call.contains("(INJECTED)"))
}
