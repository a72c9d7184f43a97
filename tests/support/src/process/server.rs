//! The `halloo` binary as a child process.
//!
//! The server inherits no setting from the environment of the tests.

use std::collections::HashMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::{Deref, DerefMut};
use std::process::{Command, Stdio};

use crate::process::child::{Process, ProcessOutput, run};
use crate::wait::{wait_for, wait_until};

/// Variables that the server reads.
const VARIABLE_PREFIXES: [&str; 4] = ["HALLOO_", "LISTEN_", "NOTIFY_", "WATCHDOG_"];

/// The path of the binary, which only test programs of its package know.
#[derive(Clone, Copy)]
pub struct ServerBinary(&'static str);

impl ServerBinary {
    /// The path is `env!("CARGO_BIN_EXE_halloo")`.
    pub const fn new(path: &'static str) -> Self {
        Self(path)
    }

    /// The path of the binary.
    pub const fn path(self) -> &'static str {
        self.0
    }

    /// A command line of the binary.
    pub fn command(self, arguments: &[&str]) -> Command {
        self.command_under(&[], arguments)
    }

    /// A command line of the binary under another program, such as `strace`.
    pub fn command_under(self, wrapper: &[&str], arguments: &[&str]) -> Command {
        let words: Vec<&str> = wrapper.iter().chain([&self.0]).chain(arguments).copied().collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for (name, _) in std::env::vars_os() {
            if VARIABLE_PREFIXES.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        command
    }

    /// A command line of the binary with other limits on file descriptors (`RLIMIT_NOFILE`).
    pub fn command_with_fd_limits(self, soft: u64, hard: u64, arguments: &[&str]) -> Command {
        let script = format!("ulimit -Sn {soft}; ulimit -Hn {hard}; exec \"$0\" \"$@\"");
        self.command_under(&["sh", "-c", &script], arguments)
    }

    /// Starts a server, and waits for its READY line.
    #[track_caller]
    pub fn start(self, arguments: &[&str]) -> Server {
        Server::start(self.command(arguments))
    }

    /// Runs the binary to its end.
    #[track_caller]
    pub fn run(self, arguments: &[&str]) -> ProcessOutput {
        run(self.command(arguments))
    }
}

/// A server process.
pub struct Server(Process);

impl Deref for Server {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.0
    }
}

impl DerefMut for Server {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.0
    }
}

impl Server {
    /// Starts a server, and waits for its READY line.
    #[track_caller]
    pub fn start(command: Command) -> Self {
        let server = Self::spawn(command);
        wait_until("the READY line", || server.is_ready() || server.stdout.is_closed());
        assert!(server.is_ready(), "no READY line: {}", server.stderr.text());
        server
    }

    /// Starts a server without waiting.
    #[track_caller]
    pub fn spawn(command: Command) -> Self {
        Self(Process::spawn(command))
    }

    /// Whether the READY line was printed.
    pub fn is_ready(&self) -> bool {
        self.stdout.first_line().is_some_and(|line| line.starts_with("READY ") || line.contains("\"event\":\"ready\""))
    }

    /// The READY line, which is the first.
    pub fn ready_line(&self) -> String {
        self.stdout.first_line().expect("the READY line")
    }

    /// The lines after the READY line; those of text without their time.
    #[track_caller]
    pub fn event_lines(&self) -> Vec<String> {
        self.stdout.lines().split_off(1).into_iter().map(without_time).collect()
    }

    /// The addresses of the READY line, as text or as JSON, in order, as `protocol=address`.
    #[track_caller]
    pub fn ready_addresses(&self) -> Vec<String> {
        let ready = self.ready_line();
        let as_json = ready.split("{\"protocol\":\"").skip(1).map(|entry| {
            let (protocol, rest) = entry.split_once("\",\"address\":\"").unwrap_or_else(|| panic!("{ready}"));
            format!("{protocol}={}", rest.split('"').next().unwrap_or_default())
        });
        let as_json: Vec<String> = as_json.collect();
        if !as_json.is_empty() {
            return as_json;
        }
        let end = format!(" pid={}", self.pid());
        let list = ready.strip_prefix("READY ").and_then(|rest| rest.strip_suffix(&end));
        list.unwrap_or_else(|| panic!("{ready}")).split(' ').map(str::to_owned).collect()
    }

    #[track_caller]
    fn address(&self, protocol: &str) -> SocketAddr {
        let ready = self.ready_line();
        address_in(&ready, protocol).unwrap_or_else(|| panic!("no {protocol} in {ready}"))
    }

    /// The first TCP address of the READY line.
    #[track_caller]
    pub fn tcp(&self) -> SocketAddr {
        self.address("tcp")
    }

    /// The first UDP address of the READY line.
    #[track_caller]
    pub fn udp(&self) -> SocketAddr {
        self.address("udp")
    }

    /// The first TCP address of the admin endpoint in the READY line.
    #[track_caller]
    pub fn admin(&self) -> SocketAddr {
        let ready = self.ready_line();
        let as_json = ready.split_once("\"admin\":").and_then(|(_, list)| address_in(list, "tcp"));
        as_json.unwrap_or_else(|| self.address("admin"))
    }

    /// The TCP listener on 127.0.0.1 in the kernel's table, for a server whose READY line cannot be read.
    #[track_caller]
    pub fn listening_address(&self) -> SocketAddr {
        wait_for("a listening socket", || {
            let sockets: Vec<String> =
                self.fd_targets().iter().map(|target| target.to_string_lossy().into_owned()).collect();
            fs::read_to_string("/proc/net/tcp").ok()?.lines().skip(1).find_map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                let is_own = words[3] == "0A" && sockets.contains(&format!("socket:[{}]", words[9]));
                let port = u16::from_str_radix(words[1].split_once(':')?.1, 16).ok()?;
                is_own.then(|| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
            })
        })
    }

    /// The sums of the counters of all workers, which the server logs on SIGUSR1.
    #[track_caller]
    pub fn counters(&self) -> HashMap<String, u64> {
        self.logged_counters("] turns=")
    }

    /// The counters of one of several workers; the first has number 1.
    #[track_caller]
    pub fn counters_of_worker(&self, worker_number: usize) -> HashMap<String, u64> {
        self.logged_counters(&format!("] worker {worker_number}: turns="))
    }

    /// The counters of the next line with this text.
    #[track_caller]
    fn logged_counters(&self, text: &str) -> HashMap<String, u64> {
        let before = self.stderr.count_lines_with(text);
        self.signal("USR1");
        wait_until("the counters", || self.stderr.count_lines_with(text) > before);
        let line = self.stderr.lines().into_iter().rfind(|line| line.contains(text)).expect("it was counted");
        let pairs = line.split(' ').filter_map(|word| word.split_once('='));
        pairs.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
    }

    /// The log lines without the counters.
    pub fn log_lines(&self) -> Vec<String> {
        self.stderr.lines().into_iter().filter(|line| !line.contains(" turns=")).collect()
    }
}

/// A line after READY: text without its time, which it has to have; JSON as it is.
#[track_caller]
fn without_time(line: String) -> String {
    if line.starts_with('{') {
        return line;
    }
    let (time, rest) = line.split_once(' ').unwrap_or_else(|| panic!("{line}"));
    let is_time = time.len() == "2026-01-01T00:00:00.000Z".len() && time.starts_with("20") && time.ends_with('Z');
    assert!(is_time, "no time: {line}");
    rest.to_owned()
}

/// The first address of a protocol in a READY line, as text or as JSON.
pub fn address_in(ready_line: &str, protocol: &str) -> Option<SocketAddr> {
    let (as_text, as_json) = (format!(" {protocol}="), format!("{{\"protocol\":\"{protocol}\",\"address\":\""));
    let (_, rest) = ready_line.split_once(&as_text).or_else(|| ready_line.split_once(&as_json))?;
    rest.split([' ', '"']).next()?.parse().ok()
}

/// Fails unless a command exited with `status` and wrote nothing but one line to standard error, which contains all of
/// `parts`.
#[track_caller]
pub fn assert_fails(output: &ProcessOutput, status: i32, parts: &[&str]) {
    assert_eq!((output.status, output.stdout.as_str()), (status, ""), "{output:?}");
    let line = output.stderr.strip_suffix('\n').expect("a whole line");
    assert!(line.starts_with("halloo: ") && !line.contains('\n') && !line.ends_with('.'), "{line:?}");
    for part in parts {
        assert!(line.contains(part), "`{part}` is missing in: {line}");
    }
}
