//! `halloo probe`: queries a server and prints a line for each reply.
//!
//! No query takes longer than its timeout, the name lookup included. The exit status is that of the most severe result.

pub(crate) mod query;

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use crate::cli::flags::{ProbeOptions, ProbeProtocols};
use crate::exit::{ExitError, ExitStatus, describe_io_error};
use crate::output::standard_stream;
use crate::probe::query::{Outcome, Query, QueryResult};
use crate::text::address::{Address, ProbeTarget};
use crate::text::duration::format_elapsed;
use crate::text::protocol::Protocol;
use crate::text::unescape::Unescaped;

/// The most a datagram carries over IPv4 (RFC 768, less both headers), in bytes.
const DATAGRAM_BYTES_MAX: usize = 65_507;

/// What is missing if the resolver takes too long.
const NO_ADDRESS: &str = "no address for the name";

/// Runs the queries and prints one line for each.
pub(crate) fn run(options: &ProbeOptions) -> Result<ExitStatus, ExitError> {
    for warning in &options.warnings {
        let _ = standard_stream::stderr().write_line(format_args!("halloo: {warning}"));
    }
    let protocols = select_protocols(options);
    validate(options, protocols)?;
    let mut worst = Outcome::Ok;
    for _ in 0..options.count {
        for &protocol in protocols {
            let (address, result) = query_target(options, protocol);
            let QueryResult { outcome, elapsed, text } = result;
            worst = worst.max(outcome);
            // Standard output may be closed; the exit status is still wanted.
            let (word, elapsed) = (outcome.as_str(), format_elapsed(elapsed));
            let _ = standard_stream::stdout().write_line(format_args!("{protocol} {address} {word} {elapsed} {text}"));
        }
    }
    Ok(worst.status())
}

fn select_protocols(options: &ProbeOptions) -> &'static [Protocol] {
    let ProbeProtocols { tcp, udp, connect_only } = options.protocols;
    match (&options.address, tcp || connect_only, udp) {
        (ProbeTarget::Unix(_), ..) => &[Protocol::Unix],
        (_, true, false) => &[Protocol::Tcp],
        (_, false, true) => &[Protocol::Udp],
        _ => &[Protocol::Tcp, Protocol::Udp],
    }
}

fn validate(options: &ProbeOptions, protocols: &[Protocol]) -> Result<(), ExitError> {
    let usage_error = |message: String| Err(ExitError::new(ExitStatus::UsageError, message));
    let bytes = options.send.as_ref().map_or(0, |Unescaped(bytes)| bytes.len());
    if protocols.contains(&Protocol::Udp) && bytes > DATAGRAM_BYTES_MAX {
        let send = options.given.name("send").unwrap_or("--send");
        return usage_error(format!(
            "{send} has {bytes} bytes and a datagram holds {DATAGRAM_BYTES_MAX}; shorten it, or ask with --tcp alone"
        ));
    }
    Ok(())
}

/// Queries the first address where a server listens; returns that address and the result.
fn query_target(options: &ProbeOptions, protocol: Protocol) -> (String, QueryResult) {
    let default = match protocol {
        // A server that reads lines waits for the end of one.
        Protocol::Tcp | Protocol::Unix => "Hello, TCP Server!\n",
        Protocol::Udp => "Hello, UDP Server!",
    };
    let send = options.send.as_ref().map_or(default.as_bytes(), |Unescaped(bytes)| bytes);
    let query = Query {
        send: (!options.protocols.connect_only).then_some(send),
        expect: options.expect.as_ref().map(|Unescaped(bytes)| bytes.as_slice()),
        started: Instant::now(),
        timeout: options.timeout,
    };
    let addresses = match &options.address {
        ProbeTarget::Unix(path) => return (options.address.to_string(), query.run_unix(path)),
        ProbeTarget::Internet(address) => match resolve_before_timeout(address, &query) {
            Ok(addresses) => addresses,
            Err(result) => return (options.address.to_string(), result),
        },
    };
    let mut first_failure = None;
    for address in addresses {
        let result = match protocol {
            Protocol::Udp => query.run_udp(address),
            Protocol::Tcp | Protocol::Unix => query.run_tcp(address),
        };
        let is_unreachable = matches!(result.outcome, Outcome::Refused | Outcome::Unreachable);
        let address_and_result = (address.to_string(), result);
        if !is_unreachable {
            return address_and_result;
        }
        first_failure.get_or_insert(address_and_result);
    }
    first_failure
        .unwrap_or_else(|| (options.address.to_string(), query.result(Outcome::Dns, "the name has no address")))
}

/// The addresses, or the result if there is none. A resolver knows no deadline, so it is asked on a thread of its own.
fn resolve_before_timeout(address: &Address, query: &Query<'_>) -> Result<Vec<SocketAddr>, QueryResult> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let address = address.clone();
    let resolver = thread::Builder::new().spawn(move || sender.send(address.resolve()));
    if let Err(error) = resolver {
        return Err(query.result(Outcome::Dns, describe_io_error(&error)));
    }
    let time_left = query.time_left().map_err(|_| query.timeout_result(NO_ADDRESS))?;
    match receiver.recv_timeout(time_left) {
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(error)) => {
            Err(query.result(Outcome::Dns, format!("the name is unknown: {}", describe_io_error(&error))))
        }
        Err(_) => Err(query.timeout_result(NO_ADDRESS)),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::net::TcpListener;

    use super::{ExitStatus, query_target, run, select_protocols};
    use crate::cli::flags::ProbeOptions;
    use crate::cli::parse::{Invocation, parse_arguments};
    use crate::probe::query::Outcome;
    use crate::text::protocol::Protocol;

    fn options(line: &str) -> ProbeOptions {
        let arguments: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        match parse_arguments(&arguments).unwrap() {
            Invocation::Probe(options) => *options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn both_protocols_are_asked_unless_one_is_named() {
        let both = [Protocol::Tcp, Protocol::Udp];
        assert_eq!(select_protocols(&options("halloo probe 1")), both);
        assert_eq!(select_protocols(&options("halloo probe 1 --tcp --udp")), both);
        assert_eq!(select_protocols(&options("halloo probe 1 --udp")), [Protocol::Udp]);
        assert_eq!(select_protocols(&options("halloo probe 1 --connect-only")), [Protocol::Tcp]);
        assert_eq!(select_protocols(&options("halloo probe unix:/a --connect-only")), [Protocol::Unix]);
    }

    #[test]
    fn what_cannot_be_asked_is_a_usage_error() {
        let mut long = options("halloo probe localhost:1");
        long.send = "x".repeat(70_000).parse().ok();
        let error = run(&long).unwrap_err();
        assert!(error.status == ExitStatus::UsageError && error.message.contains("--tcp"), "{}", error.message);
    }

    #[test]
    fn a_name_is_asked_where_somebody_listens() {
        // No server is on 127.0.0.1 of this port, or the test has found another pair.
        let Ok(listener) = TcpListener::bind("[::1]:0") else {
            return;
        };
        let port = listener.local_addr().unwrap().port();
        if TcpListener::bind(("127.0.0.1", port)).is_err() {
            return;
        }
        let (address, result) = query_target(&options(&format!("halloo probe {port} --connect-only")), Protocol::Tcp);
        assert_eq!((address, result.outcome), (format!("[::1]:{port}"), Outcome::Ok));
    }

    #[test]
    fn an_unknown_name_is_told_from_a_refused_connection() {
        let (address, result) =
            query_target(&options("halloo probe no-such-name.invalid:9 --timeout 20s"), Protocol::Udp);
        assert_eq!((address.as_str(), result.outcome), ("no-such-name.invalid:9", Outcome::Dns));
    }
}
