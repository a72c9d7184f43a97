//! Blocking clients, each step of which ends in time.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use crate::support::{PATIENCE, wait_for};

pub(crate) const QUESTION: &[u8] = b"Hello, TCP Server!";
pub(crate) const GREETING: &str = "Hello, TCP Client!";
pub(crate) const UDP_QUESTION: &[u8] = b"Hello, UDP Server!";
pub(crate) const UDP_GREETING: &str = "Hello, UDP Client!";

/// Who has heard nothing by then never will.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

#[track_caller]
pub(crate) fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&to, PATIENCE).expect("the server listens");
    stream.set_read_timeout(Some(ANSWERED_WITHIN)).expect("an option of every stream");
    stream.set_write_timeout(Some(PATIENCE)).expect("an option of every stream");
    stream
}

/// Sends something to a server that may have ended the connection already.
pub(crate) fn try_to_say(mut to: &TcpStream, bytes: &[u8]) {
    let _ = to.write_all(bytes);
}

/// Connects and asks, without waiting for the answer.
#[track_caller]
pub(crate) fn begin_asking(to: SocketAddr) -> TcpStream {
    let stream = connect(to);
    try_to_say(&stream, QUESTION);
    stream
}

/// What comes until the stream ends, in whatever way. What goes wrong is told as if it had been said, so that the test
/// that compares it can name the fault.
pub(crate) fn whatever_comes(mut of: &TcpStream) -> String {
    let mut bytes = Vec::new();
    match of.read_to_end(&mut bytes) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => {
            format!("({error}, after {} bytes)", bytes.len())
        }
        _ => String::from_utf8_lossy(&bytes).into_owned(),
    }
}

/// Asks, and gives back everything up to the end of the stream; an end by reset is told like any other error.
#[track_caller]
pub(crate) fn ask(to: SocketAddr) -> String {
    let mut text = String::new();
    let Ok(mut stream) = TcpStream::connect_timeout(&to, ANSWERED_WITHIN) else {
        return "(no connection)".to_owned();
    };
    stream.set_read_timeout(Some(ANSWERED_WITHIN)).expect("an option of every stream");
    try_to_say(&stream, QUESTION);
    match stream.read_to_string(&mut text) {
        Ok(_) => text,
        Err(error) => format!("({error}, after {text:?})"),
    }
}

/// A UDP client that hears from this server alone.
#[track_caller]
pub(crate) fn udp_client(to: SocketAddr) -> UdpSocket {
    let own = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(own).expect("a free port");
    socket.connect(to).expect("there is a route");
    socket.set_read_timeout(Some(ANSWERED_WITHIN)).expect("an option of every socket");
    socket
}

/// A UDP client that has asked.
#[track_caller]
pub(crate) fn begin_asking_udp(to: SocketAddr) -> UdpSocket {
    let socket = udp_client(to);
    socket.send(UDP_QUESTION).expect("loopback takes it");
    socket
}

/// The next datagram, or why none came.
pub(crate) fn hear(socket: &UdpSocket) -> String {
    let mut datagram = [0; 2048];
    loop {
        match socket.recv(&mut datagram) {
            Ok(count) => return String::from_utf8_lossy(&datagram[..count]).into_owned(),
            // A wait with a limit is not taken up again by itself (signal(7)).
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return format!("({error})"),
        }
    }
}

/// What has already come.
pub(crate) fn heard(socket: &UdpSocket) -> Option<String> {
    socket.set_nonblocking(true).expect("an option of every socket");
    let mut datagram = [0; 2048];
    let count = socket.recv(&mut datagram).ok();
    socket.set_nonblocking(false).expect("an option of every socket");
    count.map(|count| String::from_utf8_lossy(&datagram[..count]).into_owned())
}

/// Asks over UDP.
#[track_caller]
pub(crate) fn ask_udp(to: SocketAddr) -> String {
    hear(&begin_asking_udp(to))
}

/// How long the fastest of a few answers takes: what the server costs, and not what else this machine does.
#[track_caller]
pub(crate) fn best_of(tries: usize, mut ask: impl FnMut()) -> Duration {
    let times = (0..tries).map(|_| {
        let asked = Instant::now();
        ask();
        asked.elapsed()
    });
    times.min().expect("at least one try")
}

/// Waits for an answer that may take a while to be asked for again.
#[track_caller]
pub(crate) fn wait_to_hear(what: &str, socket: &UdpSocket) -> String {
    wait_for(what, || heard(socket))
}
