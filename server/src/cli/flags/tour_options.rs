//! The flags of `halloo tour`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, PathBufValueParser, TypedValueParser};
use clap::{Args, ValueEnum, ValueHint};

use crate::cli::flags::values::{parse_record_path, parse_yes_or_no};
use crate::cli::without_effect::GivenSettings;
use crate::text::address::{Address, Endpoint};
use crate::text::unescape::Unescaped;

/// The flags of `halloo tour`.
#[derive(Args, Clone, Debug)]
pub(crate) struct TourOptions {
    /// The cases, each by its number or its name [default: print the list; with --against all cases]
    #[arg(value_name = "CASE")]
    pub(crate) cases: Vec<String>,
    /// Try the cases on the server at this address, over TCP and UDP: 9000, localhost:9000 or name:9000
    #[arg(long, value_name = "ADDRESS", env = "HALLOO_TOUR_AGAINST")]
    #[arg(value_parser = OsStringValueParser::new().try_map(parse_address_to_try))]
    pub(crate) against: Option<Address>,
    /// What the server at that address does
    #[arg(long, value_enum, env = "HALLOO_TOUR_MODE", default_value_t = TourMode::Echo)]
    pub(crate) mode: TourMode,
    /// A line that this server answers after about 300 ms of work, for the cases 9 and 11; with escapes, without its
    /// newline
    #[arg(long, value_name = "TEXT", env = "HALLOO_TOUR_SLOW", default_value = "work 300")]
    #[arg(value_parser = parse_line)]
    pub(crate) slow: String,
    /// Print one JSON object for each case
    #[arg(long, env = "HALLOO_TOUR_JSON", value_parser = parse_yes_or_no)]
    pub(crate) json: bool,
    /// Write the recordings to this folder, which exists
    #[arg(long, value_name = "FOLDER", env = "HALLOO_TOUR_SAVE", default_value = ".")]
    #[arg(value_parser = PathBufValueParser::new().try_map(parse_record_path), value_hint = ValueHint::DirPath)]
    pub(crate) save: PathBuf,
    /// Write each recording as a page for a browser, instead of JSON
    #[arg(long, env = "HALLOO_TOUR_HTML", value_parser = parse_yes_or_no)]
    pub(crate) html: bool,
    /// Only run one server of the case, until standard input ends, to try it by hand
    #[arg(long, value_name = "SERVER", value_enum, env = "HALLOO_TOUR_SERVE")]
    pub(crate) serve: Option<TourServer>,
    /// The settings that were given, each with the name of its flag or variable.
    #[arg(skip)]
    pub(crate) given: GivenSettings,
    /// Warnings about environment variables; none of them ends the program.
    #[arg(skip)]
    pub(crate) warnings: Vec<String>,
}

/// Parses the address of a server to try. Its clients use TCP and UDP.
fn parse_address_to_try(text: OsString) -> Result<Address, String> {
    let is_path = text.as_encoded_bytes().starts_with(b"unix:") || text.as_encoded_bytes().starts_with(b"/");
    match Endpoint::try_from(text) {
        Ok(Endpoint::Internet(address)) => Ok(address),
        Err(error) if !is_path => Err(error),
        Ok(Endpoint::Unix(_)) | Err(_) => {
            Err("the tour uses TCP and UDP, no unix socket; write an address, as in localhost:9000".to_owned())
        }
    }
}

/// Parses a line with escapes, without its newline.
fn parse_line(text: &str) -> Result<String, String> {
    let Unescaped(bytes) = text.parse()?;
    let line = String::from_utf8(bytes).map_err(|_| "the line is not valid UTF-8; leave out \\xNN".to_owned())?;
    if line.is_empty() {
        return Err("the line is empty; write one such as 'work 300'".to_owned());
    }
    if line.contains(['\n', '\r']) {
        return Err("the text has several lines; write one, without its newline".to_owned());
    }
    Ok(line)
}

/// What the hostile clients expect of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TourMode {
    /// It sends back all input, over UDP each datagram; after the client's EOF it closes
    Echo,
    /// It replies to each line with a line, over UDP to each datagram; after the client's EOF it closes
    Line,
    /// It greets each client, at once or after the first bytes, over UDP for each datagram; it may close then
    Greet,
}

/// A server of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TourServer {
    /// The server on mio with the mistake of the case
    Twin,
    /// The same server on mio without a mistake
    Mio,
    /// The right server on halloo's loop
    Halloo,
}
