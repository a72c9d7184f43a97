//! `halloo serve`: puts the parts together, runs the loop, and says how it ended.
//!
//! The server's main flow. It promises the READY line before any other line on standard output and only once every
//! address is served; that printing never holds up a client; and an end that waits for no stuck output.
//! It never serves on after a limit is reached.

use std::cell::RefCell;
use std::error::Error as _;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use halloo::{DrainReport, EventLoop, Turn};

use crate::desk::{Desk, Greetings, Limit};
use crate::duration::show;
use crate::exit::{Failure, Status};
use crate::logger;
use crate::options::ServeOptions;
use crate::outputs::{Line, Outputs};
use crate::printer::Printer;
use crate::protocol::Protocol;
use crate::reporter::Reporter;
use crate::signals;
use crate::sockets::{self, Served};

/// What the printer gets at the end to write what is still queued.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// Serves until asked to stop.
pub(crate) fn run(options: &ServeOptions) -> Result<Status, Failure> {
    let greetings = Greetings::new(&options.replies)?;
    raise_descriptor_limit();
    let printer = Printer::start(Outputs::standard(options.output.events))
        .map_err(|error| Failure::of_system("cannot start the printing thread", &error))?;
    logger::install(printer.clone(), logger::level(options.output.verbose, options.output.quiet));
    let status = serve(options, greetings, &printer).unwrap_or_else(|failure| {
        printer.print(Line::Sentence(failure.to_string()));
        failure.status
    });
    printer.finish(LAST_WORDS);
    Ok(status)
}

fn serve(options: &ServeOptions, greetings: Greetings, printer: &Printer) -> Result<Status, Failure> {
    let ServeOptions { listening, replies, limits, lifetime, output } = options;
    let limit = Limit { greetings_max: lifetime.max_greetings, drain_timeout: lifetime.drain_timeout };
    let desk = RefCell::new(Desk::new(greetings, limit, Reporter::new(printer.clone(), output.events)));
    let mut events = EventLoop::new().map_err(|error| broken(&error))?;
    let served = sockets::open(&mut events, listening, limits, replies.mode, &desk)?;
    signals::watch(events.handle(), lifetime.drain_timeout, printer.clone())
        .map_err(|error| Failure::of_system("cannot catch signals", &error))?;
    if served.iter().any(|(protocol, _)| *protocol == Protocol::Tcp) {
        spare_descriptor().map_err(|error| Failure::of_system("cannot serve any client", &error))?;
    }
    printer.print(Line::Output(ready(&served)));
    let report = match lifetime.exit_when_idle {
        None => events.run(),
        Some(patience) => run_until_idle(&mut events, patience, lifetime.drain_timeout, &desk),
    };
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

/// Turns until nothing has happened for so long, then until the loop has drained.
fn run_until_idle(
    events: &mut EventLoop<'_>,
    patience: Duration,
    drain_timeout: Duration,
    desk: &RefCell<Desk>,
) -> halloo::Result<DrainReport> {
    let mut idle_since = Instant::now();
    let mut given_before = 0;
    loop {
        // While a connection is open its end will wake the loop.
        let left = patience.saturating_sub(idle_since.elapsed());
        let wait = (events.stats().connections == 0).then_some(left);
        if let Turn::Stopped(report) = events.turn(wait)? {
            return Ok(report);
        }
        let given = desk.borrow().given();
        if events.stats().connections > 0 || given != given_before {
            given_before = given;
            idle_since = Instant::now();
        } else if idle_since.elapsed() >= patience {
            log::info!("nothing to do for {}: stopping", show(patience));
            events.context().drain(drain_timeout);
            return events.run();
        }
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
    use super::ready;
    use crate::protocol::Protocol;

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
