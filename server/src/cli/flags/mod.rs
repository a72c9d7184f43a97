//! The command line: every flag, its environment variable, its help.
//!
//! A flag wins over its environment variable, and the variable over the default.

pub(crate) mod generate_options;
pub(crate) mod probe_options;
pub(crate) mod serve_options;
pub(crate) mod tour_options;
pub(crate) mod values;
pub(crate) mod view_options;

use clap::{Parser, Subcommand};

use crate::cli::flags::generate_options::GenerateOptions;
use crate::cli::flags::probe_options::ProbeOptions;
use crate::cli::flags::serve_options::ServeOptions;
use crate::cli::flags::tour_options::TourOptions;
use crate::cli::flags::view_options::ViewOptions;
use crate::cli::help::{
    GENERATE_EXAMPLES, GENERATE_NOTES, PROBE_ENVIRONMENT, PROBE_EXAMPLES, PROBE_NOTES, SERVE_ENVIRONMENT,
    SERVE_EXAMPLES, SERVE_NOTES, TOUR_ENVIRONMENT, TOUR_EXAMPLES, TOUR_NOTES, VIEW_ENVIRONMENT, VIEW_EXAMPLES,
    VIEW_NOTES, after_flags,
};

/// Replies with a greeting over TCP, UDP and unix sockets.
///
/// A client connects, sends something, and reads the greeting and EOF. Over UDP it gets a datagram for each of its own.
/// Without a flag halloo serves TCP and UDP on localhost:8888, which only this machine can reach.
#[derive(Debug, Parser)]
#[command(name = "halloo", version, max_term_width = 100, args_conflicts_with_subcommands = true)]
#[command(after_help = after_flags(&[SERVE_EXAMPLES, SERVE_ENVIRONMENT]))]
#[command(after_long_help = after_flags(&[SERVE_EXAMPLES, SERVE_ENVIRONMENT, SERVE_NOTES]))]
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
    ///
    /// A client connects, sends something, and reads the greeting and EOF. Over UDP it gets a datagram for each of its own.
    /// Without a flag halloo serves TCP and UDP on localhost:8888, which only this machine can reach.
    #[command(display_name = "halloo", after_help = after_flags(&[SERVE_EXAMPLES, SERVE_ENVIRONMENT]))]
    #[command(after_long_help = after_flags(&[SERVE_EXAMPLES, SERVE_ENVIRONMENT, SERVE_NOTES]))]
    Serve(Box<ServeOptions>),
    /// Send requests to a server over TCP and UDP, or at a unix socket, and print its replies
    ///
    /// One line is printed for each request, and the exit status shows whether the replies were right.
    #[command(display_name = "halloo", after_help = after_flags(&[PROBE_EXAMPLES, PROBE_ENVIRONMENT]))]
    #[command(after_long_help = after_flags(&[PROBE_EXAMPLES, PROBE_ENVIRONMENT, PROBE_NOTES]))]
    Probe(ProbeOptions),
    /// Read a recording of a server: print what delayed its clients, or write a page that plays it
    ///
    /// halloo --record writes such a recording. The page needs only a browser.
    #[command(display_name = "halloo", after_help = after_flags(&[VIEW_EXAMPLES, VIEW_ENVIRONMENT]))]
    #[command(after_long_help = after_flags(&[VIEW_EXAMPLES, VIEW_ENVIRONMENT, VIEW_NOTES]))]
    View(ViewOptions),
    /// Take the tour of twelve hard cases, or try them on a server of your own
    ///
    /// A case shows a mistake of non-blocking servers. A hostile client tries a server that makes it and one that does
    /// not. The tour prints what came back, and why.
    #[command(display_name = "halloo", after_help = after_flags(&[TOUR_EXAMPLES, TOUR_ENVIRONMENT]))]
    #[command(after_long_help = after_flags(&[TOUR_EXAMPLES, TOUR_ENVIRONMENT, TOUR_NOTES]))]
    Tour(TourOptions),
    /// Print a man page, completions for a shell, the list of all flags, or a JSON Schema
    #[command(display_name = "halloo", after_help = GENERATE_EXAMPLES)]
    #[command(after_long_help = after_flags(&[GENERATE_EXAMPLES, GENERATE_NOTES]))]
    Generate(GenerateOptions),
}
