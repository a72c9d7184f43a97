//! halloo beside other servers on this machine: CPU time, latency, memory, growth.
//!
//! `cargo run --release -p comparison` runs all of it in a few minutes. `workload` defines the exchanges, `servers`
//! starts the servers, `load` generates the load, `bench` combines them, and each of `compare`, `calls`, `memory`,
//! `growth` and `startup` measures one thing and makes a table of it.

mod arguments;
mod bench;
mod calls;
mod chart;
mod compare;
mod foreign;
mod growth;
mod idle;
mod kernel;
mod load;
mod machine;
mod measure;
mod memory;
mod million;
mod process;
mod serve;
mod servers;
mod startup;
mod statistics;
mod table;
mod workload;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use arguments::{Arguments, Command};
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
            eprintln!("{}", arguments::sentence(&error));
            return ExitCode::from(2);
        }
    };
    let done = match arguments.command {
        Some(Command::Serve { server, mode }) => serve::run(server, mode).map(|()| true),
        None => bench::run(&arguments),
    };
    match done {
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
/// If there is no such mode, or the loop's own.
pub fn serve_library(mode: &str, exchanges: u64) -> Result<(), Box<dyn std::error::Error>> {
    serve::library::run(Mode::from_str(mode, true)?, Some(exchanges))
}
