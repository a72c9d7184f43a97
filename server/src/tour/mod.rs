//! `halloo tour`: twelve hard cases of non-blocking servers, each with its mistake.
//!
//! | file | contents |
//! |---|---|
//! | `case` | what a case is, and the verdict of its hostile client |
//! | `cases` | the twelve: texts, hostile client, mistake |
//! | `client` | what hostile clients are made of |
//! | `positions` | text whose bytes show their positions, and the replies to it |
//! | `mio_server` | the server on mio, in which each case has one rule |
//! | `halloo_server` | the right server, on halloo's loop |
//! | `served` | one of these servers, as a process of its own |

mod case;
mod cases;
mod client;
mod halloo_server;
mod mio_server;
mod positions;
mod served;

use crate::cli::flags::TourOptions;
use crate::cli::usage_error::usage_error;
use crate::exit::{ExitError, ExitStatus};
use crate::output::standard_stream;
use crate::process::inherited_signals;
use crate::text::escape;
use crate::tour::case::{Case, Outcome, Verdict};
use crate::tour::cases::CASES;
use crate::tour::client::{PATIENCE, Target};

/// Lists the cases, runs some, tries them on another server, or is a server of one.
pub(crate) fn run(options: &TourOptions) -> Result<ExitStatus, ExitError> {
    inherited_signals::end_process_on_signals();
    for warning in &options.warnings {
        // If standard error is closed, the exit status remains.
        let _ = standard_stream::stderr().write_line(format_args!("halloo: {warning}"));
    }
    let cases = options.cases.iter().map(|name| find(name)).collect::<Result<Vec<_>, _>>()?;
    if let (Some(server), [case]) = (options.serve, &cases[..]) {
        return served::run(case, server, options);
    }
    let mut lines = Vec::new();
    let mut status = ExitStatus::Success;
    if let Some(address) = &options.against {
        let address = address.resolve().map_err(|error| ExitError::from_io("cannot look up the server", &error))?;
        let target = Target {
            tcp: address.first().copied(),
            udp: address.first().copied(),
            mode: options.mode,
            slow_request: format!("{}\n", options.slow).into_bytes(),
            patience: PATIENCE,
        };
        for case in if cases.is_empty() { CASES.to_vec() } else { cases } {
            let verdict = (case.attack)(&target).unwrap_or_else(|error| Verdict::fail("", error.to_string()));
            if verdict.outcome == Outcome::Fail {
                status = ExitStatus::Mismatch;
            }
            let Verdict { outcome, sent, came } = verdict;
            let word = outcome.as_str();
            lines.push(format!("{} {} {word}: sent: {sent}; came: {came}", case.number, case.name));
        }
    } else {
        for case in CASES {
            lines.push(format!("{} {} {} {}", case.number, case.name, case.title, case.mistake));
            lines.push(format!("{:?} {:?}", case.explanation, case.reading));
        }
    }
    let written = standard_stream::stdout().write_line(lines.join("\n"));
    written.map_err(|error| ExitError::from_io("cannot write to standard output", &error))?;
    Ok(status)
}

/// The case with this number or name.
fn find(name: &str) -> Result<&'static Case, ExitError> {
    let is_named = |case: &&Case| case.name == name || name.parse() == Ok(case.number);
    CASES.into_iter().find(is_named).ok_or_else(|| {
        let name = escape::excerpt(name);
        usage_error(&format!("there is no case {name}; write a number from 1 to 12, or a name that halloo tour lists"))
    })
}
