//! halloo beside other servers on this machine: CPU time, latency, memory, growth.
//!
//! `cargo run --release -p comparison` runs all of it in a few minutes. `workload` defines the exchanges, `servers`
//! starts the servers, `load` generates the load. All measurements share `benchmark_run`, and each file of
//! `measurements` measures one thing.

mod arguments;
mod benchmark_run;
mod byte_pattern;
mod load;
mod machine;
mod measurements;
mod report;
mod servers;
mod tasks;
mod workload;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use arguments::{Arguments, Command};
use servers::builtin;
use workload::Mode;

/// The whole program.
///
/// ```no_run
/// let _ = comparison::main();
/// ```
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if error.exit_code() == 0 => {
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{}", arguments::error_message(&error));
            return ExitCode::from(2);
        }
    };
    let result = match arguments.command {
        Some(Command::Serve { server, mode, target }) => builtin::run(server, mode, target).map(|()| true),
        Some(Command::Backend) => builtin::bulk::backend::run().map(|()| true),
        Some(Command::ServeSockets { server, sockets }) => builtin::many_sockets::run(server, sockets).map(|()| true),
        Some(Command::Task { runtime, task }) => tasks::run(runtime, task).map(|()| true),
        None => measurements::run(&arguments),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("comparison: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves a number of exchanges with halloo as a library, and returns.
///
/// ```no_run
/// comparison::serve_library("once", 1)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// If there is no such mode, and the errors of the loop.
pub fn serve_library(mode: &str, exchanges: u64) -> Result<(), Box<dyn std::error::Error>> {
    builtin::on_halloo::run(Mode::from_str(mode, true)?, Some(exchanges))
}
