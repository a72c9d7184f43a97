//! The command line: every flag, its environment variable, its help.
//!
//! A flag wins over its environment variable, and the variable over the default.

pub(crate) mod probe_options;
pub(crate) mod serve_options;
pub(crate) mod tour_options;
pub(crate) mod values;
pub(crate) mod view_options;

use clap::{Parser, Subcommand};

use crate::cli::flags::probe_options::ProbeOptions;
use crate::cli::flags::serve_options::ServeOptions;
use crate::cli::flags::tour_options::TourOptions;
use crate::cli::flags::view_options::ViewOptions;
use crate::cli::help::{
    PROBE_EXAMPLES, PROBE_NOTES, SERVE_EXAMPLES, SERVE_NOTES, TOUR_EXAMPLES, TOUR_NOTES, VIEW_EXAMPLES, VIEW_NOTES,
};

/// Replies with a greeting over TCP, UDP and unix sockets.
#[derive(Debug, Parser)]
#[command(name = "halloo", version, max_term_width = 100, args_conflicts_with_subcommands = true)]
#[command(after_help = SERVE_EXAMPLES, after_long_help = format!("{SERVE_EXAMPLES}\n\n{SERVE_NOTES}"))]
#[command(subcommand_negates_reqs = true, propagate_version = true)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) serve: ServeOptions,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve greetings; the default command
    #[command(display_name = "halloo", after_help = SERVE_EXAMPLES, after_long_help = format!("{SERVE_EXAMPLES}\n\n{SERVE_NOTES}"))]
    Serve(Box<ServeOptions>),
    /// Send requests to a server over TCP and UDP, or at a unix socket, and print its replies
    #[command(display_name = "halloo", after_help = PROBE_EXAMPLES, after_long_help = format!("{PROBE_EXAMPLES}\n\n{PROBE_NOTES}"))]
    Probe(ProbeOptions),
    /// Read a recording of a server: print what delayed its clients, or write a page that plays it
    #[command(display_name = "halloo", after_help = VIEW_EXAMPLES, after_long_help = format!("{VIEW_EXAMPLES}\n\n{VIEW_NOTES}"))]
    View(ViewOptions),
    /// Take the tour of twelve hard cases, or try them on a server of your own
    #[command(display_name = "halloo", after_help = TOUR_EXAMPLES, after_long_help = format!("{TOUR_EXAMPLES}\n\n{TOUR_NOTES}"))]
    Tour(TourOptions),
}
