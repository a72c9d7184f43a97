//! The acknowledgement numbers of FIN segments, captured on all devices.
//!
//! The kernel passes on only segments with SYN or FIN, so that none is lost under load.

use std::collections::HashMap;
use std::io::Read;
use std::time::Duration;

use socket2::{Domain, Protocol, SockFilter, Socket, Type};

/// A capture of the TCP segments over IPv4 that this host sends.
pub struct FinCapture {
    socket: Socket,
    /// By client port: the acknowledgement number of the server's SYN, and that of its first FIN.
    connections: HashMap<u16, [Option<u32>; 2]>,
}

/// `ETH_P_IP` in network order.
const IPV4: u16 = 0x0800_u16.to_be();
/// The flags of TCP, in a packet without IP options.
const FLAGS_AT: usize = 33;
const FIN: u8 = 1;
const SYN: u8 = 2;

impl FinCapture {
    /// Begins a capture, which needs `CAP_NET_RAW`.
    #[track_caller]
    pub fn begin() -> Self {
        let protocol = Protocol::from(i32::from(IPV4));
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol)).expect("this user may capture packets");
        let filter = [
            SockFilter::new(0x30, 0, 0, 33),                   // ldb [33]
            SockFilter::new(0x45, 0, 1, u32::from(FIN | SYN)), // jset #3, pass, drop
            SockFilter::new(0x06, 0, 0, u32::MAX),             // pass: ret #-1
            SockFilter::new(0x06, 0, 0, 0),                    // drop: ret #0
        ];
        socket.attach_filter(&filter).expect("a valid filter");
        socket.set_recv_buffer_size(8 * 1024 * 1024).expect("an option of every socket");
        socket.set_read_timeout(Some(Duration::from_millis(1))).expect("an option of every socket");
        Self { socket, connections: HashMap::new() }
    }

    /// Returns how many bytes of the client at this port were acknowledged in the first FIN of the server at `server`.
    /// `None` if no FIN was captured.
    #[track_caller]
    pub fn bytes_acknowledged(&mut self, server: u16, client: u16) -> Option<u32> {
        self.read_packets(server);
        let [syn, fin] = self.connections.get(&client)?;
        Some(fin.as_ref()?.wrapping_sub(syn.expect("the capture began before the connect")))
    }

    fn read_packets(&mut self, server: u16) {
        let mut packet = [0; 128];
        while let Ok(count) = self.socket.read(&mut packet) {
            let number = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
            if count < 40 || number(20) != server {
                continue;
            }
            let acknowledged = u32::from(number(28)) << 16 | u32::from(number(30));
            let [syn, fin] = self.connections.entry(number(22)).or_default();
            if packet[FLAGS_AT] & SYN != 0 {
                syn.get_or_insert(acknowledged);
            }
            if packet[FLAGS_AT] & FIN != 0 {
                fin.get_or_insert(acknowledged);
            }
        }
    }
}
