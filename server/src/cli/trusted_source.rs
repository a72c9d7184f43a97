//! The sources of believed PROXY headers: networks, or unix sockets.
//!
//! An IPv4 network also contains the IPv4 clients of an IPv6 socket.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use crate::text::escape::excerpt;

const SYNTAX_HINT: &str = "write a network such as 10.0.0.0/8 or fd00::/8, one address, or unix";

/// A network, or the clients of unix sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TrustedSource {
    Network(IpNet),
    Unix,
}

impl TrustedSource {
    /// Whether it contains a client: its address, or `None` for a client of a unix socket.
    pub(crate) fn contains(self, client: Option<IpAddr>) -> bool {
        match (self, client) {
            (Self::Network(network), Some(ip)) => network.contains(&ip.to_canonical()),
            (Self::Unix, None) => true,
            (Self::Network(_), None) | (Self::Unix, Some(_)) => false,
        }
    }
}

impl FromStr for TrustedSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.eq_ignore_ascii_case("unix") {
            return Ok(Self::Unix);
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self::Network(ip.to_canonical().into()));
        }
        let network = text.parse::<IpNet>().map_err(|_| format!("not a network: {}; {SYNTAX_HINT}", excerpt(text)))?;
        if network.trunc() == network {
            Ok(Self::Network(network))
        } else {
            Err(format!("{network} has bits after its prefix; write {}", network.trunc()))
        }
    }
}

impl fmt::Display for TrustedSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => network.fmt(formatter),
            Self::Unix => formatter.write_str("unix"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::TrustedSource;

    fn contains(source: &str, client: Option<&str>) -> bool {
        source.parse::<TrustedSource>().unwrap().contains(client.map(|ip| ip.parse().unwrap()))
    }

    #[test]
    fn a_network_contains_its_addresses_and_unix_the_clients_without_an_address() {
        for (source, client, is_within) in [
            ("10.0.0.0/8", Some("10.1.2.3"), true),
            ("10.0.0.0/8", Some("11.1.2.3"), false),
            ("10.0.0.0/8", Some("::ffff:10.1.2.3"), true),
            ("10.0.0.0/8", None, false),
            ("127.0.0.1", Some("127.0.0.1"), true),
            ("127.0.0.1", Some("127.0.0.2"), false),
            ("fd00::/8", Some("fd00::1"), true),
            ("0.0.0.0/0", Some("::1"), false),
            ("unix", None, true),
            ("Unix", Some("127.0.0.1"), false),
        ] {
            assert_eq!(contains(source, client), is_within, "{source} {client:?}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused_with_the_way_out() {
        for (text, hint) in [
            ("", "write a network such as 10.0.0.0/8"),
            ("all", "not a network: all; write a network such as"),
            ("10.0.0.0/33", "not a network"),
            ("10.1.2.3/8", "10.1.2.3/8 has bits after its prefix; write 10.0.0.0/8"),
        ] {
            let error = text.parse::<TrustedSource>().unwrap_err();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }
}
