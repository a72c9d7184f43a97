//! The sources of believed PROXY headers: networks, or unix sockets.
//!
//! An IPv4 network also contains the IPv4 clients of an IPv6 socket.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};

use crate::text::address::is_decimal;
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

    pub(crate) fn is_unix(self) -> bool {
        self == Self::Unix
    }

    /// Whether it contains every address of IPv4 or of IPv6.
    pub(crate) fn is_every_address(self) -> bool {
        matches!(self, Self::Network(network) if network.prefix_len() == 0)
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
        let network = text.parse::<IpNet>().map(to_ipv4_if_mapped).map_err(|_| describe_invalid(text))?;
        if network.trunc() == network {
            Ok(Self::Network(network))
        } else {
            Err(format!("{network} has bits after its prefix; write {}", network.trunc()))
        }
    }
}

/// The cause and the right form of a text that is no network.
fn describe_invalid(text: &str) -> String {
    if text.is_empty() {
        return format!("a network is missing; remove the comma, or {SYNTAX_HINT}");
    }
    let shown = excerpt(text);
    if let Ok(address) = text.parse::<SocketAddr>() {
        return format!("a network has no port; write {}", address.ip());
    }
    let plain = text.replace(['[', ']'], "");
    if plain != text && (plain.parse::<IpAddr>().is_ok() || plain.parse::<IpNet>().is_ok()) {
        return format!("leave out the brackets; write {plain}");
    }
    let (host, prefix) = text.split_once('/').unwrap_or((text, ""));
    if let Ok(ip) = host.parse::<IpAddr>()
        && is_decimal(prefix)
    {
        let longest = if ip.is_ipv4() { 32 } else { 128 };
        return format!("the prefix of {shown} is too long; write at most {longest}");
    }
    let is_name = !host.contains(':') && host.contains(|c: char| c.is_ascii_alphabetic());
    let cause = if is_name { "names are not looked up, " } else { "" };
    format!("not a network: {shown}; {cause}{SYNTAX_HINT}")
}

/// A network of IPv4-mapped addresses (`::ffff:0:0/96`) as the IPv4 network: clients are compared as IPv4.
fn to_ipv4_if_mapped(network: IpNet) -> IpNet {
    match network.addr().to_canonical() {
        IpAddr::V4(ip) if network.prefix_len() >= 96 => {
            Ipv4Net::new(ip, network.prefix_len() - 96).map_or(network, IpNet::V4)
        }
        _ => network,
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
            ("::ffff:10.0.0.0/104", Some("10.1.2.3"), true),
            ("::ffff:10.0.0.0/104", Some("11.1.2.3"), false),
            ("::/0", Some("10.1.2.3"), false),
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
            ("all", "not a network: all; names are not looked up, write a network such as"),
            ("10.0.0.0/33", "the prefix of 10.0.0.0/33 is too long; write at most 32"),
            ("10.1.2.3/8", "10.1.2.3/8 has bits after its prefix; write 10.0.0.0/8"),
        ] {
            let error = text.parse::<TrustedSource>().unwrap_err();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }
}
