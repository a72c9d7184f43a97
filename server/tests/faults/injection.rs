//! Errors injected into a running server's system calls.
//!
//! strace attaches to the server's first thread, which is the loop's, and to no other: what the printing and the
//! signal thread do is not counted and not touched. The count of `when` begins with the attachment, and the fault ends
//! with it, so one server meets many faults after one another and each lasts exactly as long as its test wants.
//! An injected call is not made at all: a datagram that could not be received still waits, a descriptor that could not
//! be closed is still open.

use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use crate::support::{PATIENCE, Printed, Server, has_tool, not_run, signal, wait_until};

/// A fault for as long as it lives.
pub(crate) struct Injection {
    strace: Child,
    trace: Printed,
    name: String,
}

/// Whether faults can be injected here.
pub(crate) fn is_possible() -> bool {
    static MAY_TRACE: OnceLock<bool> = OnceLock::new();
    if !has_tool("strace") {
        return false;
    }
    let may = *MAY_TRACE.get_or_init(|| {
        let Ok(mut other) = Command::new("sleep").arg("60").spawn() else {
            return false;
        };
        let attached = Attempt::to_attach(other.id());
        let _ = other.kill();
        let _ = other.wait();
        attached
    });
    if !may {
        not_run("the right to trace another process (kernel.yama.ptrace_scope)");
    }
    may
}

/// One try to attach to a process.
struct Attempt;

impl Attempt {
    fn to_attach(pid: u32) -> bool {
        let strace = Command::new("strace").args(["-p", &pid.to_string()]).stderr(Stdio::piped()).spawn();
        let Ok(mut strace) = strace else {
            return false;
        };
        let said = Printed::of(strace.stderr.take());
        wait_until("strace to attach, or not", || said.count("attached") > 0 || said.is_ended());
        let attached = said.count("attached") > 0;
        let _ = strace.kill();
        let _ = strace.wait();
        attached
    }
}

impl Injection {
    /// Has calls of a server fail from now on: `when` is strace's, such as `1`, `1..3`, `1+3` for every third or `1+`
    /// for all.
    #[track_caller]
    pub(crate) fn into(server: &Server, call: &str, errno: &str, when: &str) -> Self {
        Self::into_thread(server.pid(), call, errno, when)
    }

    /// The same for another thread of it, and no other.
    #[track_caller]
    pub(crate) fn into_thread(thread: u32, call: &str, errno: &str, when: &str) -> Self {
        let (trace, fault) = (format!("trace={call}"), format!("inject={call}:error={errno}:when={when}"));
        let name = format!("{call} {errno} when={when}");
        let mut strace = Command::new("strace")
            .args(["-p", &thread.to_string(), "-e", &trace, "-e", &fault])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: strace does not start: {error}"));
        let trace = Printed::of(strace.stderr.take());
        wait_until(&format!("{name}: strace to attach"), || trace.count("attached") > 0 || trace.is_ended());
        assert!(trace.count("attached") > 0, "{name}: {}", trace.text());
        Self { strace, trace, name }
    }

    /// How a failure names this fault.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The calls seen so far.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.trace.lines().into_iter().filter(|line| line.contains('(') && line.contains(" = ")).collect()
    }

    /// How many calls have met the fault so far.
    pub(crate) fn met(&self) -> usize {
        self.trace.count("(INJECTED)")
    }

    #[track_caller]
    pub(crate) fn wait_met(&self, times: usize) {
        wait_until(&format!("{}: {times} calls to meet it", self.name), || self.met() >= times);
    }

    /// Ends the fault, and gives back the calls that were made meanwhile.
    #[track_caller]
    pub(crate) fn end(mut self) -> Vec<String> {
        self.detach();
        wait_until(&format!("{}: the end of the trace", self.name), || self.trace.is_ended());
        self.calls()
    }

    /// As a person would end it: killed at once, strace could leave a call half made.
    fn detach(&mut self) {
        if matches!(self.strace.try_wait(), Ok(None)) {
            signal(self.strace.id(), "TERM");
            let end = std::time::Instant::now() + PATIENCE;
            while matches!(self.strace.try_wait(), Ok(None)) && std::time::Instant::now() < end {
                std::thread::yield_now();
            }
        }
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        self.detach();
        let _ = self.strace.kill();
        let _ = self.strace.wait();
    }
}

/// Those of some calls that met the fault.
pub(crate) fn injected(calls: &[String]) -> impl Iterator<Item = &String> {
    calls.iter().filter(|call| call.contains("(INJECTED)"))
}
