//! Processes that end with their test, what they print, and waiting for conditions with a deadline.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Far beyond what any step of a test takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at a condition.
const STEP: Duration = Duration::from_millis(5);

/// Waits until there is something, for as long as it is sensible.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited in vain for {what}");
        thread::sleep(STEP);
    }
}

#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    wait_for(what, || is_so().then_some(()));
}

/// Whether the programs that a test needs are there. Where tests have to be whole, they must be.
pub(crate) fn has_tools(tools: &[&str]) -> bool {
    let is_missing = |tool: &&&str| {
        let found = Command::new("sh").args(["-c", &format!("PATH=$PATH:/usr/sbin command -v {tool}")]).output();
        !found.is_ok_and(|found| found.status.success())
    };
    let missing: Vec<_> = tools.iter().filter(is_missing).collect();
    if !missing.is_empty() {
        assert!(std::env::var_os("CI").is_none(), "this test cannot be run for want of {missing:?}");
        let test = thread::current().name().unwrap_or("a test").to_owned();
        // Past the capture of test output: a step that was not taken must be seen.
        let _ = writeln!(std::io::stderr(), "\nNOT RUN for want of {missing:?}: {test}\n");
    }
    missing.is_empty()
}

/// Prints a measured figure past the capture of test output.
pub(crate) fn figure(text: &str) {
    let _ = writeln!(std::io::stderr(), "FIGURE {text}");
}

/// Runs a script to its end, which must be a good one, and gives back what it has printed.
#[track_caller]
pub(crate) fn shell(script: &str) -> String {
    let (is_good, printed) = try_shell(script);
    assert!(is_good, "{script}: {printed}");
    printed
}

/// Runs a script to its end, and gives back whether it was a good one, and what was printed.
#[track_caller]
pub(crate) fn try_shell(script: &str) -> (bool, String) {
    let script = format!("exec 2>&1; PATH=$PATH:/usr/sbin\n{script}");
    let mut command = Command::new("timeout");
    let output = command.args(["120", "bash", "-c", &script]).stdin(Stdio::null()).output().expect("a shell is there");
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A port that nobody listens on just now. It lies below those that the kernel gives to outbound connections, of which
/// one could otherwise have it by the time it is used.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 100).expect("two digits") * 100;
    let ports = || 20_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(ports).find(is_free).expect("a port is free")
}

/// A running program, one of the examples or one of their clients.
pub(crate) struct Process {
    child: Child,
    input: Option<ChildStdin>,
    printed: Arc<Mutex<Vec<u8>>>,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    #[track_caller]
    pub(crate) fn spawn(program: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {program}: {error}"));
        let (input, mut output) = (child.stdin.take(), child.stdout.take().expect("it is piped"));
        let printed = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&printed);
        thread::spawn(move || {
            let mut chunk = vec![0; 64 * 1024];
            while let Ok(count @ 1..) = output.read(&mut chunk) {
                into.lock().expect("nobody panics with it").extend_from_slice(&chunk[..count]);
            }
        });
        Self { child, input, printed }
    }

    /// Starts an example, and waits until it listens; its address comes with it.
    #[track_caller]
    pub(crate) fn serve(program: &str, arguments: &[&str]) -> (Self, SocketAddr) {
        let server = Self::spawn(program, arguments);
        let address = wait_for("the first line", || {
            let text = server.text();
            text.strip_prefix("Listening on ")?.split_once('\n')?.0.parse().ok()
        });
        (server, address)
    }

    /// Starts netcat towards an address.
    #[track_caller]
    pub(crate) fn netcat(to: SocketAddr) -> Self {
        Self::spawn("nc", &[&to.ip().to_string(), &to.port().to_string()])
    }

    #[track_caller]
    pub(crate) fn say(&mut self, text: &str) {
        self.input.as_mut().expect("it is still open").write_all(text.as_bytes()).expect("it reads");
    }

    /// Ends its standard input.
    pub(crate) fn hush(&mut self) {
        self.input = None;
    }

    /// Everything it has printed so far.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.printed.lock().expect("nobody panics with it")).into_owned()
    }

    #[track_caller]
    pub(crate) fn wait_to_print(&self, text: &str) {
        wait_until(&format!("{text:?}"), || self.text().contains(text));
    }

    /// As [`wait_to_print`](Self::wait_to_print), for much text, of which only the end is looked at.
    #[track_caller]
    pub(crate) fn wait_to_end_with(&self, text: &str) {
        let printed = || self.printed.lock().expect("nobody panics with it");
        wait_until(&format!("{text:?} at the end"), || printed().ends_with(text.as_bytes()));
    }

    /// Waits for its end, and says whether it was a good one.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> bool {
        wait_for("the end of a process", || self.child.try_wait().expect("it is a child")).success()
    }

    #[track_caller]
    pub(crate) fn signal(&self, name: &str) {
        shell(&format!("kill -{name} {}", self.child.id()));
    }

    /// Its resident memory in KiB: `VmRSS` of proc(5).
    #[track_caller]
    pub(crate) fn memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }
}
