//! halloo answers greetings over TCP, UDP and unix sockets; `halloo probe` asks somebody else's server.
//!
//! | folder | what is in it |
//! |---|---|
//! | `text` | how things are written and read: addresses, durations, templates, escapes, event lines |
//! | `cli` | the flags, and what is asked for by them |
//! | `process` | descriptors, inherited sockets, the supervisor, the end |
//! | `output` | standard output and standard error, and the threads that write them |
//! | `greeting` | who gets a greeting, what it says, and the handlers that send it |
//! | `serve` | sockets, workers, signals |
//! | `probe` | asking somebody else's server |
//!
//! A folder names only folders before it, and `exit` stands where it is named:
//!
//! `leaf files -> text -> exit -> cli -> process -> output -> greeting -> serve -> probe`

mod cli;
mod exit;
mod greeting;
mod output;
mod probe;
mod process;
mod serve;
mod text;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::cli::parse::Invocation;
use crate::exit::{ExitError, ExitStatus};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let status = run(&arguments).unwrap_or_else(|error| {
        // Where standard error is gone, the exit status still speaks.
        let _ = writeln!(io::stderr(), "{error}");
        error.status
    });
    ExitCode::from(status.code())
}

fn run(arguments: &[OsString]) -> Result<ExitStatus, ExitError> {
    match cli::parse::parse_arguments(arguments)? {
        Invocation::Serve(options) => serve::run(&options),
        Invocation::Probe(options) => probe::run(&options),
        Invocation::HelpOrVersion(text) => {
            let _ = text.print();
            Ok(ExitStatus::Success)
        }
    }
}
