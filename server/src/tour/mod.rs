//! `halloo tour`: twelve hard cases of non-blocking servers, each with its mistake.
//!
//! | file | contents |
//! |---|---|
//! | `case` | what a case is, and the verdict of its hostile client |
//! | `cases` | the twelve: texts, hostile client, mistake |
//! | `client`, `datagram_client` | what hostile clients are made of |
//! | `positions` | text whose bytes show their positions, and the replies to it |
//! | `mio_server` | the server on mio, in which each case has one rule |
//! | `halloo_server` | the right server, on halloo's loop |
//! | `served` | one of these servers, as a process of its own |
//! | `screen` | standard output: wrapped text, verdicts |
//! | `guided` | one case: with the mistake, without it, and why |
//! | `against` | the hostile clients against another server |

mod against;
mod case;
mod cases;
mod client;
mod datagram_client;
mod guided;
mod halloo_server;
mod mio_server;
mod positions;
mod screen;
mod served;

use crate::cli::flags::tour_options::TourOptions;
use crate::cli::near_miss::nearest;
use crate::cli::usage_error::usage_error;
use crate::cli::without_effect::tour_settings_without_effect;
use crate::exit::{ExitError, ExitStatus};
use crate::output::standard_stream;
use crate::process::{self, inherited_signals};
use crate::text::address::Address;
use crate::text::escape;
use crate::tour::case::Case;
use crate::tour::cases::CASES;
use crate::tour::screen::Screen;

/// Lists the cases, runs some, tries them on another server, or is a server of one.
pub(crate) fn run(options: &TourOptions) -> Result<ExitStatus, ExitError> {
    for warning in options.warnings.iter().chain(&tour_settings_without_effect(options)) {
        // If standard error is closed, the exit status remains.
        let _ = standard_stream::stderr().write_line(format_args!("halloo: {warning}"));
    }
    let cases = named_cases(&options.cases)?;
    if let Some(server) = options.serve {
        inherited_signals::end_process_on_signals();
        let [case] = cases[..] else { return Err(usage_error(ONE_CASE)) };
        return served::run(case, server, options);
    }
    // A hostile client may be many.
    process::raise_descriptor_limit();
    let mut screen = Screen::new();
    let status = match (&options.against, &cases[..]) {
        (None, [_, ..]) => guided::run(&cases, options, &mut screen)?,
        (Some(address), _) => {
            inherited_signals::end_process_on_signals();
            let cases = if cases.is_empty() { &CASES } else { &cases[..] };
            against::run(address, cases, options, &mut screen)?
        }
        (None, []) => {
            inherited_signals::end_process_on_signals();
            list(options, &mut screen);
            ExitStatus::Success
        }
    };
    screen.finish(status)
}

const ONE_CASE: &str = "--serve runs the server of one case; name it, as in halloo tour 6 --serve twin";

/// The cases with these numbers or names, each once.
fn named_cases(names: &[String]) -> Result<Vec<&'static Case>, ExitError> {
    let mut cases: Vec<&'static Case> = Vec::new();
    for name in names {
        let case = find(name)?;
        if !cases.iter().any(|other| other.number == case.number) {
            cases.push(case);
        }
    }
    Ok(cases)
}

/// The case with this number or name.
fn find(name: &str) -> Result<&'static Case, ExitError> {
    let is_named = |case: &&Case| case.name == name || name.parse() == Ok(case.number);
    CASES.into_iter().find(is_named).ok_or_else(|| {
        let shown = if name.is_empty() { "''".to_owned() } else { escape::excerpt(name) };
        usage_error(&match nearest(name, CASES.map(|case| case.name)) {
            Some(meant) => format!("there is no case {shown}; did you mean {meant}?"),
            None if is_address(name) => {
                format!(
                    "there is no case {shown}; the cases are 1 to 12, and a server is tried with halloo tour --against \
                     {shown}"
                )
            }
            None => format!("there is no case {shown}; write a number from 1 to 12, or a name that halloo tour lists"),
        })
    })
}

/// Whether a word was meant as the address of a server. A small number is rather a case, and a bare word its name.
fn is_address(word: &str) -> bool {
    let looks_like_one = word.contains([':', '.']) || word.parse::<u16>().is_ok_and(|port| port > 1000);
    looks_like_one && word.parse::<Address>().is_ok()
}

/// Prints the cases, and what to type next.
fn list(options: &TourOptions, screen: &mut Screen) {
    if options.json {
        for case in CASES {
            let json = |text: &str| escape::json(text.as_bytes());
            let (number, name, title) = (case.number, json(case.name), json(case.title));
            let (mistake, read) = (json(case.mistake), case.reading_as_json());
            screen.line(&format!(
                r#"{{"case":{number},"name":{name},"title":{title},"mistake":{mistake},"read":{read}}}"#
            ));
        }
        return;
    }
    screen.line("Twelve mistakes of non-blocking servers:\n");
    for case in CASES {
        screen.paragraph(&format!("{:2}  {:14}  ", case.number, case.name), case.mistake);
    }
    screen.line(
        "\nNext:\n\
         \x20 halloo tour 1                       run the first: wrong, then right, and why\n\
         \x20 halloo tour --against 127.0.0.1:9000\n\
         \x20                                     try all on a server of your own",
    );
}
