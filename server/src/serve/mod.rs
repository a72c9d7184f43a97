//! `halloo serve`: gets ready what outlives the workers, has them serve, and says how it ended.
//!
//! Around the crew, which does the serving. It promises that printing never holds up a client, nor does a supervisor, and
//! an end that waits for no stuck output. It never serves on after a limit is reached.

pub(crate) mod bind_error;
pub(crate) mod idle_timer;
pub(crate) mod signals;
pub(crate) mod socket;
pub(crate) mod socket_plan;
pub(crate) mod worker;
pub(crate) mod workers;

use std::time::Duration;

use halloo::DrainReport;

use crate::cli::flags::ServeOptions;
use crate::exit::{Failure, Status};
use crate::greeting::greeter::Greetings;
use crate::output::logger;
use crate::output::printer_thread::Printer;
use crate::output::stderr::Remark;
use crate::process::sd_notify::Supervisor;
use crate::process::{descriptors, inherited_socket};
use crate::serve::worker::Common;
use crate::text::duration::show;

/// What the printer gets at the end to write what is still queued; only an output that is stuck takes all of it.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// The same after a failure: on a busy machine the printer's thread may have to wait for a processor, and the sentence
/// that says what failed must not get lost.
const LAST_WORDS_OF_FAILURE: Duration = Duration::from_secs(2);

/// Serves until asked to stop.
pub(crate) fn run(options: &ServeOptions) -> Result<Status, Failure> {
    // Before anything is opened and any thread begun.
    let handed = inherited_socket::take()?;
    let greetings = Greetings::new(&options.replies)?;
    descriptors::raise_limit();
    let printer = Printer::start(options.output.events)
        .map_err(|error| Failure::of_system("cannot start the printing threads", &error))?;
    logger::install(printer.clone(), logger::level(options.output.verbose, options.output.quiet));
    let common = Common::new(options, greetings, &printer, Supervisor::from_environment());
    let (status, patience) = match workers::serve(&common, handed, &printer) {
        Ok(report) => {
            tell_end(report);
            (Status::Done, LAST_WORDS)
        }
        Err(failure) => {
            printer.remark(Remark::Sentence(failure.to_string()));
            (failure.status, LAST_WORDS_OF_FAILURE)
        }
    };
    printer.finish(patience);
    Ok(status)
}

fn tell_end(report: DrainReport) {
    let DrainReport { finished, forced, took, .. } = report;
    let took = show(Duration::from_millis(u64::try_from(took.as_millis()).unwrap_or(u64::MAX)));
    match (finished, forced) {
        (0, 0) => log::info!("stopped"),
        (_, 0) => log::info!("stopped after {took}; connections finished: {finished}"),
        _ => log::warn!("stopped after {took}; connections finished: {finished}, reset: {forced}"),
    }
}
