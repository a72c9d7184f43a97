//! Parses PROXY headers, version 1 and 2, strictly.
//!
//! A header is accepted only if it follows the specification
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>) and has at most 536 bytes. The crate `proxy-header`
//! decodes the addresses. It accepts more than the specification: `PROXYX`, a port of `+1` or `007`, TLVs beyond the end.
//! So the syntax is checked before.

use std::net::SocketAddr;

use proxy_header::{ParseConfig, ProxyHeader};

use crate::greeting::worker_counters::HeaderError;

/// The longest header of version 1, with its CRLF: the specification, section 2.1.
const V1_BYTES_MAX: usize = 107;

/// The longest header of version 2: the specification asks senders to stay within the smallest TCP segment.
pub(crate) const HEADER_BYTES_MAX: usize = 536;

const V1_SIGNATURE: &[u8] = b"PROXY ";
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The signature, version and command, family and transport, and length of version 2.
const V2_HEAD_BYTES: usize = 16;

const COMMAND_LOCAL: u8 = 0x20;
const COMMAND_PROXY: u8 = 0x21;

/// The transport of a socket, as version 2 numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Stream = 1,
    Datagram = 2,
}

/// What the beginning of some input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// The beginning of a header, or nothing yet.
    Incomplete,
    /// A header of this length in bytes. The client is missing for `LOCAL`, `UNKNOWN`, `UNSPEC` and unix sockets: then
    /// the addresses of the connection itself apply.
    Header { client: Option<SocketAddr>, length: usize },
    /// Something else.
    NoHeader,
    /// A header that is refused.
    Invalid(HeaderError),
}

/// Whether input begins with the signature of a header; `None` if more input decides.
pub(crate) fn begins_with_signature(input: &[u8]) -> Option<bool> {
    let begins = |signature: &[u8]| input.starts_with(signature);
    if begins(V1_SIGNATURE) || begins(V2_SIGNATURE) {
        return Some(true);
    }
    let may_become = |signature: &[u8]| signature.starts_with(input);
    if may_become(V1_SIGNATURE) || may_become(V2_SIGNATURE) { None } else { Some(false) }
}

/// Parses the beginning of a stream.
pub(crate) fn parse_stream(input: &[u8]) -> Parsed {
    if input.starts_with(V2_SIGNATURE) {
        return parse_v2(input, Transport::Stream);
    }
    if input.starts_with(V1_SIGNATURE) {
        return parse_v1(input);
    }
    if begins_with_signature(input).is_none() { Parsed::Incomplete } else { Parsed::NoHeader }
}

/// Parses the beginning of a datagram, which is never incomplete.
pub(crate) fn parse_datagram(datagram: &[u8]) -> Parsed {
    if datagram.starts_with(V1_SIGNATURE) {
        return Parsed::Invalid(HeaderError::Version1Datagram);
    }
    if !has_v2_signature(datagram) {
        return Parsed::NoHeader;
    }
    match parse_v2(datagram, Transport::Datagram) {
        Parsed::Incomplete => Parsed::Invalid(HeaderError::Incomplete),
        parsed => parsed,
    }
}

/// Whether a datagram begins with the signature of version 2.
pub(crate) fn has_v2_signature(datagram: &[u8]) -> bool {
    datagram.starts_with(V2_SIGNATURE)
}

fn parse_v1(input: &[u8]) -> Parsed {
    let bounded = &input[..input.len().min(V1_BYTES_MAX)];
    let Some(newline) = bounded.iter().position(|byte| *byte == b'\n') else {
        return if input.len() < V1_BYTES_MAX { Parsed::Incomplete } else { Parsed::Invalid(HeaderError::TooLong) };
    };
    let line = &input[..=newline];
    if has_v1_syntax(line) { decode(line) } else { Parsed::Invalid(HeaderError::Malformed) }
}

/// Whether a line has the syntax of version 1, apart from that of its IP addresses.
fn has_v1_syntax(line: &[u8]) -> bool {
    let Some(rest) = line.strip_prefix(V1_SIGNATURE).and_then(|line| line.strip_suffix(b"\r\n")) else {
        return false;
    };
    // The specification ignores everything between UNKNOWN and the CRLF.
    if rest == b"UNKNOWN" || rest.starts_with(b"UNKNOWN ") {
        return !rest.contains(&b'\r');
    }
    let mut fields = rest.split(|byte| *byte == b' ');
    let (family, _addresses) = (fields.next(), [fields.next(), fields.next()]);
    let ports = [fields.next(), fields.next()];
    matches!(family, Some(b"TCP4" | b"TCP6"))
        && ports.iter().all(|port| port.is_some_and(is_decimal_without_leading_zeros))
        && fields.next().is_none()
}

fn is_decimal_without_leading_zeros(port: &[u8]) -> bool {
    match port {
        [b'0'] => true,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

fn parse_v2(input: &[u8], transport: Transport) -> Parsed {
    let Some(&[.., command, family, length_high, length_low]) = input.first_chunk::<V2_HEAD_BYTES>() else {
        return Parsed::Incomplete;
    };
    if !matches!(command, COMMAND_LOCAL | COMMAND_PROXY) {
        return Parsed::Invalid(HeaderError::Malformed);
    }
    let length = V2_HEAD_BYTES + usize::from(u16::from_be_bytes([length_high, length_low]));
    if length > HEADER_BYTES_MAX {
        return Parsed::Invalid(HeaderError::TooLong);
    }
    // Of LOCAL the specification ignores the family and the rest. Of UNSPEC it ignores the rest.
    let is_ignored = command == COMMAND_LOCAL || family == 0x00;
    let addresses_end = V2_HEAD_BYTES
        + match family {
            _ if is_ignored => 0,
            0x11 | 0x12 => 12,
            0x21 | 0x22 => 36,
            0x31 | 0x32 => 216,
            _ => return Parsed::Invalid(HeaderError::Malformed),
        };
    if length < addresses_end {
        return Parsed::Invalid(HeaderError::Malformed);
    }
    let Some(header) = input.get(..length) else {
        return Parsed::Incomplete;
    };
    if is_ignored {
        return Parsed::Header { client: None, length };
    }
    if !are_whole_tlvs(&header[addresses_end..]) {
        return Parsed::Invalid(HeaderError::Malformed);
    }
    if family & 0x0f != transport as u8 {
        return Parsed::Invalid(HeaderError::Unsupported);
    }
    decode(header)
}

/// Whether the bytes are TLVs: a type of one byte, a length of two, and as many bytes.
fn are_whole_tlvs(mut bytes: &[u8]) -> bool {
    while let [_, length_high, length_low, rest @ ..] = bytes {
        let Some(next) = rest.get(usize::from(u16::from_be_bytes([*length_high, *length_low]))..) else {
            return false;
        };
        bytes = next;
    }
    bytes.is_empty()
}

/// Decodes the addresses of a header of the right syntax.
fn decode(header: &[u8]) -> Parsed {
    match ProxyHeader::parse(header, ParseConfig::default()) {
        Ok((parsed, length)) if length == header.len() => {
            Parsed::Header { client: parsed.proxied_address().map(|addresses| canonical(addresses.source)), length }
        }
        _ => Parsed::Invalid(HeaderError::Malformed),
    }
}

/// An IPv4 client of an IPv6 socket of the proxy, as an IPv4 address.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::{HEADER_BYTES_MAX, Parsed, V2_SIGNATURE, parse_datagram, parse_stream};
    use crate::greeting::worker_counters::HeaderError;

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [V2_SIGNATURE, &[command, family], &length, body].concat()
    }

    /// The addresses 192.0.2.7:4711 and 198.51.100.1:80.
    const IPV4: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0x12, 0x67, 0, 80];

    fn header(client: Option<&str>, bytes: &[u8]) -> Parsed {
        let client = client.map(|client| client.parse::<SocketAddr>().unwrap());
        Parsed::Header { client, length: bytes.len() }
    }

    /// The header alone, with a request behind it, and cut at every byte.
    fn assert_stream(bytes: &[u8], expected: Parsed) {
        assert_eq!(parse_stream(bytes), expected, "{}", bytes.escape_ascii());
        assert_eq!(parse_stream(&[bytes, b"request\n"].concat()), expected, "{}", bytes.escape_ascii());
        if let Parsed::Header { .. } = expected {
            for end in 0..bytes.len() {
                assert_eq!(parse_stream(&bytes[..end]), Parsed::Incomplete, "{end} of {}", bytes.escape_ascii());
            }
        }
    }

    #[test]
    fn a_header_of_version_1_has_the_client_unless_it_is_unknown() {
        for (line, client) in [
            ("TCP4 192.0.2.7 198.51.100.1 4711 80", Some("192.0.2.7:4711")),
            ("TCP4 0.0.0.0 255.255.255.255 0 65535", Some("0.0.0.0:0")),
            ("TCP6 2001:DB8::7 ::1 4711 80", Some("[2001:db8::7]:4711")),
            ("TCP6 ::ffff:192.0.2.7 ::ffff:198.51.100.1 4711 80", Some("192.0.2.7:4711")),
            ("UNKNOWN", None),
            ("UNKNOWN \0 anything", None),
        ] {
            let line = format!("PROXY {line}\r\n");
            assert_stream(line.as_bytes(), header(client, line.as_bytes()));
        }
        let longest = format!("PROXY UNKNOWN {:91}\r\n", "");
        assert_eq!(longest.len(), 107);
        assert_stream(longest.as_bytes(), header(None, longest.as_bytes()));
    }

    #[test]
    fn version_1_is_refused_where_the_specification_forbids_it() {
        for line in [
            "PROXY TCP4 192.0.2.7 198.51.100.1 +1 80\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 01 80\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 65536 80\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1  80\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 1 80 \r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 1 80 9\r\n",
            "PROXY TCP4 192.0.2.7  198.51.100.1 1 80\r\n",
            "PROXY TCP4 192.0.2.07 198.51.100.1 1 80\r\n",
            "PROXY TCP4 192.0.2 198.51.100.1 1 80\r\n",
            "PROXY TCP4 ::1 ::1 1 80\r\n",
            "PROXY TCP6 192.0.2.7 198.51.100.1 1 80\r\n",
            "PROXY TCP6 fe80::1%lo ::1 1 80\r\n",
            "PROXY TCP6 ::12345 ::1 1 80\r\n",
            "PROXY tcp4 192.0.2.7 198.51.100.1 1 80\r\n",
            "PROXY UDP4 192.0.2.7 198.51.100.1 1 80\r\n",
            "PROXY TCP4\t192.0.2.7 198.51.100.1 1 80\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 1 80\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 1 80\r\r\n",
            "PROXY UNKNOWNX\r\n",
            "PROXY UNKNOWN \r x\r\n",
            "PROXY  UNKNOWN\r\n",
            "PROXY \r\n",
        ] {
            assert_stream(line.as_bytes(), Parsed::Invalid(HeaderError::Malformed));
        }
        let too_long = format!("PROXY UNKNOWN {:92}\r\n", "");
        assert_stream(too_long.as_bytes(), Parsed::Invalid(HeaderError::TooLong));
        assert_eq!(parse_stream(&too_long.as_bytes()[..106]), Parsed::Incomplete);
    }

    #[test]
    fn a_header_of_version_2_has_the_client_of_an_internet_connection() {
        let ipv6: [u8; 36] = std::array::from_fn(|index| u8::from(index == 15 || index == 33));
        let mapped = [&[0; 10][..], &[255, 255, 192, 0, 2, 7], &[0; 16], &[0x12, 0x67, 0, 80]].concat();
        let with_tlvs = [&IPV4[..], &[3, 0, 4, 1, 2, 3, 4, 4, 0, 0]].concat();
        for (command, family, body, client) in [
            (0x21, 0x11, &IPV4[..], Some("192.0.2.7:4711")),
            (0x21, 0x11, &with_tlvs, Some("192.0.2.7:4711")),
            (0x21, 0x21, &ipv6, Some("[::1]:1")),
            (0x21, 0x21, &mapped, Some("192.0.2.7:4711")),
            (0x21, 0x31, &[7; 216], None),
            (0x21, 0x00, &[], None),
            (0x21, 0x00, &[1, 2], None),
            (0x20, 0x00, &[], None),
            (0x20, 0x11, &IPV4, None),
            (0x20, 0xff, &[1, 2], None),
        ] {
            let bytes = v2(command, family, body);
            assert_stream(&bytes, header(client, &bytes));
        }
        let longest = v2(0x20, 0, &[0; HEADER_BYTES_MAX - 16]);
        assert_stream(&longest, header(None, &longest));
    }

    #[test]
    fn version_2_is_refused_where_the_specification_forbids_it() {
        let with_tlv = |tlv: &[u8]| [&IPV4[..], tlv].concat();
        for (command, family, body, error) in [
            (0x11, 0x11, &IPV4[..], HeaderError::Malformed),
            (0x22, 0x11, &IPV4, HeaderError::Malformed),
            (0x31, 0x11, &IPV4, HeaderError::Malformed),
            (0x21, 0x10, &IPV4, HeaderError::Malformed),
            (0x21, 0x01, &IPV4, HeaderError::Malformed),
            (0x21, 0x13, &IPV4, HeaderError::Malformed),
            (0x21, 0x41, &IPV4, HeaderError::Malformed),
            (0x21, 0x11, &IPV4[..11], HeaderError::Malformed),
            (0x21, 0x21, &IPV4, HeaderError::Malformed),
            (0x21, 0x31, &[0; 215], HeaderError::Malformed),
            (0x21, 0x11, &with_tlv(&[3, 0]), HeaderError::Malformed),
            (0x21, 0x11, &with_tlv(&[3, 0, 2, 9]), HeaderError::Malformed),
            (0x21, 0x12, &IPV4, HeaderError::Unsupported),
            (0x21, 0x32, &[0; 216], HeaderError::Unsupported),
            (0x20, 0x00, &[0; HEADER_BYTES_MAX - 15], HeaderError::TooLong),
        ] {
            assert_stream(&v2(command, family, body), Parsed::Invalid(error));
        }
    }

    #[test]
    fn other_input_is_no_header_as_soon_as_it_differs_from_both_signatures() {
        for input in ["PROXYX", "proxy ", "GET /", "\r\n\r\n\r", "\n", " PROXY "] {
            assert_stream(input.as_bytes(), Parsed::NoHeader);
        }
        for input in ["", "P", "PROXY", "\r", "\r\n\r\n\0\r\nQUIT"] {
            assert_eq!(parse_stream(input.as_bytes()), Parsed::Incomplete, "{input:?}");
        }
    }

    #[test]
    fn a_datagram_needs_a_whole_header_of_version_2_for_datagrams() {
        let bytes = v2(0x21, 0x12, &IPV4);
        assert_eq!(parse_datagram(&bytes), header(Some("192.0.2.7:4711"), &bytes));
        assert_eq!(parse_datagram(&bytes[..27]), Parsed::Invalid(HeaderError::Incomplete));
        assert_eq!(parse_datagram(&v2(0x21, 0x11, &IPV4)), Parsed::Invalid(HeaderError::Unsupported));
        let local = v2(0x20, 0, &[]);
        assert_eq!(parse_datagram(&local), header(None, &local));
        let v1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 80\r\n";
        assert_eq!(parse_datagram(v1), Parsed::Invalid(HeaderError::Version1Datagram));
        for datagram in ["", "hello", "PROXY", "\r\n"] {
            assert_eq!(parse_datagram(datagram.as_bytes()), Parsed::NoHeader);
        }
    }
}
