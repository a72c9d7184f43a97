//! The `halloo` program: greeting server, probe, reader of recordings, tour.
//!
//! | folder | contents |
//! |---|---|
//! | `text` | text formats: addresses, durations, greeting templates, escapes, event lines |
//! | `cli` | the flags, and their parsing |
//! | `process` | descriptors, inherited sockets and signals, notifications to the supervisor, shutdown |
//! | `output` | standard output and standard error, and the threads that write them |
//! | `greeting` | greetings: templates, numbers, and the handlers that send them |
//! | `proxy` | the PROXY protocol: the real client's address, from the header of a proxy |
//! | `faults` | `--fault`: what the server does wrong on purpose |
//! | `page` | the HTML page of a recording, from the files in `server/page` |
//! | `record` | `--record`: the recordings of all workers; the file of a recording or page |
//! | `admin` | `--admin`: metrics, health, connections, log level and faults over HTTP |
//! | `serve` | `halloo serve`: sockets, workers, signals |
//! | `probe` | `halloo probe`: queries to a server |
//! | `view` | `halloo view`: reads a recording, prints its findings, writes its page |
//! | `tour` | `halloo tour`: twelve hard cases, each with a hostile client and a broken server |
//! | `generate` | `halloo generate`: man pages, completions, the list of flags |
//!
//! A folder names only folders before it, and so does the file `exit`:
//!
//! `leaf files -> text -> exit -> cli -> process -> output -> greeting -> proxy -> faults -> page -> record -> admin -> serve -> probe -> view -> tour -> generate`

mod admin;
mod cli;
mod exit;
mod faults;
mod generate;
mod greeting;
mod output;
mod page;
mod probe;
mod process;
mod proxy;
mod record;
mod serve;
mod text;
mod tour;
mod view;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::cli::parse::Invocation;
use crate::exit::{ExitError, ExitStatus};
use crate::output::standard_stream;
use crate::process::inherited_signals;

fn main() -> ExitCode {
    // Before the first write, which may be beyond the limit.
    inherited_signals::survive_file_size_limit();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let status = run(&arguments).unwrap_or_else(|error| {
        // If standard error is closed, the exit status remains.
        let _ = standard_stream::stderr().write_line(&error);
        error.status
    });
    ExitCode::from(status as u8)
}

fn run(arguments: &[OsString]) -> Result<ExitStatus, ExitError> {
    match cli::parse::parse_arguments(arguments)? {
        Invocation::Serve(options) => serve::run(&options),
        Invocation::Probe(options) => probe::run(&options),
        Invocation::View(options) => view::run(&options),
        Invocation::Tour(options) => tour::run(&options),
        Invocation::Generate(options) => standard_stream::print(generate::document(options.document).as_bytes()),
        Invocation::HelpOrVersion(text) => standard_stream::print(text.as_bytes()),
    }
}
