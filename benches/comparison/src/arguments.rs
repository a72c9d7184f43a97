//! The command line.

use std::net::SocketAddr;

use clap::{Parser, Subcommand};

use crate::serve::Builtin;
use crate::servers::Server;
use crate::workload::{Mode, Workload};

/// Measures halloo beside other servers on this machine, and prints what came of it.
///
/// Each server is a process of its own on 127.0.0.1. The figure to trust is the processor time it uses for an exchange:
/// server and clients share one core as batch jobs, and all servers take turns in every round.
#[derive(Parser, Debug)]
#[command(name = "comparison", disable_help_subcommand = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) part: Option<Part>,

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
}

/// What this program is when it starts itself.
#[derive(Subcommand, Debug)]
pub(crate) enum Part {
    /// A server of its own
    #[command(hide = true)]
    Serve {
        /// Which one
        server: Builtin,
        /// What it does
        mode: Mode,
    },
    /// A holder of idle connections
    #[command(hide = true)]
    Hold {
        /// Whose
        address: SocketAddr,
        /// How many
        connections: usize,
    },
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.01..=600.0).contains(&seconds) { Ok(seconds) } else { Err("must lie between 0.01 and 600".to_owned()) }
}

impl Arguments {
    /// The workloads to run, in the order of the table.
    pub(crate) fn workloads(&self) -> Vec<Workload> {
        Workload::ALL.into_iter().filter(|workload| self.only.is_empty() || self.only.contains(workload)).collect()
    }

    /// The servers to compare, in the order of the table.
    pub(crate) fn chosen_servers(&self) -> Vec<Server> {
        let is_chosen =
            |server: &Server| *server == Server::Floor || self.servers.is_empty() || self.servers.contains(server);
        Server::ALL.into_iter().filter(is_chosen).collect()
    }
}

/// What clap has to say about bad input, in one sentence.
pub(crate) fn sentence(error: &clap::Error) -> String {
    let text = error.to_string();
    let first: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    let first = first.join(" ");
    format!("comparison: {}", first.strip_prefix("error: ").unwrap_or(&first))
}
