//! A supervisor's part: starting the binary with sockets at descriptor 3 and up, hearing it, and waiting with a
//! deadline.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;
use tempfile::TempDir;

/// Far beyond what any step of a test takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(25);

pub(crate) const QUESTION: &[u8] = b"Hello, TCP Server!";
pub(crate) const GREETING: &str = "Hello, TCP Client!";
pub(crate) const UDP_GREETING: &str = "Hello, UDP Client!";

/// Between two looks at a condition.
const STEP: Duration = Duration::from_millis(2);

/// Moves the descriptors named in `HANDED` to 3 and up, and becomes the program that follows. First they all go out of
/// the way, to 10 and up, since one may stand where another belongs.
const LAUNCHER: &str = r#"
away=()
for handed in $HANDED; do exec {copy}<&"$handed" {handed}<&-; away+=("$copy"); done
number=3
for copy in "${away[@]}"; do eval "exec $number<&$copy $copy<&-"; number=$((number + 1)); done
unset HANDED
export LISTEN_PID="${LISTEN_PID-$$}" LISTEN_FDS="${LISTEN_FDS-${#away[@]}}" WATCHDOG_PID="${WATCHDOG_PID-$$}"
exec "$0" "$@"
"#;

/// While a program is started, descriptors are open to whatever is started, and must not get into another one.
static STARTING: Mutex<()> = Mutex::new(());

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
#[track_caller]
pub(crate) fn assert_stays(time: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        assert!(is_so(), "it did not stay so: {what}");
        thread::sleep(10 * STEP);
    }
}

/// Whether descriptors can be handed over here. Where tests have to be whole, they must.
pub(crate) fn can_hand_over() -> bool {
    let found = begin(Command::new("bash").args(["-c", "true"]).stdin(Stdio::null()));
    let is_there = found.is_ok_and(|mut bash| bash.wait().is_ok_and(|status| status.success()));
    if !is_there {
        assert!(std::env::var_os("CI").is_none(), "bash is missing: install it, halloo is tested with it");
        // Past the capture of test output: a test that was not run must be seen.
        let test = thread::current().name().unwrap_or("a test").to_owned();
        let _ = writeln!(std::io::stderr(), "\nNOT RUN for want of bash: {test}\n");
    }
    is_there
}

/// Whether this machine has IPv6.
pub(crate) fn has_v6() -> bool {
    UdpSocket::bind("[::1]:0").is_ok()
}

/// Calls again after a signal: a call that may take a while only is not restarted by the system (`signal(7)`).
pub(crate) fn uninterrupted<T>(mut call: impl FnMut() -> std::io::Result<T>) -> std::io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn begin(command: &mut Command) -> std::io::Result<Child> {
    let _alone = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    command.spawn()
}

// ---- starting -------------------------------------------------------------------------------------------------------

/// What the binary is started with.
#[derive(Default)]
pub(crate) struct Launch<'a> {
    pub(crate) arguments: &'a [&'a str],
    pub(crate) variables: &'a [(&'a str, &'a str)],
    /// In the order in which they are to be handed over.
    pub(crate) handed: &'a [BorrowedFd<'a>],
}

impl Launch<'_> {
    /// Starts a server, and waits until it serves.
    #[track_caller]
    pub(crate) fn serve(&self) -> Server {
        let server = self.begin();
        wait_until("the first line", || !server.output.lines().is_empty());
        server
    }

    /// Starts a program that is to end by itself.
    #[track_caller]
    pub(crate) fn run(&self) -> Ended {
        let mut server = self.begin();
        let status = server.wait();
        wait_until("the end of the pipes", || server.output.is_ended() && server.errors.is_ended());
        Ended { status, output: server.output.text(), errors: server.errors.text() }
    }

    #[track_caller]
    pub(crate) fn begin(&self) -> Server {
        let mut command = Command::new("bash");
        command.args(["-c", LAUNCHER, env!("CARGO_BIN_EXE_halloo")]).args(self.arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let of_supervisors = ["LISTEN_", "NOTIFY_", "WATCHDOG_", "HALLOO_"];
        let inherited = std::env::vars_os().map(|(name, _)| name);
        let is_set_aside = |name: &str| of_supervisors.iter().any(|start| name.starts_with(start));
        inherited.filter(|name| is_set_aside(&name.to_string_lossy())).for_each(|name| {
            command.env_remove(name);
        });
        command.envs(self.variables.iter().copied());

        let copy = |socket: &BorrowedFd<'_>| socket.try_clone_to_owned().expect("there are descriptors left");
        let alone = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        let open: Vec<OwnedFd> = self.handed.iter().map(copy).collect();
        for descriptor in &open {
            SockRef::from(descriptor).set_cloexec(false).expect("a flag of every descriptor");
        }
        let numbers: Vec<String> = open.iter().map(|descriptor| descriptor.as_raw_fd().to_string()).collect();
        let mut child = command.env("HANDED", numbers.join(" ")).spawn().expect("bash is there");
        drop(open);
        drop(alone);
        let (output, errors) = (Printed::of(child.stdout.take()), Printed::of(child.stderr.take()));
        Server { child, output, errors }
    }
}

/// The descriptors of sockets of several types.
#[macro_export]
macro_rules! descriptors {
    ($($socket:expr),* $(,)?) => { [$(std::os::fd::AsFd::as_fd(&$socket)),*] };
}

// ---- what a child prints --------------------------------------------------------------------------------------------

/// Everything a child has written into a pipe so far, read on a thread of its own.
#[derive(Clone, Default)]
pub(crate) struct Printed(Arc<Mutex<Vec<u8>>>);

impl Printed {
    fn of(pipe: Option<impl Read + Send + 'static>) -> Self {
        let printed = Self::default();
        let (mut pipe, into) = (pipe.expect("it was asked for"), Arc::clone(&printed.0));
        thread::spawn(move || {
            let mut chunk = [0; 16 * 1024];
            while let Ok(count @ 1..) = pipe.read(&mut chunk) {
                into.lock().expect("nobody panics with it").extend_from_slice(&chunk[..count]);
            }
        });
        printed
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("nobody panics with it").clone()).expect("halloo prints valid UTF-8")
    }

    /// The lines that are whole.
    pub(crate) fn lines(&self) -> Vec<String> {
        let text = self.text();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(str::to_owned).collect()
    }

    fn is_ended(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

/// What came of a command that ends by itself.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: i32,
    pub(crate) output: String,
    pub(crate) errors: String,
}

// ---- the server -----------------------------------------------------------------------------------------------------

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
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the first line says is served, in order.
    #[track_caller]
    pub(crate) fn served(&self) -> Vec<String> {
        let ready = self.output.lines().swap_remove(0);
        let end = format!(" pid={}", self.pid());
        let list = ready.strip_prefix("READY ").and_then(|rest| rest.strip_suffix(&end));
        list.unwrap_or_else(|| panic!("{ready}")).split(' ').map(str::to_owned).collect()
    }

    /// The first TCP address of the first line.
    #[track_caller]
    pub(crate) fn tcp(&self) -> SocketAddr {
        let list = self.served();
        let found = list.iter().find_map(|word| word.strip_prefix("tcp=")?.parse().ok());
        found.unwrap_or_else(|| panic!("there is no TCP in {list:?}"))
    }

    /// A client that says nothing, once a server has it that had no connection before.
    #[track_caller]
    pub(crate) fn held(&self, to: SocketAddr, descriptors_before: usize) -> TcpStream {
        wait_until("other connections to be over", || self.descriptors().len() == descriptors_before);
        let silent = connect(to);
        wait_until("the connection", || self.descriptors().len() > descriptors_before);
        silent
    }

    #[track_caller]
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.pid());
        let mut shell = begin(Command::new("sh").args(["-c", &kill])).expect("a shell");
        assert!(shell.wait().is_ok_and(|status| status.success()), "{kill}");
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
        self.signal("TERM");
        assert_eq!(self.wait(), 0, "{}", self.errors.text());
    }

    pub(crate) fn descriptors(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("it runs");
        entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()).collect()
    }

    /// How often its threads have gone to sleep, which is as often as they woke up.
    pub(crate) fn sleeps(&self) -> u64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("it runs");
        let count = |status: String| {
            let mut lines = status.lines();
            lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")?.trim().parse::<u64>().ok())
        };
        let counts = tasks.map(|task| {
            let status = fs::read_to_string(task.expect("an entry").path().join("status")).expect("it runs");
            count(status).expect("the kernel counts them")
        });
        counts.sum()
    }

    /// That count, once nothing has woken it for a moment.
    #[track_caller]
    pub(crate) fn at_rest(&self) -> u64 {
        wait_for("some rest", || {
            let before = self.sleeps();
            thread::sleep(100 * STEP);
            (self.sleeps() == before).then_some(before)
        })
    }
}

// ---- clients --------------------------------------------------------------------------------------------------------

#[track_caller]
pub(crate) fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&to, PATIENCE).expect("the server listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("an option of every stream");
    stream
}

/// Connects and asks, without waiting for the answer.
#[track_caller]
pub(crate) fn begin_asking(to: SocketAddr) -> TcpStream {
    let stream = connect(to);
    (&stream).write_all(QUESTION).expect("the server is there");
    stream
}

/// What comes until the end of the stream, which must not be a reset.
#[track_caller]
pub(crate) fn rest(mut of: &TcpStream) -> String {
    let mut text = String::new();
    of.read_to_string(&mut text).expect("text, and then the end of the stream");
    text
}

#[track_caller]
pub(crate) fn ask(to: SocketAddr) -> String {
    rest(&begin_asking(to))
}

#[track_caller]
pub(crate) fn udp_client(to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(if to.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }).expect("a free port");
    socket.connect(to).expect("loopback is there");
    socket.set_read_timeout(Some(PATIENCE)).expect("an option of every socket");
    socket
}

#[track_caller]
pub(crate) fn ask_udp(client: &UdpSocket) -> String {
    client.send(b"Hello, UDP Server!").expect("loopback takes it");
    let mut answer = [0; 1024];
    let count = uninterrupted(|| client.recv(&mut answer)).expect("an answer comes");
    String::from_utf8_lossy(&answer[..count]).into_owned()
}

// ---- the supervisor's ear -------------------------------------------------------------------------------------------

/// The socket that `NOTIFY_SOCKET` names.
pub(crate) struct Ear {
    pub(crate) socket: UnixDatagram,
    pub(crate) path: String,
    _folder: TempDir,
}

impl Ear {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("notify").to_str().expect("a plain path").to_owned();
        let socket = UnixDatagram::bind(&path).expect("a short path");
        Self { socket, path, _folder: folder }
    }

    /// The next word.
    #[track_caller]
    pub(crate) fn hear(&self) -> String {
        self.hear_within(PATIENCE).expect("a word comes")
    }

    /// The next word, if one comes in that time.
    #[track_caller]
    pub(crate) fn hear_within(&self, time: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(time)).expect("an option of every socket");
        let mut word = [0; 1024];
        match uninterrupted(|| self.socket.recv(&mut word)) {
            Ok(count) => Some(String::from_utf8(word[..count].to_vec()).expect("words are text")),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("cannot hear: {error}"),
        }
    }
}
