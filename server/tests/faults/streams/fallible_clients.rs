//! Clients that return an error as text instead of failing.
//!
//! The test that compares the text can then name the fault.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};

use support::network::streams::REQUEST;
use support::network::tcp::connect;
use support::network::udp::{self, retry_interrupted};
use support::wait::{TIMEOUT, wait_for};

/// Sends to a server that may have closed the connection already.
pub(crate) fn try_send(mut to: &TcpStream, bytes: &[u8]) {
    let _ = to.write_all(bytes);
}

/// Connects and sends a request, without waiting for the reply.
#[track_caller]
pub(crate) fn send_request(to: SocketAddr) -> TcpStream {
    let stream = connect(to);
    try_send(&stream, REQUEST);
    stream
}

/// Reads until EOF or a reset. Another error becomes the text.
pub(crate) fn read_until_closed(mut from: &TcpStream) -> String {
    let mut bytes = Vec::new();
    match from.read_to_end(&mut bytes) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => {
            format!("({error}, after {} bytes)", bytes.len())
        }
        _ => String::from_utf8_lossy(&bytes).into_owned(),
    }
}

/// Sends a request and reads until EOF. An error, also a reset, becomes the text.
#[track_caller]
pub(crate) fn request(to: SocketAddr) -> String {
    let mut text = String::new();
    let Ok(mut stream) = TcpStream::connect_timeout(&to, TIMEOUT) else {
        return "(no connection)".to_owned();
    };
    stream.set_read_timeout(Some(TIMEOUT)).expect("an option of every stream");
    try_send(&stream, REQUEST);
    match stream.read_to_string(&mut text) {
        Ok(_) => text,
        Err(error) => format!("({error}, after {text:?})"),
    }
}

/// Receives the next datagram; an error becomes the text.
pub(crate) fn recv(socket: &UdpSocket) -> String {
    let mut datagram = [0; 2048];
    match retry_interrupted(|| socket.recv(&mut datagram)) {
        Ok(count) => String::from_utf8_lossy(&datagram[..count]).into_owned(),
        Err(error) => format!("({error})"),
    }
}

/// Sends a datagram, and returns the reply.
#[track_caller]
pub(crate) fn request_udp(to: SocketAddr) -> String {
    recv(&udp::send_udp_request(to))
}

/// Waits for a datagram, for the usual timeout.
#[track_caller]
pub(crate) fn wait_for_datagram(description: &str, socket: &UdpSocket) -> String {
    let datagram = wait_for(description, || udp::try_recv(socket));
    String::from_utf8_lossy(&datagram).into_owned()
}
