//! `--proxy`: the PROXY header of version 2 before a request.
//!
//! Both addresses of a header are of one family, as the specification requires.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use proxy_header::{Protocol, ProxiedAddress, ProxyHeader};
use socket2::Socket;

use crate::cli::flags::probe_options::ProxySource;

/// The longest header that a probe sends, in bytes: the head, two IPv6 addresses and two ports.
pub(crate) const PROXY_PREFIX_BYTES_MAX: usize = 16 + 36;

/// The header for a connected socket; empty without `--proxy`.
pub(crate) fn proxy_prefix(source: ProxySource, protocol: Protocol, socket: &Socket) -> io::Result<Vec<u8>> {
    if source == ProxySource::None {
        return Ok(Vec::new());
    }
    let local = socket.local_addr()?.as_socket();
    encode(source, protocol, local, socket.peer_addr()?.as_socket())
}

/// The header with the client and the server as its addresses. They are missing for a unix socket.
fn encode(
    source: ProxySource,
    protocol: Protocol,
    local: Option<SocketAddr>,
    peer: Option<SocketAddr>,
) -> io::Result<Vec<u8>> {
    let client = match source {
        ProxySource::None => return Ok(Vec::new()),
        ProxySource::Own => local,
        ProxySource::Ip(ip) => Some(SocketAddr::new(ip, local.map_or(0, |local| local.port()))),
        ProxySource::Address(address) => Some(address),
    };
    let header = match client {
        // The connection of a proxy itself: the server uses the addresses of the connection.
        None => ProxyHeader::with_local(),
        Some(client) => {
            let unspecified = || SocketAddr::new(unspecified_like(client.ip()), 0);
            let (source, destination) = of_one_family(client, peer.unwrap_or_else(unspecified));
            ProxyHeader::with_address(ProxiedAddress { protocol, source, destination })
        }
    };
    let mut bytes = Vec::with_capacity(PROXY_PREFIX_BYTES_MAX);
    header.encode_v2(&mut bytes).map_err(|error| io::Error::other(format!("no PROXY header: {error}")))?;
    Ok(bytes)
}

fn unspecified_like(ip: IpAddr) -> IpAddr {
    if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

/// Maps an IPv4 address to IPv6 if the other one is of IPv6.
fn of_one_family(source: SocketAddr, destination: SocketAddr) -> (SocketAddr, SocketAddr) {
    let mapped = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    };
    if source.is_ipv4() == destination.is_ipv4() {
        (source, destination)
    } else {
        (mapped(source), mapped(destination))
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proxy_header::Protocol;

    use super::{PROXY_PREFIX_BYTES_MAX, ProxySource, encode};
    use crate::proxy::header::{Parsed, parse_datagram, parse_stream};

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_servers_parser_finds_the_client_in_each_header() {
        let source = ProxySource::Address(address("192.0.2.7:4711"));
        let ipv6_source = ProxySource::Ip("2001:db8::7".parse().unwrap());
        for (source, local, peer, client) in [
            (ProxySource::Own, "127.0.0.1:5", "127.0.0.1:9", "127.0.0.1:5"),
            (source, "127.0.0.1:5", "127.0.0.1:9", "192.0.2.7:4711"),
            (source, "[::1]:5", "[::1]:9", "192.0.2.7:4711"),
            (ipv6_source, "[::1]:5", "[::1]:9", "[2001:db8::7]:5"),
            (ipv6_source, "127.0.0.1:5", "127.0.0.1:9", "[2001:db8::7]:5"),
        ] {
            let addresses = (Some(address(local)), Some(address(peer)));
            for (protocol, parse) in
                [(Protocol::Stream, parse_stream as fn(&[u8]) -> Parsed), (Protocol::Datagram, parse_datagram)]
            {
                let header = encode(source, protocol, addresses.0, addresses.1).unwrap();
                assert!([28, PROXY_PREFIX_BYTES_MAX].contains(&header.len()), "{}", header.len());
                let expected = Parsed::Header { client: Some(address(client)), length: header.len() };
                assert_eq!(parse(&[&header, &b"hello"[..]].concat()), expected);
            }
        }
    }

    #[test]
    fn over_a_unix_socket_only_a_given_source_is_an_address() {
        let header = encode(ProxySource::Own, Protocol::Stream, None, None).unwrap();
        assert_eq!(parse_stream(&header), Parsed::Header { client: None, length: 16 });
        let source = address("192.0.2.7:4711");
        let header = encode(ProxySource::Address(source), Protocol::Stream, None, None).unwrap();
        assert_eq!(parse_stream(&header), Parsed::Header { client: Some(source), length: 28 });
        assert_eq!(encode(ProxySource::None, Protocol::Stream, None, None).unwrap(), Vec::<u8>::new());
    }
}
