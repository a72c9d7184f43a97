//! The servers in this program, each started as a child process.
//!
//! Each listens on a free port of 127.0.0.1, prints its address in one line, and serves until killed.

pub(crate) mod bulk;
pub(crate) mod floor;
pub(crate) mod many_sockets;
pub(crate) mod on_halloo;
pub(crate) mod on_mio;
pub(crate) mod on_tokio;
pub(crate) mod plain_loop;

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use clap::ValueEnum;

use crate::workload::{LINE_RESPONSE, Mode};

/// The buffer for one read. The deepest load fills an eighth of it.
const READ_BYTES: usize = 4096;

/// Any free port.
const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A server of this program.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Builtin {
    Floor,
    Plain,
    Library,
    Tokio,
    Mio,
}

/// Serves until killed.
pub(crate) fn run(server: Builtin, mode: Mode, target: Option<SocketAddr>) -> Result<(), Box<dyn std::error::Error>> {
    if mode.is_bulk() {
        return bulk::run(server, mode, target);
    }
    match server {
        Builtin::Floor => floor::run(mode),
        Builtin::Plain => plain_loop::run(mode),
        Builtin::Library => on_halloo::run(mode, None),
        Builtin::Tokio => on_tokio::run(mode),
        Builtin::Mio => on_mio::run(mode),
    }
}

/// A non-blocking listener with a backlog for all clients of a load. Its connections inherit `TCP_NODELAY`.
fn listen() -> io::Result<TcpListener> {
    let listener = TcpListener::bind(ADDRESS)?;
    rustix::net::listen(&listener, 4096)?;
    rustix::net::sockopt::set_tcp_nodelay(&listener, true)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Prints the bound address for the parent process.
fn print_ready_line(address: SocketAddr) -> io::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "READY {address}")?;
    output.flush()
}

/// Responses to as many lines as one read can return.
fn line_responses() -> Vec<u8> {
    LINE_RESPONSE.repeat(READ_BYTES)
}

/// The bytes of the responses to the complete lines in `input`.
fn response_bytes(input: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', input).count() * LINE_RESPONSE.len()
}
