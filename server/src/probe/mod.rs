//! `halloo probe`: queries a server and prints a line for each reply.
//!
//! No query takes longer than its timeout, the name lookup included. The exit status is that of the most severe result.

pub(crate) mod query;
mod race;

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use crate::cli::flags::probe_options::{ProbeOptions, ProbeProtocols};
use crate::exit::{ExitError, ExitStatus, cause_and_hint, describe_io_error};
use crate::output::standard_stream;
use crate::probe::query::{Outcome, Query, QueryResult};
use crate::process::inherited_signals;
use crate::text::address::{Address, Endpoint, IpVersion, describe_unknown_zone};
use crate::text::duration::format_elapsed;
use crate::text::protocol::Protocol;
use crate::text::unescape::Unescaped;

/// The longest payload of a datagram over IPv4, in bytes: 65,535 less both headers (RFC 768).
const DATAGRAM_BYTES_MAX: usize = 65_507;

/// The text for a resolver that takes too long.
const NO_ADDRESS: &str = "no address for the name";

/// Runs the queries and prints one line for each.
pub(crate) fn run(options: &ProbeOptions) -> Result<ExitStatus, ExitError> {
    inherited_signals::end_process_on_signals();
    options.warnings.iter().for_each(|warning| write_to_stderr(warning));
    let protocols = select_protocols(options);
    validate(options, protocols)?;
    let mut worst = Outcome::Ok;
    let mut first_error: Option<io::Error> = None;
    let is_reader_gone = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    for _ in 0..options.count {
        for &protocol in protocols {
            let result = query_target(options, protocol);
            worst = worst.max(result.outcome);
            if let Err(error) = print(protocol, &options.address, &result) {
                first_error.get_or_insert(error);
            }
        }
        // A reader that has closed the pipe, such as head, has read enough.
        if first_error.as_ref().is_some_and(is_reader_gone) {
            break;
        }
    }
    if let Some(error) = first_error.filter(|error| !is_reader_gone(error)) {
        let cause = describe_io_error(&error);
        write_to_stderr(&format!("cannot write to standard output: {cause}; the exit status is that of the replies"));
    }
    Ok(worst.status())
}

/// Prints a result on standard output, and its notes on standard error.
fn print(protocol: Protocol, target: &Endpoint, result: &QueryResult) -> io::Result<()> {
    let address = result.address.map_or_else(|| target.to_string(), |address| address.to_string());
    for note in &result.notes {
        write_to_stderr(&format!("{protocol} {address}: {note}"));
    }
    let (word, elapsed, text) = (result.outcome.as_str(), format_elapsed(result.elapsed), &result.text);
    standard_stream::stdout().write_line(format_args!("{protocol} {address} {word} {elapsed} {text}"))
}

fn write_to_stderr(message: &str) {
    // If standard error is closed, the exit status remains.
    let _ = standard_stream::stderr().write_line(format_args!("halloo: {message}"));
}

fn select_protocols(options: &ProbeOptions) -> &'static [Protocol] {
    let ProbeProtocols { tcp, udp, connect_only } = options.protocols;
    match (&options.address, tcp || connect_only, udp) {
        (Endpoint::Unix(_), ..) => &[Protocol::Unix],
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
            "{send} is too long: it has {bytes} bytes, a datagram at most {DATAGRAM_BYTES_MAX}; shorten it, or use --tcp only"
        ));
    }
    Ok(())
}

/// Queries the target: a path, or the addresses of a name until a server replies at one.
fn query_target(options: &ProbeOptions, protocol: Protocol) -> QueryResult {
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
        Endpoint::Unix(path) => return query.run_unix(path),
        Endpoint::Internet(address) => {
            let version = options.addresses.ip_version().map(|version| {
                let setting = if version == IpVersion::V4 { "ipv4" } else { "ipv6" };
                (version, options.given.name(setting).unwrap_or_default())
            });
            find_addresses(address, version, &query)
        }
    };
    match addresses {
        Err(result) => result,
        Ok(addresses) if protocol == Protocol::Udp => query.run_udp(&addresses),
        Ok(addresses) => query.run_tcp(&addresses),
    }
}

/// The addresses to try, in order, or the result if there is none. The version comes with the setting that chose it.
fn find_addresses(
    address: &Address,
    ip_version: Option<(IpVersion, &str)>,
    query: &Query<'_>,
) -> Result<Vec<SocketAddr>, QueryResult> {
    let resolved = if address.is_name() { resolve_on_thread(address, query)? } else { address.resolve_in_order() };
    let mut addresses = resolved.map_err(|error| lookup_failure(address, &error, query))?;
    if addresses.is_empty() {
        return Err(query.result(Outcome::Dns, "the name has no address"));
    }
    if let Some((version, setting)) = ip_version {
        addresses.retain(|address| version.includes(*address));
        if addresses.is_empty() {
            return Err(query.result(
                Outcome::Dns,
                format!("the name has no {version} address, and {setting} excludes all others"),
            ));
        }
    }
    Ok(addresses)
}

/// Asks the resolver on a thread of its own: the call has no timeout, so the thread may outlive the query.
fn resolve_on_thread(address: &Address, query: &Query<'_>) -> Result<io::Result<Vec<SocketAddr>>, QueryResult> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let address = address.clone();
    let resolver = thread::Builder::new().spawn(move || sender.send(address.resolve_in_order()));
    if let Err(error) = resolver {
        return Ok(Err(error));
    }
    let time_left = query.time_left().map_err(|_| query.timeout_result(NO_ADDRESS))?;
    receiver.recv_timeout(time_left).map_err(|_| query.timeout_result(NO_ADDRESS))
}

/// The result for a name or a zone without an address.
fn lookup_failure(address: &Address, error: &io::Error, query: &Query<'_>) -> QueryResult {
    if let Some(zone) = address.zone() {
        return query.result(Outcome::Unreachable, describe_unknown_zone(zone));
    }
    if is_about_the_resolver(error) {
        let cause = cause_and_hint(error, "check the name servers of this machine");
        return query.result(Outcome::Resolver, format!("the name could not be looked up: {cause}"));
    }
    query.result(Outcome::Dns, format!("the name is unknown: {}", describe_io_error(error)))
}

/// Whether the resolver failed, so that the name may exist. The standard library keeps only the text of its errors.
fn is_about_the_resolver(error: &io::Error) -> bool {
    // EAI_AGAIN and EAI_FAIL of glibc, musl and the BSDs; EAI_MEMORY; EAI_SYSTEM has an error number.
    const TEXTS: [&str; 4] = ["temporary failure", "try again", "non-recoverable", "memory"];
    let text = error.to_string().to_ascii_lowercase();
    error.raw_os_error().is_some() || TEXTS.iter().any(|part| text.contains(part))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::io;
    use std::time::{Duration, Instant};

    use super::{ExitStatus, IpVersion, Outcome, Query, find_addresses, is_about_the_resolver, run, select_protocols};
    use crate::cli::flags::probe_options::ProbeOptions;
    use crate::cli::parse::{Invocation, parse_arguments};
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
    fn a_question_longer_than_a_datagram_is_a_usage_error() {
        let mut long = options("halloo probe localhost:1");
        long.send = "x".repeat(70_000).parse().ok();
        let error = run(&long).unwrap_err();
        assert!(error.status == ExitStatus::UsageError && error.message.contains("--tcp"), "{}", error.message);
    }

    #[test]
    fn only_a_name_is_looked_up() {
        let query = Query { send: None, expect: None, started: Instant::now(), timeout: Duration::ZERO };
        for (text, count) in [("localhost:1", 2), ("127.0.0.1:1", 1), ("[::1]:1", 1)] {
            let addresses = find_addresses(&text.parse().unwrap(), None, &query).unwrap();
            assert_eq!(addresses.len(), count, "{text}");
        }
        let name = "no-such-name.invalid:1".parse().unwrap();
        assert_eq!(find_addresses(&name, None, &query).unwrap_err().outcome, Outcome::Timeout);
        let zone = "[fe80::1%nowhere]:1".parse().unwrap();
        let result = find_addresses(&zone, None, &query).unwrap_err();
        assert_eq!(result.outcome, Outcome::Unreachable);
        assert!(result.text.contains("no interface nowhere"), "{}", result.text);
    }

    #[test]
    fn the_addresses_of_a_name_can_be_limited_to_one_version() {
        let query = Query { send: None, expect: None, started: Instant::now(), timeout: Duration::ZERO };
        let chosen = |version| find_addresses(&"localhost:1".parse().unwrap(), version, &query).unwrap();
        assert_eq!(chosen(None), ["127.0.0.1:1".parse().unwrap(), "[::1]:1".parse().unwrap()]);
        assert_eq!(chosen(Some((IpVersion::V4, "-4"))), ["127.0.0.1:1".parse().unwrap()]);
        assert_eq!(chosen(Some((IpVersion::V6, "-6"))), ["[::1]:1".parse().unwrap()]);
    }

    #[test]
    fn a_failing_resolver_and_an_unknown_name_are_distinguished() {
        let error = |text: &str| io::Error::other(format!("failed to lookup address information: {text}"));
        // glibc, musl, macOS.
        for unknown in [
            "Name or service not known",
            "No address associated with hostname",
            "Name does not resolve",
            "nodename nor servname provided, or not known",
        ] {
            assert!(!is_about_the_resolver(&error(unknown)), "{unknown}");
        }
        for failing in [
            "Temporary failure in name resolution",
            "Non-recoverable failure in name resolution",
            "Memory allocation failure",
            "Try again",
            "Non-recoverable error",
        ] {
            assert!(is_about_the_resolver(&error(failing)), "{failing}");
        }
        assert!(is_about_the_resolver(&io::Error::from_raw_os_error(24)));
    }
}
