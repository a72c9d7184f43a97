//! `halloo probe`: queries servers and prints a line for each reply.
//!
//! Each target is queried over each protocol on a thread of its own. The exit status is that of the most severe result.

pub(crate) mod latencies;
pub(crate) mod lookup;
pub(crate) mod proxy_prefix;
pub(crate) mod query;
pub(crate) mod query_result;
mod race;
mod report;
mod requesters;

use std::io;
use std::process;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::{flag, low_level};

use crate::cli::flags::probe_options::{ProbeOptions, ProbeProtocols, ProxySource};
use crate::cli::without_effect::probe_settings_without_effect;
use crate::exit::{ExitError, ExitStatus, describe_io_error};
use crate::output::standard_stream;
use crate::probe::proxy_prefix::PROXY_PREFIX_BYTES_MAX;
use crate::probe::query_result::Outcome;
use crate::probe::report::Lane;
use crate::probe::requesters::Requesters;
use crate::process::inherited_signals;
use crate::text::address::Endpoint;
use crate::text::protocol::Protocol;
use crate::text::unescape::Unescaped;

/// The longest payload of a datagram over IPv4, in bytes: 65,535 less both headers (RFC 768).
const DATAGRAM_BYTES_MAX: usize = 65_507;

/// Runs the queries and prints their results.
pub(crate) fn run(options: &ProbeOptions) -> Result<ExitStatus, ExitError> {
    let lanes = lanes(options);
    validate(options, &lanes)?;
    let has_udp = lanes.iter().any(|lane| lane.protocol == Protocol::Udp);
    for warning in options.warnings.iter().chain(&probe_settings_without_effect(options, has_udp)) {
        write_to_stderr(warning);
    }
    let requesters = Arc::new(Requesters::new(options.clone(), lanes));
    if options.repetition.count == 1 {
        inherited_signals::end_process_on_signals();
    } else {
        end_requests_on_signals(&requesters).map_err(|error| ExitError::from_io("cannot watch for signals", &error))?;
    }
    requesters.start()?;
    let run_end = requesters.wait_for_end();
    if let Some(error) = run_end.output_error {
        let cause = describe_io_error(&error);
        write_to_stderr(&format!("cannot write to standard output: {cause}; the exit status is that of the replies"));
    }
    match (run_end.worst, run_end.signal) {
        (None, Some(signal)) => end_by_signal(signal),
        (worst, _) => Ok(worst.map_or(ExitStatus::Success, Outcome::status)),
    }
}

/// Lets the first SIGINT or SIGTERM end the requests, and the second one the process. A parent may ignore them.
fn end_requests_on_signals(requesters: &Arc<Requesters>) -> io::Result<()> {
    let signals: Vec<i32> =
        [SIGINT, SIGTERM].into_iter().filter(|signal| !inherited_signals::is_ignored(*signal)).collect();
    let is_second = Arc::new(AtomicBool::new(false));
    for &signal in &signals {
        // Standard output may be a pipe without a reader, where the summary would wait.
        flag::register_conditional_shutdown(signal, status_of_signal(signal), Arc::clone(&is_second))?;
        flag::register(signal, Arc::clone(&is_second))?;
    }
    let mut received = Signals::new(&signals)?;
    inherited_signals::unblock_signals();
    let requesters = Arc::clone(requesters);
    thread::Builder::new()
        .spawn(move || received.forever().take(1).for_each(|signal| requesters.end_by_signal(signal)))?;
    Ok(())
}

/// Ends the process as the signal does by default.
fn end_by_signal(signal: i32) -> ! {
    // The kernel discards a signal to process 1 that has the default action.
    let _ = low_level::emulate_default_handler(signal);
    process::exit(status_of_signal(signal))
}

/// The exit status of a process that a signal has ended, as shells have it.
const fn status_of_signal(signal: i32) -> i32 {
    128 + signal
}

fn write_to_stderr(message: &str) {
    // If standard error is closed, the exit status remains.
    let _ = standard_stream::stderr().write_line(format_args!("halloo: {message}"));
}

/// The targets as given, each over its protocols.
fn lanes(options: &ProbeOptions) -> Vec<Lane> {
    let over_protocols = |target: &Endpoint| {
        let lane = |&protocol| Lane { protocol, target: target.clone() };
        select_protocols(&options.protocols, target).iter().map(lane).collect::<Vec<Lane>>()
    };
    options.targets.iter().flat_map(over_protocols).collect()
}

fn select_protocols(protocols: &ProbeProtocols, target: &Endpoint) -> &'static [Protocol] {
    let &ProbeProtocols { tcp, udp, connect_only } = protocols;
    match (target, tcp || connect_only, udp) {
        (Endpoint::Unix(_), ..) => &[Protocol::Unix],
        (_, true, false) => &[Protocol::Tcp],
        (_, false, true) => &[Protocol::Udp],
        _ => &[Protocol::Tcp, Protocol::Udp],
    }
}

fn validate(options: &ProbeOptions, lanes: &[Lane]) -> Result<(), ExitError> {
    let usage_error = |message: String| Err(ExitError::new(ExitStatus::UsageError, message));
    let bytes = options.send.as_ref().map_or(0, |Unescaped(bytes)| bytes.len());
    let has_header = !matches!(options.proxy, None | Some(ProxySource::None));
    let bytes_max = DATAGRAM_BYTES_MAX - if has_header { PROXY_PREFIX_BYTES_MAX } else { 0 };
    if lanes.iter().any(|lane| lane.protocol == Protocol::Udp) && bytes > bytes_max {
        let send = options.given.name("send").unwrap_or("--send");
        let header = if has_header { " after a PROXY header" } else { "" };
        return usage_error(format!(
            "{send} is too long: it has {bytes} bytes, a datagram at most {bytes_max}{header}; shorten it, or use --tcp \
             only"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::{ExitStatus, lanes, run};
    use crate::cli::flags::probe_options::ProbeOptions;
    use crate::cli::parse::{Invocation, parse_arguments};

    fn options(line: &str) -> ProbeOptions {
        let arguments: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        match parse_arguments(&arguments).unwrap() {
            Invocation::Probe(options) => *options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_target_is_asked_over_both_protocols_unless_one_is_named() {
        for (line, expected) in [
            ("halloo probe 1", &["tcp localhost:1", "udp localhost:1"][..]),
            ("halloo probe 1 --tcp --udp", &["tcp localhost:1", "udp localhost:1"]),
            ("halloo probe 1 --udp", &["udp localhost:1"]),
            ("halloo probe 1 --connect-only", &["tcp localhost:1"]),
            ("halloo probe unix:/a --connect-only", &["unix /a"]),
            ("halloo probe 2 unix:/a 1 --tcp", &["tcp localhost:2", "unix /a", "tcp localhost:1"]),
        ] {
            let lanes = lanes(&options(line));
            let found: Vec<String> = lanes.iter().map(|lane| format!("{} {}", lane.protocol, lane.target)).collect();
            assert_eq!(found, expected, "{line}");
        }
    }

    #[test]
    fn a_question_longer_than_a_datagram_is_a_usage_error() {
        for (line, bytes) in [("halloo probe localhost:1", 65_508), ("halloo probe --proxy localhost:1", 65_456)] {
            let mut long = options(line);
            long.send = "x".repeat(bytes).parse().ok();
            let error = run(&long).unwrap_err();
            assert!(error.status == ExitStatus::UsageError && error.message.contains("--tcp"), "{}", error.message);
        }
    }
}
