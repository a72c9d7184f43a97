//! The binary as a child process that ends with its test, and waiting for conditions with a deadline.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Far beyond what any step of a test takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(25);

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_halloo");

/// Between two looks at a condition.
const STEP: Duration = Duration::from_millis(2);

// ---- waiting --------------------------------------------------------------------------------------------------------

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

/// Looks again and again whether something holds, for that long.
pub(crate) fn stays(time: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + time;
    while Instant::now() < end {
        if !is_so() {
            return false;
        }
        thread::sleep(10 * STEP);
    }
    is_so()
}

#[track_caller]
pub(crate) fn assert_stays(time: Duration, what: &str, is_so: impl FnMut() -> bool) {
    assert!(stays(time, is_so), "it did not stay so: {what}");
}

/// Calls at a slow pace until told that it is enough, or nobody would wait any longer.
pub(crate) fn drip(pace: Duration, mut step: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while step() && Instant::now() < end {
        thread::sleep(pace);
    }
}

/// Whether a program is there. Where tests have to be whole, it must be.
pub(crate) fn has_tool(tool: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {tool}")]).output();
    let is_there = found.is_ok_and(|found| found.status.success());
    if !is_there {
        assert!(std::env::var_os("CI").is_none(), "{tool} is missing: install it, halloo is tested with it");
        not_run(&format!("for want of {tool}"));
    }
    is_there
}

/// Whether this machine has IPv6.
pub(crate) fn has_v6() -> bool {
    TcpListener::bind("[::1]:0").is_ok()
}

/// Past the capture of test output: a step that was not taken must be seen.
pub(crate) fn not_run(why: &str) {
    let test = thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stderr(), "\nNOT RUN {why}: {test}\n");
}

/// Allows this process all the descriptors it may have, and says how many that are.
pub(crate) fn raise_descriptor_limit() -> u64 {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("every process has a limit");
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("up to the hard limit everybody may");
    }
    hard
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
                loop {
                    match pipe.read(&mut chunk) {
                        Ok(count @ 1..) => into.lock().expect("nobody panics with it").extend(&chunk[..count]),
                        Err(error) if error.kind() == ErrorKind::Interrupted => {}
                        Ok(0) | Err(_) => return,
                    }
                }
            });
        }
        printed
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.lock().expect("nobody panics with it").clone()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.bytes()).expect("halloo prints valid UTF-8")
    }

    /// The lines that are whole.
    pub(crate) fn lines(&self) -> Vec<String> {
        let text = self.text();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(str::to_owned).collect()
    }

    /// Whether nothing more will come.
    pub(crate) fn is_ended(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// Waits for a line with that in it.
    #[track_caller]
    pub(crate) fn wait_for_line(&self, part: &str) -> String {
        let found = || self.lines().into_iter().find(|line| line.contains(part));
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(line) = found() {
                return line;
            }
            thread::sleep(STEP);
        }
        panic!("no line has `{part}`; there is:\n{}", self.text());
    }
}

// ---- the binary -----------------------------------------------------------------------------------------------------

/// A command line of halloo, with no settings from the environment of the tests.
pub(crate) fn halloo(arguments: &[&str]) -> Command {
    through(&[], arguments)
}

/// The same, started by another program, such as `prlimit`.
pub(crate) fn through(starter: &[&str], arguments: &[&str]) -> Command {
    let words: Vec<&str> = starter.iter().chain([&BINARY]).chain(arguments).copied().collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HALLOO_")) {
        command.env_remove(name);
    }
    command
}

/// What came of a command that ends by itself.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: i32,
    pub(crate) output: String,
    pub(crate) errors: String,
}

#[track_caller]
pub(crate) fn run(command: Command) -> Ended {
    let mut running = Server::spawn(command);
    let status = running.wait();
    // The pipes end with the process.
    let pipes = [&running.output, &running.errors];
    wait_until("the end of the pipes", || pipes.iter().all(|pipe| pipe.is_ended()));
    Ended { status, output: running.output.text(), errors: running.errors.text() }
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
        Self::start_as(halloo(arguments))
    }

    #[track_caller]
    pub(crate) fn start_as(command: Command) -> Self {
        let server = Self::spawn(command);
        server.output.wait_for_line("READY ");
        server
    }

    /// Starts a program without waiting for anything.
    #[track_caller]
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let (output, errors) = (Printed::of(child.stdout.take()), Printed::of(child.stderr.take()));
        Self { child, output, errors }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The first line.
    pub(crate) fn ready(&self) -> String {
        self.output.lines().swap_remove(0)
    }

    /// The lines of events.
    pub(crate) fn events(&self) -> Vec<String> {
        self.output.lines().split_off(1)
    }

    /// The first address served over a protocol, as the first line has it.
    #[track_caller]
    pub(crate) fn address(&self, protocol: &str) -> SocketAddr {
        let (ready, prefix) = (self.ready(), format!("{protocol}="));
        let found = ready.split(' ').find_map(|word| word.strip_prefix(&prefix)?.parse().ok());
        found.unwrap_or_else(|| panic!("there is no {protocol} in {ready}"))
    }

    #[track_caller]
    pub(crate) fn tcp(&self) -> SocketAddr {
        self.address("tcp")
    }

    #[track_caller]
    pub(crate) fn udp(&self) -> SocketAddr {
        self.address("udp")
    }

    /// Where it listens on 127.0.0.1 according to the kernel, for one whose first line cannot be read.
    #[track_caller]
    pub(crate) fn tcp_by_kernel(&self) -> SocketAddr {
        wait_for("a listening socket", || {
            let descriptors = fs::read_dir(format!("/proc/{}/fd", self.pid())).ok()?;
            let links = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
            let sockets: Vec<String> = links.map(|link| link.to_string_lossy().into_owned()).collect();
            fs::read_to_string("/proc/net/tcp").ok()?.lines().skip(1).find_map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                let is_own = words[3] == "0A" && sockets.contains(&format!("socket:[{}]", words[9]));
                let port = u16::from_str_radix(words[1].split_once(':')?.1, 16).ok()?;
                is_own.then(|| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
            })
        })
    }

    #[track_caller]
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.pid());
        assert!(Command::new("sh").args(["-c", &kill]).status().is_ok_and(|status| status.success()), "{kill}");
    }

    /// Stops the process in its tracks: what comes meanwhile waits in the kernel.
    #[track_caller]
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
        wait_until("all threads to stand still", || self.threads().iter().all(|thread| self.state_of(thread) == "T"));
    }

    #[track_caller]
    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    /// For one whose standard input is a pipe.
    #[track_caller]
    pub(crate) fn press_enter(&mut self) {
        writeln!(self.child.stdin.as_mut().expect("it is piped")).expect("it reads");
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it is a child of this process").is_none()
    }

    /// Waits for the end and gives back the exit status.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> i32 {
        let ended = wait_for("the end of the process", || self.child.try_wait().expect("it is a child"));
        ended.code().unwrap_or_else(|| panic!("it did not end by itself: {ended}"))
    }

    /// Asks for the end as a service manager does, and expects it to be a good one.
    #[track_caller]
    pub(crate) fn assert_stops(&mut self) {
        assert!(self.is_running(), "it ended before it was asked to: {}", self.errors.text());
        self.signal("TERM");
        assert_eq!(self.wait(), 0, "{}", self.errors.text());
    }

    // ---- what the kernel says about it ----------------------------------------------------------------------------------

    fn threads(&self) -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("it runs");
        tasks.map(|task| task.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }

    /// The fields of `/proc/PID/stat` behind the name, which may contain anything: the state is the first.
    fn stat(&self, thread: &str) -> Vec<String> {
        let stat = fs::read_to_string(format!("/proc/{}/task/{thread}/stat", self.pid())).expect("it runs");
        let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
        fields.split_whitespace().map(str::to_owned).collect()
    }

    fn state_of(&self, thread: &str) -> String {
        self.stat(thread).swap_remove(0)
    }

    /// The processor time used so far by all threads, in steps of 10 ms.
    pub(crate) fn cpu_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("it runs");
        let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
        let fields: Vec<u64> = fields.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
        // utime and stime of proc(5), fields 14 and 15 of the whole line.
        Duration::from_millis((fields[11] + fields[12]) * 10)
    }

    pub(crate) fn cpu_time_since(&self, before: Duration) -> Duration {
        self.cpu_time().saturating_sub(before)
    }

    /// How often its threads have gone to sleep, which is as often as they woke up.
    pub(crate) fn sleeps(&self) -> u64 {
        let threads = self.threads().into_iter();
        threads.map(|thread| self.status(&format!("task/{thread}/status"), "voluntary_ctxt_switches:")).sum()
    }

    /// Resident memory, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.status("status", "VmRSS:") * 1024
    }

    fn status(&self, file: &str, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/{file}", self.pid())).expect("it runs");
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
        value.unwrap_or_else(|| panic!("{file} has no {name}"))
    }

    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("it runs").count()
    }

    pub(crate) fn thread_count(&self) -> usize {
        self.threads().len()
    }
}
