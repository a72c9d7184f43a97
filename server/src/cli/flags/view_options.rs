//! The flags of `halloo view`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PathBufValueParser, TypedValueParser};

use crate::cli::flags::values::{parse_page_path, parse_yes_or_no};
use crate::cli::without_effect::GivenSettings;

/// The flags of `halloo view`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ViewOptions {
    /// The file that halloo --record has written; - is standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Print a line for each finding: what delayed a client, where, for how long, and why
    #[arg(long, env = "HALLOO_VIEW_FINDINGS", value_parser = parse_yes_or_no)]
    pub(crate) findings: bool,
    /// Write a page that plays the recording step by step: one HTML file, for a browser; - is standard output
    #[arg(long, value_name = "OUT", env = "HALLOO_VIEW_HTML")]
    #[arg(value_parser = PathBufValueParser::new().try_map(parse_page_path))]
    pub(crate) html: Option<PathBuf>,
    /// The settings that were given, each with the name of its flag or variable.
    #[arg(skip)]
    pub(crate) given: GivenSettings,
    /// Warnings about environment variables; none of them ends the program.
    #[arg(skip)]
    pub(crate) warnings: Vec<String>,
}
