//! Blocking clients, each step of which ends in time.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use crate::support::{PATIENCE, raise_descriptor_limit};

pub(crate) const QUESTION: &[u8] = b"Hello, TCP Server!";
pub(crate) const GREETING: &str = "Hello, TCP Client!";
pub(crate) const UDP_QUESTION: &[u8] = b"Hello, UDP Server!";
pub(crate) const UDP_GREETING: &str = "Hello, UDP Client!";

#[track_caller]
pub(crate) fn connect(to: SocketAddr) -> TcpStream {
    bounded(TcpStream::connect_timeout(&to, PATIENCE).expect("the server listens"))
}

/// Connects from another address of this machine.
#[track_caller]
pub(crate) fn connect_from(source: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((source, 0)).into()).expect("loopback has 127.0.0.0/8");
    socket.connect_timeout(&to.into(), PATIENCE).expect("the server listens");
    bounded(socket.into())
}

fn bounded(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).expect("an option of every stream");
    stream.set_write_timeout(Some(PATIENCE)).expect("an option of every stream");
    stream
}

#[track_caller]
pub(crate) fn say(mut to: &TcpStream, bytes: &[u8]) {
    to.write_all(bytes).expect("the server is there");
}

/// Connects and asks, without waiting for the answer.
#[track_caller]
pub(crate) fn begin_asking(to: SocketAddr) -> TcpStream {
    let stream = connect(to);
    say(&stream, QUESTION);
    stream
}

/// So many clients that have asked.
#[track_caller]
pub(crate) fn many_asking(count: usize, to: SocketAddr) -> Vec<TcpStream> {
    raise_descriptor_limit();
    (0..count).map(|_| begin_asking(to)).collect()
}

/// So many clients that say nothing.
#[track_caller]
pub(crate) fn many_silent(count: usize, to: SocketAddr) -> Vec<TcpStream> {
    raise_descriptor_limit();
    (0..count).map(|_| connect(to)).collect()
}

/// What comes until the end of the stream, which must not be a reset.
#[track_caller]
pub(crate) fn rest(mut of: &TcpStream) -> String {
    let mut text = String::new();
    of.read_to_string(&mut text).expect("text, and then the end of the stream");
    text
}

/// What comes until the stream ends in whatever way.
#[track_caller]
pub(crate) fn whatever_comes(mut of: &TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Err(error) = of.read_to_end(&mut bytes) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "the stream ends in time");
    }
    bytes
}

/// Exactly so many bytes.
#[track_caller]
pub(crate) fn read_exactly(mut from: &TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    from.read_exact(&mut bytes).expect("the server answers");
    bytes
}

/// Asks, and gives back everything up to the end of the stream.
#[track_caller]
pub(crate) fn ask(to: SocketAddr) -> String {
    rest(&begin_asking(to))
}

/// Sends something, ends its own side, and gives back everything up to the end of the stream.
#[track_caller]
pub(crate) fn ask_with(to: SocketAddr, question: &[u8]) -> String {
    let stream = connect(to);
    say(&stream, question);
    half_close(&stream);
    rest(&stream)
}

#[track_caller]
pub(crate) fn half_close(stream: &TcpStream) {
    stream.shutdown(Shutdown::Write).expect("it is connected");
}

/// Closes so that the other side sees a reset.
pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("an option of every stream");
    drop(stream);
}

/// A UDP client that hears from this server alone.
#[track_caller]
pub(crate) fn udp_client(to: SocketAddr) -> UdpSocket {
    let own = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(own).expect("a free port");
    socket.connect(to).expect("loopback is there");
    socket.set_read_timeout(Some(PATIENCE)).expect("an option of every socket");
    socket
}

/// The next datagram.
#[track_caller]
pub(crate) fn hear(socket: &UdpSocket) -> Vec<u8> {
    let mut datagram = vec![0; 65_536];
    let count = loop {
        match socket.recv(&mut datagram) {
            // signal(7): a receive with a timeout is interrupted when the whole process is stopped and goes on.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            received => break received.expect("a datagram comes"),
        }
    };
    datagram.truncate(count);
    datagram
}

/// What has already come.
pub(crate) fn heard(socket: &UdpSocket) -> Option<Vec<u8>> {
    socket.set_nonblocking(true).expect("an option of every socket");
    let mut datagram = vec![0; 65_536];
    let count = socket.recv(&mut datagram).ok();
    socket.set_nonblocking(false).expect("an option of every socket");
    count.map(|count| datagram[..count].to_vec())
}

/// Asks over UDP.
#[track_caller]
pub(crate) fn ask_udp(to: SocketAddr, question: &[u8]) -> String {
    let socket = udp_client(to);
    socket.send(question).expect("loopback takes it");
    String::from_utf8(hear(&socket)).expect("an answer in UTF-8")
}
