//! The binary as a child process that ends with its test, what the kernel tells about it, and waiting for conditions
//! with a deadline.

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Far beyond what any step of a test takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(25);

/// What every client is promised that is not itself in trouble, with room for a machine that does other things too.
pub(crate) const SERVED_WITHIN: Duration = Duration::from_millis(500);

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_halloo");

/// Between two looks at a condition.
const STEP: Duration = Duration::from_millis(2);

// ---- waiting --------------------------------------------------------------------------------------------------------

/// Waits until there is something, for as long as it is sensible.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    wait_as_long(what, PATIENCE, look)
}

#[track_caller]
fn wait_as_long<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + patience;
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

/// Does something again and again, at a walking pace, for that long.
pub(crate) fn throughout(time: Duration, mut step: impl FnMut()) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        step();
        thread::sleep(10 * STEP);
    }
}

// ---- what a test needs ----------------------------------------------------------------------------------------------

/// Says that a test cannot be run here; fails it where tests have to be whole.
pub(crate) fn not_run(for_want_of: &str) {
    assert!(std::env::var_os("CI").is_none(), "this test cannot be run for want of {for_want_of}");
    let test = thread::current().name().unwrap_or("a test").to_owned();
    // Past the capture of test output: a step that was not taken must be seen.
    let _ = writeln!(std::io::stderr(), "\nNOT RUN for want of {for_want_of}: {test}\n");
}

/// Whether a program is there. Where tests have to be whole, it must be.
pub(crate) fn has_tool(tool: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {tool}")]).output();
    let is_there = found.is_ok_and(|found| found.status.success());
    if !is_there {
        not_run(tool);
    }
    is_there
}

/// Prints a measured figure past the capture of test output.
pub(crate) fn figure(text: &str) {
    let _ = writeln!(std::io::stderr(), "FIGURE {text}");
}

#[track_caller]
pub(crate) fn signal(pid: u32, name: &str) {
    let kill = format!("kill -{name} {pid}");
    assert!(Command::new("sh").args(["-c", &kill]).status().is_ok_and(|status| status.success()), "{kill}");
}

// ---- what a child prints --------------------------------------------------------------------------------------------

/// Everything a child has written into a pipe so far, read on a thread of its own.
#[derive(Clone, Default)]
pub(crate) struct Printed(Arc<Mutex<Vec<u8>>>);

impl Printed {
    pub(crate) fn of(pipe: Option<impl Read + Send + 'static>) -> Self {
        let printed = Self::default();
        if let Some(mut pipe) = pipe {
            let into = Arc::clone(&printed.0);
            thread::spawn(move || {
                let mut chunk = [0; 16 * 1024];
                while let Ok(count @ 1..) = pipe.read(&mut chunk) {
                    into.lock().expect("nobody panics with it").extend_from_slice(&chunk[..count]);
                }
            });
        }
        printed
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("nobody panics with it")).into_owned()
    }

    /// The lines that are whole.
    pub(crate) fn lines(&self) -> Vec<String> {
        let text = self.text();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(str::to_owned).collect()
    }

    /// How many whole lines have that in them.
    pub(crate) fn count(&self, part: &str) -> usize {
        self.lines().iter().filter(|line| line.contains(part)).count()
    }

    /// Whether nothing more will come.
    pub(crate) fn is_ended(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

// ---- the binary -----------------------------------------------------------------------------------------------------

/// A command line of halloo behind another program, if there is one, with no settings from the environment.
pub(crate) fn through(starter: &[&str], arguments: &[&str]) -> Command {
    let words: Vec<&str> = starter.iter().chain([&BINARY]).chain(arguments).copied().collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HALLOO_")) {
        command.env_remove(name);
    }
    command
}

/// A process that ends with the test.
pub(crate) struct Server {
    child: Child,
    pub(crate) output: Printed,
    pub(crate) errors: Printed,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts a server, and waits until it serves.
    #[track_caller]
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut server = Self::spawn(through(&[], arguments));
        wait_until("the READY line", || server.is_ready() || !server.is_running());
        assert!(server.is_ready(), "{arguments:?}: {}", server.errors.text());
        server
    }

    /// Starts a program without waiting for anything.
    #[track_caller]
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let (output, errors) = (Printed::of(child.stdout.take()), Printed::of(child.stderr.take()));
        Self { child, output, errors }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.output.count("READY ") > 0
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The first address served over a protocol, as the first line has it.
    #[track_caller]
    fn address(&self, protocol: &str) -> Option<SocketAddr> {
        let prefix = format!("{protocol}=");
        self.output.lines()[0].split(' ').find_map(|word| word.strip_prefix(&prefix)?.parse().ok())
    }

    #[track_caller]
    pub(crate) fn tcp(&self) -> SocketAddr {
        self.address("tcp").expect("it serves TCP")
    }

    #[track_caller]
    pub(crate) fn udp(&self) -> SocketAddr {
        self.address("udp").expect("it serves UDP")
    }

    /// Stops the process in its tracks: what comes meanwhile waits in the kernel.
    #[track_caller]
    pub(crate) fn freeze(&self) {
        signal(self.pid(), "STOP");
        // A lower case t: stopped while somebody traces it.
        wait_until("the process to stand still", || matches!(self.stat()[0].as_str(), "T" | "t"));
    }

    #[track_caller]
    pub(crate) fn thaw(&self) {
        signal(self.pid(), "CONT");
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it is a child of this process").is_none()
    }

    /// Waits for the end and gives back the exit status.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> i32 {
        self.wait_within(PATIENCE)
    }

    #[track_caller]
    pub(crate) fn wait_within(&mut self, patience: Duration) -> i32 {
        let look = || self.child.try_wait().expect("it is a child");
        let ended = wait_as_long("the end of the process", patience, look);
        ended.code().unwrap_or_else(|| panic!("it did not end by itself: {ended}"))
    }

    /// Asks for the end as a service manager does, and expects it to be a good one.
    #[track_caller]
    pub(crate) fn assert_stops(&mut self) {
        assert!(self.is_running(), "it ended before it was asked to: {}", self.errors.text());
        signal(self.pid(), "TERM");
        assert_eq!(self.wait(), 0, "{}", self.errors.text());
    }

    /// The counters, as the server tells them when asked by a signal.
    #[track_caller]
    pub(crate) fn counters(&self) -> HashMap<String, u64> {
        let before = self.errors.count(" turns=");
        signal(self.pid(), "USR1");
        wait_until("the counters", || self.errors.count(" turns=") > before);
        let line = self.errors.lines().into_iter().rfind(|line| line.contains(" turns="));
        let line = line.expect("it was counted");
        let pairs = line.split(' ').filter_map(|word| word.split_once('='));
        pairs.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
    }

    /// The lines of its log, the counters not among them.
    pub(crate) fn log(&self) -> Vec<String> {
        self.errors.lines().into_iter().filter(|line| !line.contains(" turns=")).collect()
    }

    // ---- what the kernel says about it ----------------------------------------------------------------------------------

    /// The fields of `/proc/PID/stat` behind the name, which may contain anything: the state is the first.
    fn stat(&self) -> Vec<String> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("it runs");
        let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
        fields.split_whitespace().map(str::to_owned).collect()
    }

    /// The processor time used so far by all threads, in steps of 10 ms.
    pub(crate) fn cpu_time(&self) -> Duration {
        // utime and stime of proc(5), fields 14 and 15 of the whole line.
        let ticks: u64 = self.stat()[11..13].iter().map(|field| field.parse().unwrap_or(0)).sum();
        Duration::from_millis(ticks * 10)
    }

    /// Resident memory, in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let value =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
        value.expect("Linux tells it")
    }

    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("it runs").count()
    }
}
