//! A query to a path, or to the addresses of a name.
//!
//! No query takes longer than its timeout, the name lookup included.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::cli::flags::probe_options::ProbeOptions;
use crate::exit::{cause_and_hint, describe_io_error};
use crate::probe::query::Query;
use crate::probe::query_result::{Outcome, Presence, QueryResult};
use crate::text::address::{Address, Endpoint, IpVersion, describe_unknown_zone};
use crate::text::protocol::Protocol;
use crate::text::unescape::Unescaped;

/// The text for a resolver that takes too long.
const NO_ADDRESS: &str = "no address for the name";

/// Queries the target: a path, or the addresses of a name until a server replies at one.
pub(crate) fn query_target(
    options: &ProbeOptions,
    protocol: Protocol,
    target: &Endpoint,
    timeout: Duration,
) -> QueryResult {
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
        timeout,
        retries: options.repetition.retries,
        proxy: options.proxy.unwrap_or_default(),
    };
    let addresses = match target {
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
        Err(result) => *result,
        Ok(addresses) if protocol == Protocol::Udp => query.run_udp(&addresses),
        Ok(addresses) => query.run_tcp(&addresses),
    }
}

/// The addresses to try, in order, or the result if there is none. The version comes with the setting that chose it.
fn find_addresses(
    address: &Address,
    ip_version: Option<(IpVersion, &str)>,
    query: &Query<'_>,
) -> Result<Vec<SocketAddr>, Box<QueryResult>> {
    let resolved = if address.is_name() { resolve_on_thread(address, query)? } else { address.resolve_in_order() };
    let mut addresses = resolved.map_err(|error| Box::new(lookup_failure(address, &error, query)))?;
    if addresses.is_empty() {
        return Err(Box::new(query.result(Outcome::Dns, "the name has no address")));
    }
    if let Some((version, setting)) = ip_version {
        addresses.retain(|address| version.includes(*address));
        if addresses.is_empty() {
            let text = format!("the name has no {version} address, and {setting} excludes all others");
            return Err(Box::new(query.result(Outcome::Dns, text)));
        }
    }
    Ok(addresses)
}

/// Asks the resolver on a thread of its own: the call has no timeout, so the thread may outlive the query.
fn resolve_on_thread(address: &Address, query: &Query<'_>) -> Result<io::Result<Vec<SocketAddr>>, Box<QueryResult>> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let address = address.clone();
    let resolver = thread::Builder::new().spawn(move || sender.send(address.resolve_in_order()));
    if let Err(error) = resolver {
        return Ok(Err(error));
    }
    let timeout_result = || Box::new(QueryResult { presence: Presence::Unknown, ..query.timeout_result(NO_ADDRESS) });
    let time_left = query.time_left().map_err(|_| timeout_result())?;
    receiver.recv_timeout(time_left).map_err(|_| timeout_result())
}

/// The result for a name or a zone without an address.
fn lookup_failure(address: &Address, error: &io::Error, query: &Query<'_>) -> QueryResult {
    if let Some(zone) = address.zone() {
        let result = query.result(Outcome::Unreachable, describe_unknown_zone(zone));
        return QueryResult { presence: Presence::Absent, ..result };
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
    use std::io;
    use std::time::{Duration, Instant};

    use super::{IpVersion, Outcome, Query, find_addresses, is_about_the_resolver};
    use crate::cli::flags::probe_options::ProxySource;

    fn query() -> Query<'static> {
        let (started, timeout, proxy) = (Instant::now(), Duration::ZERO, ProxySource::None);
        Query { send: None, expect: None, started, timeout, retries: 0, proxy }
    }

    #[test]
    fn only_a_name_is_looked_up() {
        let query = query();
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
        let query = query();
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
