//! Servers for the bulk workloads: echo, proxy and fan-out.

pub(crate) mod backend;
mod bulk_on_halloo;
mod bulk_on_tokio;
mod epoll_copy;
mod epoll_fan_out;

use std::error::Error;
use std::net::SocketAddr;

use super::{ADDRESS, Builtin, print_ready_line};
use crate::workload::Mode;

/// The buffer of a peer that can choose it, for one read.
const COPY_BYTES: usize = 256 * 1024;

/// Serves until killed.
pub(super) fn run(server: Builtin, mode: Mode, target: Option<SocketAddr>) -> Result<(), Box<dyn Error>> {
    match (server, mode) {
        (Builtin::Floor, Mode::FanOut) => epoll_fan_out::run(),
        (Builtin::Floor, _) => epoll_copy::run(target),
        (Builtin::Library, _) => bulk_on_halloo::run(mode, target),
        (Builtin::Tokio, _) => bulk_on_tokio::run(mode, target),
        (Builtin::Plain | Builtin::Mio, _) => Err("this server has no such mode".into()),
    }
}

/// The address to which a proxy forwards.
fn required(target: Option<SocketAddr>) -> Result<SocketAddr, &'static str> {
    target.ok_or("a proxy needs the address of a server behind it")
}
