//! UDP datagrams with any source address, sent through raw sockets.
//!
//! The headers are those of RFC 791, RFC 8200 and RFC 768.

use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Sends datagrams with any source address.
pub struct RawUdpSocket {
    v4: Socket,
    /// None on a machine without IPv6.
    v6: Option<Socket>,
}

const UDP: u8 = 17;
const TTL: u8 = 64;
const UDP_HEADER_BYTES: usize = 8;

impl Default for RawUdpSocket {
    fn default() -> Self {
        Self::new()
    }
}

impl RawUdpSocket {
    /// Opens raw sockets, which needs `CAP_NET_RAW`.
    #[track_caller]
    pub fn new() -> Self {
        // With IPPROTO_RAW (255) the sender writes the IP header (raw(7)).
        let raw = |domain| Socket::new(domain, Type::RAW, Some(Protocol::from(255)));
        Self { v4: raw(Domain::IPV4).expect("this user may open raw sockets"), v6: raw(Domain::IPV6).ok() }
    }

    /// Sends a datagram with the source address `from`.
    #[track_caller]
    pub fn send(&self, from: SocketAddr, to: SocketAddr, payload: &[u8]) {
        let datagram = datagram(from, to, payload);
        let (socket, packet) = match (from.ip(), to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let length = length_of(20 + datagram.len());
                // The kernel fills in identification and checksum (raw(7)).
                let mut packet = vec![0x45, 0, length[0], length[1], 0, 0, 0, 0, TTL, UDP, 0, 0];
                packet.extend(from.octets());
                packet.extend(to.octets());
                (&self.v4, [packet, datagram].concat())
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let length = length_of(datagram.len());
                let mut packet = vec![0x60, 0, 0, 0, length[0], length[1], UDP, TTL];
                packet.extend(from.octets());
                packet.extend(to.octets());
                (self.v6.as_ref().expect("IPv6 is enabled"), [packet, datagram].concat())
            }
            _ => panic!("{from} and {to} have different families"),
        };
        // A raw socket has no port.
        let target = SockAddr::from(SocketAddr::new(to.ip(), 0));
        let sent = socket.send_to(&packet, &target);
        assert_eq!(sent.ok(), Some(packet.len()), "the forged datagram from {from} to {to} was not sent");
    }
}

fn datagram(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let length = length_of(UDP_HEADER_BYTES + payload.len());
    let mut datagram = Vec::with_capacity(UDP_HEADER_BYTES + payload.len());
    datagram.extend(from.port().to_be_bytes());
    datagram.extend(to.port().to_be_bytes());
    datagram.extend(length);
    datagram.extend([0, 0]);
    datagram.extend(payload);
    if let (IpAddr::V6(from), IpAddr::V6(to)) = (from.ip(), to.ip()) {
        // Over IPv4 a zero means no checksum. IPv6 requires one, with a pseudo-header (RFC 8200, section 8.1).
        let pseudo = [&from.octets()[..], &to.octets(), &length, &[0, UDP], &datagram].concat();
        datagram[6..8].copy_from_slice(&checksum(&pseudo).to_be_bytes());
    }
    datagram
}

fn length_of(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes).expect("it fits a packet").to_be_bytes()
}

/// The internet checksum (RFC 1071). A result of zero is sent as 0xFFFF (RFC 768).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    match u16::try_from(sum).map(|sum| !sum) {
        Ok(0) | Err(_) => 0xFFFF,
        Ok(sum) => sum,
    }
}
