//! The built binary over real sockets on loopback.

mod admin;
mod clients;
mod command_line;
mod faults;
mod output;
mod probe;
mod process;
mod proxy;
mod recording;
mod tour;
mod unix;

use support::process::server::ServerBinary;

const HALLOO: ServerBinary = ServerBinary::new(env!("CARGO_BIN_EXE_halloo"));
