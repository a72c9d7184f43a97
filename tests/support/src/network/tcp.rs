//! Blocking TCP clients.
//!
//! Every read and write ends within [`TIMEOUT`].

use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use crate::network::streams::{REQUEST, read_to_end, send};
use crate::process::rlimit::raise_fd_limit;
use crate::wait::TIMEOUT;

/// Connects.
#[track_caller]
pub fn connect(to: SocketAddr) -> TcpStream {
    with_timeouts(TcpStream::connect_timeout(&to, TIMEOUT).expect("the server listens"))
}

/// Connects from another address of this machine.
#[track_caller]
pub fn connect_from(source: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((source, 0)).into()).expect("loopback has 127.0.0.0/8");
    socket.connect_timeout(&to.into(), TIMEOUT).expect("the server listens");
    with_timeouts(socket.into())
}

fn with_timeouts(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(TIMEOUT)).expect("an option of every stream");
    stream.set_write_timeout(Some(TIMEOUT)).expect("an option of every stream");
    stream
}

/// Opens `count` connections that send nothing.
#[track_caller]
pub fn connect_many(count: usize, to: SocketAddr) -> Vec<TcpStream> {
    raise_fd_limit();
    (0..count).map(|_| connect(to)).collect()
}

/// Connects and sends a request, without waiting for the reply.
#[track_caller]
pub fn send_request(to: SocketAddr) -> TcpStream {
    let stream = connect(to);
    send(&stream, REQUEST);
    stream
}

/// Sends `count` requests, each over a connection of its own.
#[track_caller]
pub fn send_requests(count: usize, to: SocketAddr) -> Vec<TcpStream> {
    raise_fd_limit();
    (0..count).map(|_| send_request(to)).collect()
}

/// Sends a request, and returns everything up to EOF.
#[track_caller]
pub fn request(to: SocketAddr) -> String {
    read_to_end(&send_request(to))
}

/// Sends bytes, half-closes, and returns everything up to EOF.
#[track_caller]
pub fn request_with(to: SocketAddr, bytes: &[u8]) -> String {
    let stream = connect(to);
    send(&stream, bytes);
    half_close(&stream);
    read_to_end(&stream)
}

/// Shuts down the sending half.
#[track_caller]
pub fn half_close(stream: &TcpStream) {
    stream.shutdown(Shutdown::Write).expect("it is connected");
}

/// Closes with a reset.
pub fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("an option of every stream");
    drop(stream);
}
