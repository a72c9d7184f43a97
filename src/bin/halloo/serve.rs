//! `halloo serve`: puts the parts together, runs the loop, and says how it ended.
//!
//! The server's main flow. It promises the READY line before any other line on standard output and only once every
//! address is served; that printing never holds up a client, nor does a supervisor; and an end that waits for no stuck
//! output. It never serves on after a limit is reached.

use std::cell::RefCell;
use std::error::Error as _;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use halloo::{DrainReport, EventLoop, Turn};

use crate::activation::{self, Handed};
use crate::desk::{Desk, Greetings, Limit};
use crate::duration::show;
use crate::ending::Ending;
use crate::exit::{Failure, Status};
use crate::logger;
use crate::options::ServeOptions;
use crate::outputs::{Line, Outputs};
use crate::printer::Printer;
use crate::protocol::Protocol;
use crate::reporter::Reporter;
use crate::signals;
use crate::sockets::{self, Served};
use crate::supervisor::{Supervisor, Watchdog};

/// What the printer gets at the end to write what is still queued; only an output that is stuck takes all of it.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// The same after a failure: on a busy machine the printer's thread may have to wait for a processor, and the sentence
/// that says what failed must not get lost.
const LAST_WORDS_OF_FAILURE: Duration = Duration::from_secs(2);

/// Serves until asked to stop.
pub(crate) fn run(options: &ServeOptions) -> Result<Status, Failure> {
    // Before anything is opened and any thread begun.
    let handed = activation::take()?;
    let greetings = Greetings::new(&options.replies)?;
    raise_descriptor_limit();
    let printer = Printer::start(Outputs::standard(options.output.events))
        .map_err(|error| Failure::of_system("cannot start the printing thread", &error))?;
    logger::install(printer.clone(), logger::level(options.output.verbose, options.output.quiet));
    let (status, patience) = match serve(options, handed, greetings, &printer) {
        Ok(status) => (status, LAST_WORDS),
        Err(failure) => {
            printer.print(Line::Sentence(failure.to_string()));
            (failure.status, LAST_WORDS_OF_FAILURE)
        }
    };
    printer.finish(patience);
    Ok(status)
}

fn serve(
    options: &ServeOptions,
    handed: Vec<Handed>,
    greetings: Greetings,
    printer: &Printer,
) -> Result<Status, Failure> {
    let ServeOptions { listening, replies, limits, lifetime, output } = options;
    let supervisor = Supervisor::from_environment();
    let ending = Ending { drain_timeout: lifetime.drain_timeout, supervisor: supervisor.clone() };
    let limit = Limit { greetings_max: lifetime.max_greetings, ending: ending.clone() };
    let desk = RefCell::new(Desk::new(greetings, limit, Reporter::new(printer.clone(), output.events)));
    let mut events = EventLoop::new().map_err(|error| broken(&error))?;
    // A bug that one client's bytes bring out must not end the service of all others. Nothing here is left half done by
    // it: the desk's borrow ends as the panic passes, and a greeting counts only once it is given.
    events.catch_panics(true);
    let served = sockets::open(&mut events, handed, listening, limits, replies.mode, &desk)?;
    signals::watch(events.handle(), ending.clone(), printer.clone())
        .map_err(|error| Failure::of_system("cannot catch signals", &error))?;
    if served.iter().any(|(protocol, _)| *protocol == Protocol::Tcp) {
        spare_descriptor().map_err(|error| Failure::of_system("cannot serve any client", &error))?;
    }
    printer.print(Line::Output(ready(&served)));
    supervisor.ready();
    let company = Company { idleness: lifetime.exit_when_idle.map(Idleness::new), watchdog: supervisor.watchdog() };
    let report = company.run(&mut events, &desk, &ending);
    tell_end(report.map_err(|error| broken(&error))?);
    Ok(Status::Done)
}

/// Looks whether there is a descriptor left for a client: where there is none, all would wait for ever.
#[cfg(unix)]
fn spare_descriptor() -> std::io::Result<()> {
    use std::os::fd::AsFd;
    std::io::stderr().as_fd().try_clone_to_owned().map(drop)
}

#[cfg(not(unix))]
fn spare_descriptor() -> std::io::Result<()> {
    Ok(())
}

/// What looks at the loop between two turns; where nobody does, the loop wakes for its clients alone.
struct Company {
    idleness: Option<Idleness>,
    watchdog: Option<Watchdog>,
}

impl Company {
    /// Turns until the loop has drained.
    fn run(mut self, events: &mut EventLoop<'_>, desk: &RefCell<Desk>, ending: &Ending) -> halloo::Result<DrainReport> {
        loop {
            let idle_in = self.idleness.as_ref().and_then(|idleness| idleness.wait(events));
            let word_in = self.watchdog.as_ref().map(Watchdog::wait);
            let wait = idle_in.into_iter().chain(word_in).min();
            if let Turn::Stopped(report) = events.turn(wait)? {
                return Ok(report);
            }
            if let Some(watchdog) = &mut self.watchdog {
                watchdog.feed();
            }
            if let Some(idleness) = self.idleness.take_if(|idleness| idleness.is_over(events, desk)) {
                log::info!("nothing to do for {}: stopping", show(idleness.patience));
                ending.begin(events.context());
            }
        }
    }
}

/// Since when nothing has happened, and how long that may go on.
struct Idleness {
    patience: Duration,
    since: Instant,
    given_before: u64,
    connections_before: u64,
}

impl Idleness {
    fn new(patience: Duration) -> Self {
        Self { patience, since: Instant::now(), given_before: 0, connections_before: 0 }
    }

    /// How long the loop may wait; while a connection is open, its end will wake it.
    fn wait(&self, events: &EventLoop<'_>) -> Option<Duration> {
        (events.stats().connections == 0).then(|| self.patience.saturating_sub(self.since.elapsed()))
    }

    fn is_over(&mut self, events: &EventLoop<'_>, desk: &RefCell<Desk>) -> bool {
        let (connections, given) = (events.stats().connections, desk.borrow().given());
        // A connection that was open until this turn may have been so for long, and the time begins with its end.
        if connections + self.connections_before > 0 || given != self.given_before {
            self.since = Instant::now();
        }
        (self.given_before, self.connections_before) = (given, connections);
        self.since.elapsed() >= self.patience
    }
}

/// `READY tcp=127.0.0.1:8888 udp=127.0.0.1:8888 pid=4242`
fn ready(served: &[Served]) -> String {
    let mut line = "READY".to_owned();
    // Writing into a string cannot fail.
    for (protocol, address) in served {
        let _ = write!(line, " {protocol}={address}");
    }
    let _ = write!(line, " pid={}", std::process::id());
    line
}

fn tell_end(report: DrainReport) {
    let DrainReport { finished, forced, took, .. } = report;
    let took = show(Duration::from_millis(u64::try_from(took.as_millis()).unwrap_or(u64::MAX)));
    match (finished, forced) {
        (0, 0) => log::info!("stopped"),
        (_, 0) => log::info!("stopped after {took}; connections finished: {finished}"),
        _ => log::warn!("stopped after {took}; connections finished: {finished}, reset: {forced}"),
    }
}

fn broken(error: &halloo::Error) -> Failure {
    match error.source().and_then(|source| source.downcast_ref()) {
        Some(cause) => Failure::of_system(&error.to_string(), cause),
        None => Failure::new(Status::RunTime, error.to_string()),
    }
}

/// Takes all the descriptors the system allows: the soft limit is for programs that cannot poll more than 1,024.
#[cfg(target_os = "linux")]
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    // Where it cannot be raised, halloo serves as many as it may.
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

#[cfg(not(target_os = "linux"))]
fn raise_descriptor_limit() {}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpStream};
    use std::time::{Duration, Instant};

    use halloo::{EventLoop, stream};

    use super::{Idleness, ready};
    use crate::desk::Desk;
    use crate::options::Mode;
    use crate::protocol::Protocol;

    #[test]
    fn idleness_begins_with_the_end_of_a_connection_however_silent_it_was() {
        let mut events = EventLoop::new().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = events.listen(address, stream(|_, input| input.len())).unwrap();
        let (patience, desk) = (Duration::from_millis(200), Desk::silent(Mode::Greet, None, None));
        let mut idleness = Idleness::new(patience);
        let client = TcpStream::connect(events.local_addr(listener).unwrap()).unwrap();
        while events.stats().connections == 0 {
            let _ = events.turn(Some(patience)).unwrap();
            assert!(!idleness.is_over(&events, &desk));
        }
        // Nothing happens for longer than anybody would wait.
        let silent_since = Instant::now();
        while silent_since.elapsed() < 2 * patience {
            let _ = events.turn(Some(patience)).unwrap();
        }
        drop(client);
        while events.stats().connections > 0 {
            let _ = events.turn(None).unwrap();
        }
        assert!(!idleness.is_over(&events, &desk));
        let _ = events.turn(idleness.wait(&events)).unwrap();
        assert!(idleness.is_over(&events, &desk));
    }

    #[test]
    fn the_ready_line_names_every_socket_in_order() {
        let served = [
            (Protocol::Tcp, "127.0.0.1:8888".parse().unwrap()),
            (Protocol::Udp, "127.0.0.1:8888".parse().unwrap()),
            (Protocol::Tcp, "[::1]:8888".parse().unwrap()),
        ];
        let pid = std::process::id();
        assert_eq!(ready(&served), format!("READY tcp=127.0.0.1:8888 udp=127.0.0.1:8888 tcp=[::1]:8888 pid={pid}"));
    }
}
