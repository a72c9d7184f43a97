//! Blocking UDP clients.
//!
//! Every receive ends within [`TIMEOUT`].

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};

use crate::wait::TIMEOUT;

/// The request that the tests send over UDP.
pub const UDP_REQUEST: &[u8] = b"Hello, UDP Server!";

/// The default reply over UDP.
pub const UDP_GREETING: &str = "Hello, UDP Client!";

/// The longest datagram.
const DATAGRAM_BYTES_MAX: usize = 65_536;

/// A connected socket, which receives from this server alone.
#[track_caller]
pub fn udp_client(to: SocketAddr) -> UdpSocket {
    let bind_address = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(bind_address).expect("a free port");
    socket.connect(to).expect("there is a route");
    socket.set_read_timeout(Some(TIMEOUT)).expect("an option of every socket");
    socket
}

/// A connected socket with another address of this machine.
#[track_caller]
pub fn udp_client_from(source: [u8; 4], to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(SocketAddr::from((source, 0))).expect("loopback has 127.0.0.0/8");
    socket.connect(to).expect("there is a route");
    socket.set_read_timeout(Some(TIMEOUT)).expect("an option of every socket");
    socket
}

/// A client that has sent a request.
#[track_caller]
pub fn send_udp_request(to: SocketAddr) -> UdpSocket {
    let socket = udp_client(to);
    socket.send(UDP_REQUEST).expect("loopback takes it");
    socket
}

/// Receives the next datagram.
#[track_caller]
pub fn recv(socket: &UdpSocket) -> Vec<u8> {
    let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
    let count = retry_interrupted(|| socket.recv(&mut datagram)).expect("a datagram arrives");
    datagram.truncate(count);
    datagram
}

/// Receives a datagram that has already arrived.
pub fn try_recv(socket: &UdpSocket) -> Option<Vec<u8>> {
    socket.set_nonblocking(true).expect("an option of every socket");
    let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
    let count = socket.recv(&mut datagram).ok();
    socket.set_nonblocking(false).expect("an option of every socket");
    count.map(|count| datagram[..count].to_vec())
}

/// Sends a datagram from a new socket, and returns the reply.
#[track_caller]
pub fn request_udp(to: SocketAddr, payload: &[u8]) -> String {
    request_udp_on(&udp_client(to), payload)
}

/// Sends a datagram from a connected socket, and returns the reply.
#[track_caller]
pub fn request_udp_on(socket: &UdpSocket, payload: &[u8]) -> String {
    socket.send(payload).expect("loopback takes it");
    String::from_utf8(recv(socket)).expect("a reply in UTF-8")
}

/// Repeats a call after `EINTR`: a call with a timeout is not restarted after SIGCONT (signal(7)).
///
/// # Errors
///
/// The errors of the call, except `EINTR`.
pub fn retry_interrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
