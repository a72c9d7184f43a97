//! halloo answers greetings over TCP, UDP and unix sockets; `halloo probe` asks somebody else's server.
//!
//! The binary on the library's public interface. Its rooms, in the order of their arrows: each names only rooms to its
//! left.
//!
//! `protocol duration escape exit address site host placeholder template spelled target options usage -> activation descriptors
//! workers supervisor ending -> event outputs remarks printer logger reporter counters -> tickets desk connections
//! datagrams -> doors refusals sockets signals -> idleness worker crew serve -> ask probe`

mod activation;
mod address;
mod ask;
mod connections;
mod counters;
mod crew;
mod datagrams;
mod descriptors;
mod desk;
mod doors;
mod duration;
mod ending;
mod escape;
mod event;
mod exit;
mod host;
mod idleness;
mod logger;
mod options;
mod outputs;
mod placeholder;
mod printer;
mod probe;
mod protocol;
mod refusals;
mod remarks;
mod reporter;
mod serve;
mod signals;
mod site;
mod sockets;
mod spelled;
mod supervisor;
mod target;
mod template;
mod tickets;
mod usage;
mod worker;
mod workers;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::exit::{Failure, Status};
use crate::usage::Request;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let status = carry_out(&arguments).unwrap_or_else(|failure| {
        // Where standard error is gone, the exit status still speaks.
        let _ = writeln!(io::stderr(), "{failure}");
        failure.status
    });
    ExitCode::from(status.code())
}

fn carry_out(arguments: &[OsString]) -> Result<Status, Failure> {
    match usage::read(arguments)? {
        Request::Serve(options) => serve::run(&options),
        Request::Probe(options) => probe::run(&options),
        Request::Show(text) => {
            let _ = text.print();
            Ok(Status::Done)
        }
    }
}
