//! A recognizer of PROXY headers, written from the specification for tests alone.
//!
//! It reads byte by byte, and shares no code with the parser or its crate.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A header that a stream may begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Accepted {
    /// `None` if the addresses of the connection apply.
    pub(super) client: Option<SocketAddr>,
    /// The bytes of the header.
    pub(super) length: usize,
}

/// The header that the whole input of a stream begins with; `None` if there is no valid one.
pub(super) fn recognize(input: &[u8]) -> Option<Accepted> {
    let mut cursor = Cursor { input, at: 0 };
    let mut client = None;
    if input.first() == Some(&b'P') {
        version_1(&mut cursor, &mut client)
    } else {
        version_2(&mut cursor, &mut client)
    }?;
    Some(Accepted { client, length: cursor.at })
}

/// A position in the input; each method advances it.
#[derive(Clone, Copy)]
struct Cursor<'a> {
    input: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<u8> {
        self.input.get(self.at).copied()
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn expect(&mut self, expected: &[u8]) -> Option<()> {
        expected.iter().all(|wanted| self.byte() == Some(*wanted)).then_some(())
    }

    /// A decimal number up to `max`, without leading zeros.
    fn decimal(&mut self, max: u32) -> Option<u32> {
        let first = self.byte()?;
        if !first.is_ascii_digit() {
            return None;
        }
        let mut value = u32::from(first - b'0');
        while let Some(digit) = self.peek().filter(u8::is_ascii_digit) {
            if first == b'0' {
                return None;
            }
            self.at += 1;
            value = value * 10 + u32::from(digit - b'0');
            if value > max {
                return None;
            }
        }
        Some(value)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from(self.byte()?) << 8 | u16::from(self.byte()?))
    }
}

fn version_1(cursor: &mut Cursor<'_>, client: &mut Option<SocketAddr>) -> Option<()> {
    cursor.expect(b"PROXY ")?;
    match cursor.byte()? {
        b'U' => {
            cursor.expect(b"NKNOWN")?;
            if cursor.peek()? == b' ' {
                while !matches!(cursor.peek()?, b'\r' | b'\n') {
                    cursor.at += 1;
                }
            }
        }
        b'T' => {
            cursor.expect(b"CP")?;
            let read_address = match cursor.byte()? {
                b'4' => |cursor: &mut Cursor<'_>| ipv4(cursor).map(IpAddr::V4),
                b'6' => |cursor: &mut Cursor<'_>| ipv6(cursor).map(IpAddr::V6),
                _ => return None,
            };
            cursor.expect(b" ")?;
            let source = read_address(cursor)?;
            cursor.expect(b" ")?;
            read_address(cursor)?;
            cursor.expect(b" ")?;
            let port = cursor.decimal(65_535)?;
            cursor.expect(b" ")?;
            cursor.decimal(65_535)?;
            *client = Some(client_address(source, u16::try_from(port).ok()?));
        }
        _ => return None,
    }
    cursor.expect(b"\r\n")?;
    (cursor.at <= 107).then_some(())
}

fn ipv4(cursor: &mut Cursor<'_>) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    for (index, octet) in octets.iter_mut().enumerate() {
        if index > 0 {
            cursor.expect(b".")?;
        }
        *octet = u8::try_from(cursor.decimal(255)?).ok()?;
    }
    Some(Ipv4Addr::from(octets))
}

/// RFC 4291, section 2.2: up to eight groups, one `::` for at least one group, IPv4 as the last two groups.
fn ipv6(cursor: &mut Cursor<'_>) -> Option<Ipv6Addr> {
    let (mut groups, mut gap) = (Vec::new(), None);
    if cursor.input[cursor.at..].starts_with(b"::") {
        cursor.at += 2;
        gap = Some(0);
    }
    loop {
        let start = *cursor;
        if groups.len() <= 6
            && let Some(tail) = ipv4(cursor)
        {
            let [a, b, c, d] = tail.octets();
            groups.extend([u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]);
            break;
        }
        *cursor = start;
        let Some(group) = group(cursor) else {
            // Only after `::` a group may be missing. A group of five digits is not missing.
            if gap == Some(groups.len()) && cursor.at == start.at {
                break;
            }
            return None;
        };
        groups.push(group);
        if groups.len() > 8 {
            return None;
        }
        if cursor.peek() != Some(b':') {
            break;
        }
        cursor.at += 1;
        if cursor.peek() == Some(b':') {
            cursor.at += 1;
            if gap.replace(groups.len()).is_some() {
                return None;
            }
        }
    }
    match gap {
        Some(at) if groups.len() < 8 => {
            let missing = 8 - groups.len();
            groups.splice(at..at, std::iter::repeat_n(0, missing));
        }
        None if groups.len() == 8 => {}
        _ => return None,
    }
    Some(Ipv6Addr::from(<[u16; 8]>::try_from(groups).ok()?))
}

/// One to four hexadecimal digits.
fn group(cursor: &mut Cursor<'_>) -> Option<u16> {
    let mut value = 0;
    let mut digits = 0;
    while let Some(digit) = cursor.peek().and_then(|byte| char::from(byte).to_digit(16)) {
        cursor.at += 1;
        digits += 1;
        value = value << 4 | digit;
        if digits > 4 {
            return None;
        }
    }
    if digits == 0 { None } else { u16::try_from(value).ok() }
}

fn version_2(cursor: &mut Cursor<'_>, client: &mut Option<SocketAddr>) -> Option<()> {
    cursor.expect(&[0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a])?;
    let (version_and_command, family_and_transport) = (cursor.byte()?, cursor.byte()?);
    let (version, command) = (version_and_command >> 4, version_and_command & 15);
    let end = usize::from(cursor.u16()?) + cursor.at;
    if version != 2 || command > 1 || end > 536 || cursor.input.len() < end {
        return None;
    }
    let body = &cursor.input[cursor.at..end];
    cursor.at = end;
    if command == 0 {
        return Some(());
    }
    let mut fields = Cursor { input: body, at: 0 };
    match (family_and_transport >> 4, family_and_transport & 15) {
        (0, 0) => return Some(()),
        (1, 1) => {
            let source: [u8; 4] = octets(&mut fields)?;
            let _destination: [u8; 4] = octets(&mut fields)?;
            let port = fields.u16()?;
            fields.u16()?;
            *client = Some(client_address(IpAddr::from(source), port));
        }
        (2, 1) => {
            let source: [u8; 16] = octets(&mut fields)?;
            let _destination: [u8; 16] = octets(&mut fields)?;
            let port = fields.u16()?;
            fields.u16()?;
            *client = Some(client_address(IpAddr::from(source), port));
        }
        (3, 1) => {
            let _paths: [u8; 216] = octets(&mut fields)?;
        }
        // Datagrams on a stream, and what the specification does not define.
        _ => return None,
    }
    while fields.peek().is_some() {
        fields.byte()?;
        for _ in 0..fields.u16()? {
            fields.byte()?;
        }
    }
    Some(())
}

fn octets<const N: usize>(fields: &mut Cursor<'_>) -> Option<[u8; N]> {
    let mut octets = [0; N];
    for octet in &mut octets {
        *octet = fields.byte()?;
    }
    Some(octets)
}

/// An IPv4 client that the proxy has seen on an IPv6 socket (RFC 4291, section 2.5.5.2) is shown as IPv4.
fn client_address(ip: IpAddr, port: u16) -> SocketAddr {
    match ip {
        IpAddr::V6(v6) => match v6.segments() {
            [0, 0, 0, 0, 0, 0xffff, high, low] => {
                let [a, b] = high.to_be_bytes();
                let [c, d] = low.to_be_bytes();
                SocketAddr::from(([a, b, c, d], port))
            }
            _ => SocketAddr::from((v6, port)),
        },
        IpAddr::V4(v4) => SocketAddr::from((v4, port)),
    }
}
