//! Addresses and sockets of the loopback network.

use std::net::{SocketAddr, UdpSocket};

/// `host` with port 0: the kernel chooses a free port.
pub(crate) fn any_port(host: &str) -> SocketAddr {
    SocketAddr::new(host.parse().expect("an address"), 0)
}

pub(crate) fn loopback() -> SocketAddr {
    any_port("127.0.0.1")
}

/// Returns a non-blocking UDP socket.
pub(crate) fn udp_socket(host: &str) -> UdpSocket {
    let socket = UdpSocket::bind(any_port(host)).expect("a free port");
    socket.set_nonblocking(true).expect("an option of every socket");
    socket
}
