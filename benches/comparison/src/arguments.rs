//! The command line of the benchmark.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::servers::Server;
use crate::servers::builtin::Builtin;
use crate::tasks::{Runtime, Task};
use crate::workload::{Mode, Workload};

/// Measures halloo beside other servers on this machine, and prints tables.
///
/// Each server is a process of its own on 127.0.0.1. The most reliable figure is its processor time for an exchange.
/// Server and clients share one core as batch jobs, and all servers take turns in every round.
#[derive(Parser, Debug)]
#[command(name = "comparison", disable_help_subcommand = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// Rounds in which all servers take turns; the table shows medians
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: u32,

    /// Seconds of each measurement
    #[arg(long, default_value_t = 0.5, value_parser = seconds)]
    pub(crate) seconds: f64,

    /// Only these workloads, separated by commas
    #[arg(long, value_delimiter = ',')]
    pub(crate) only: Vec<Workload>,

    /// Only these servers, separated by commas; the floor is always among them
    #[arg(long, value_delimiter = ',')]
    pub(crate) servers: Vec<Server>,

    /// Also measure this `halloo` program, such as that of an earlier version
    #[arg(long, value_name = "FILE")]
    pub(crate) other_program: Option<PathBuf>,

    /// Only these measurements, separated by commas
    #[arg(long, value_delimiter = ',')]
    pub(crate) parts: Vec<Part>,

    /// Print Markdown
    #[arg(long)]
    pub(crate) markdown: bool,

    /// Write a chart of the processor time to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,

    /// The cores that the part `workers` needs
    #[arg(long, default_value_t = 4, hide = true)]
    pub(crate) cores_min: usize,

    /// Also measure cold builds; takes a few minutes
    #[arg(long)]
    pub(crate) build_times: bool,
}

/// What can be measured, in the order of the tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Part {
    /// Processor time for an exchange, throughput, latency
    Cost,
    /// System calls for an exchange
    Calls,
    /// User instructions and lines of code for an exchange
    Instructions,
    /// Processor time for timers and for jobs from another thread
    Tasks,
    /// Allocations, memory for an idle connection, a million of them
    Memory,
    /// Cost beside idle connections and armed timers, with many clients and with many UDP sockets
    Growth,
    /// Exchanges a second by the number of workers
    Workers,
    /// Time until ready, size of the program, build times
    Startup,
}

impl Part {
    const ALL: [Self; 8] = [
        Self::Cost,
        Self::Calls,
        Self::Instructions,
        Self::Tasks,
        Self::Memory,
        Self::Growth,
        Self::Workers,
        Self::Startup,
    ];
}

/// The commands with which this program starts itself as a server or for a task.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// A server of its own
    #[command(hide = true)]
    Serve {
        /// Which one
        server: Builtin,
        /// What it does
        mode: Mode,
        /// Where a proxy forwards to
        target: Option<SocketAddr>,
    },
    /// The server behind a proxy
    #[command(hide = true)]
    Backend,
    /// A server with many UDP sockets
    #[command(hide = true)]
    ServeSockets {
        /// Which one
        server: Builtin,
        /// How many
        sockets: usize,
    },
    /// A task without a socket
    #[command(hide = true)]
    Task {
        /// What runs it
        runtime: Runtime,
        /// Which one
        #[command(subcommand)]
        task: Task,
    },
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.01..=600.0).contains(&seconds) { Ok(seconds) } else { Err("must be between 0.01 and 600".to_owned()) }
}

impl Arguments {
    /// The workloads to run, in the order of the table.
    pub(crate) fn workloads(&self) -> Vec<Workload> {
        Workload::ALL.into_iter().filter(|workload| self.only.is_empty() || self.only.contains(workload)).collect()
    }

    /// What to measure, in the order of the tables.
    pub(crate) fn chosen_parts(&self) -> Vec<Part> {
        Part::ALL.into_iter().filter(|part| self.parts.is_empty() || self.parts.contains(part)).collect()
    }

    /// The servers to compare, in the order of the table.
    pub(crate) fn chosen_servers(&self) -> Vec<Server> {
        let is_chosen = |server: &Server| match server {
            Server::Floor => true,
            Server::OtherBinary => self.other_program.is_some(),
            _ => self.servers.is_empty() || self.servers.contains(server),
        };
        Server::ALL.into_iter().filter(is_chosen).collect()
    }
}

/// The error message of clap, in one line.
pub(crate) fn error_message(error: &clap::Error) -> String {
    let text = error.to_string();
    let first: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    let first = first.join(" ");
    format!("comparison: {}", first.strip_prefix("error: ").unwrap_or(&first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_input_is_an_error_of_one_line() {
        for (input, expected) in [
            (
                ["comparison", "--rounds=0"],
                "comparison: invalid value '0' for '--rounds <ROUNDS>': 0 is not in 1..=1000",
            ),
            (["comparison", "--seconds=x"], "comparison: invalid value 'x' for '--seconds <SECONDS>': not a number"),
            (["comparison", "--only=tls"], "comparison: invalid value 'tls' for '--only <ONLY>'"),
        ] {
            let error = Arguments::try_parse_from(input).unwrap_err();
            let message = error_message(&error);
            assert!(message.starts_with(expected) && !message.contains('\n'), "{message}");
        }
    }

    #[test]
    fn the_floor_is_measured_whatever_servers_are_chosen() {
        let arguments =
            Arguments::try_parse_from(["comparison", "--servers", "mio,tokio", "--only", "udp,once"]).unwrap();
        assert_eq!(arguments.chosen_servers(), [Server::Floor, Server::Tokio, Server::Mio]);
        assert_eq!(arguments.workloads(), [Workload::Once, Workload::Udp]);
        assert_eq!(arguments.chosen_parts(), Part::ALL);
    }
}
