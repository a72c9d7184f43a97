//! Clients of every kind, at once: pipelined, slow, half-closed, reset, silent.
//!
//! No client expects a reply: an injected error may end its connection.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use socket2::{SockAddr, Socket, Type};
use support::network::udp::{UDP_REQUEST, udp_client};
use support::process::server::Server;

/// Clients of each kind.
const CLIENTS: usize = 6;

/// A client that waits for longer gives up: an injected error may have left its connection open.
const READ_TIMEOUT: Duration = Duration::from_secs(1);
const WRITE_TIMEOUT: Duration = Duration::from_millis(100);
const REPLY_TIMEOUT: Duration = Duration::from_millis(30);

/// More than the buffers of both sockets and of the connection.
const LARGE_INPUT: usize = 8 << 20;

/// Puts load on every listener and UDP socket. Returns clients that stay connected and send nothing more.
#[track_caller]
pub(crate) fn put_load_on(server: &Server, streams: &[SockAddr]) -> Vec<Socket> {
    let mut silent = Vec::new();
    for to in streams {
        // Paused, the server finds many clients and much input at once.
        server.pause();
        let clients: Vec<Vec<Socket>> = (0..5).map(|_| (0..CLIENTS).map(|_| connect(to)).collect()).collect();
        let [pipelined, half_closed, mut slow, reset, idle] = clients.try_into().expect("five kinds");
        for client in pipelined.iter().chain(&half_closed).chain(&reset) {
            send(client, b"one\ntwo\nthree");
        }
        half_closed.iter().for_each(half_close);
        reset.into_iter().for_each(close_with_reset);
        server.resume();
        for client in &pipelined {
            send(client, b"\nfour\n");
            send(client, &vec![b'x'; 20_000]);
            half_close(client);
        }
        slow.truncate(2);
        slow.iter().for_each(send_until_blocked);
        [pipelined, half_closed, slow].iter().flatten().for_each(read_until_closed);
        silent.extend(idle);
    }
    silent
}

/// Sends datagrams one by one, and in bursts, which the server receives and sends in batches.
#[track_caller]
pub(crate) fn send_datagrams(server: &Server, to: SocketAddr) {
    let client = udp_client(to);
    client.set_read_timeout(Some(REPLY_TIMEOUT)).expect("an option of every socket");
    let receive = || client.recv(&mut [0; 64]).is_ok();
    for _ in 0..4 {
        server.pause();
        for _ in 0..2 * CLIENTS {
            let _ = client.send(UDP_REQUEST);
        }
        server.resume();
        while receive() {}
        for request in [UDP_REQUEST, b"", UDP_REQUEST] {
            let _ = client.send(request);
            receive();
        }
    }
}

#[track_caller]
fn connect(to: &SockAddr) -> Socket {
    let socket = Socket::new(to.domain(), Type::STREAM, None).expect("a socket");
    socket.set_read_timeout(Some(READ_TIMEOUT)).expect("an option of every socket");
    socket.set_write_timeout(Some(WRITE_TIMEOUT)).expect("an option of every socket");
    socket.connect(to).expect("the server listens");
    socket
}

fn send(mut to: &Socket, bytes: &[u8]) {
    let _ = to.write_all(bytes);
}

/// Sends without reading, so that an echo blocks, and then no more.
fn send_until_blocked(client: &Socket) {
    send(client, &b"0123456789abcdef0123456789abcde\n".repeat(LARGE_INPUT / 32));
    half_close(client);
}

fn half_close(client: &Socket) {
    let _ = client.shutdown(Shutdown::Write);
}

fn close_with_reset(client: Socket) {
    client.set_linger(Some(Duration::ZERO)).expect("an option of every socket");
    drop(client);
}

/// Reads until EOF or an error.
fn read_until_closed(mut client: &Socket) {
    let _ = client.read_to_end(&mut Vec::new());
}
