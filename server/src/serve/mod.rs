//! `halloo serve`: sets up the workers, runs them and logs the result.
//!
//! Neither the output nor the supervisor can block the server or its exit.

pub(crate) mod admin_sockets;
pub(crate) mod bind_error;
pub(crate) mod idle_timer;
pub(crate) mod ready_file;
pub(crate) mod server_context;
pub(crate) mod signals;
pub(crate) mod socket;
pub(crate) mod socket_plan;
pub(crate) mod worker;
pub(crate) mod workers;

use std::time::Duration;

use halloo::DrainReport;

use crate::cli::flags::serve_options::{LogFormat, ServeOptions};
use crate::exit::{ExitError, ExitStatus};
use crate::greeting::greeting_templates::GreetingTemplates;
use crate::output::printer_thread::Printer;
use crate::output::stderr::exit_line;
use crate::output::{logger, standard_stream};
use crate::process::sd_notify::SdNotifier;
use crate::process::{self, inherited_socket};
use crate::record::recordings::Recordings;
use crate::serve::server_context::ServerContext;
use crate::serve::signals::StartSignals;
use crate::text::duration::format_duration;

/// The most time for writing the queued output at the end; only a blocked output takes all of it.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(250);

/// The same after an error. On a busy machine the printer's threads may wait for a processor, and the error message
/// must not be lost.
const FLUSH_TIMEOUT_AFTER_ERROR: Duration = Duration::from_secs(2);

/// Serves until asked to stop. With a log in JSON, an error is printed here.
pub(crate) fn run(options: &ServeOptions) -> Result<ExitStatus, ExitError> {
    match serve(options) {
        Err(error) if options.output.log_format == LogFormat::Json => {
            // If standard error is closed, the exit status remains.
            let _ = standard_stream::stderr().write_line(exit_line(&error, LogFormat::Json));
            Ok(error.status)
        }
        result => result,
    }
}

fn serve(options: &ServeOptions) -> Result<ExitStatus, ExitError> {
    // Before the first descriptor is opened and the first thread is started.
    let start_signals = StartSignals::catch().map_err(|error| ExitError::from_io("cannot catch signals", &error))?;
    let inherited = inherited_socket::take_inherited()?;
    let templates = GreetingTemplates::new(&options.replies)?;
    process::raise_descriptor_limit();
    let printer = Printer::new(options.output.events, options.output.log_format);
    logger::install(printer.clone(), logger::level_from_flags(options.output.verbose, options.output.quiet));
    let server = ServerContext::new(options, templates, &printer, SdNotifier::from_env())?;
    // It ends last, when this is dropped.
    let mut admin = None;
    let (mut status, mut flush_timeout) = match workers::run(&server, inherited, &printer, start_signals, &mut admin) {
        Ok(report) => {
            match report {
                Some(report) => log_drain_report(report),
                None => log::info!("stopped during the start"),
            }
            (server.exit_status(), FLUSH_TIMEOUT)
        }
        Err(error) => {
            let status = error.status;
            printer.print_exit(error, options.output.log_format);
            (status, FLUSH_TIMEOUT_AFTER_ERROR)
        }
    };
    if let Some(Err(error)) = server.recordings.as_ref().map(Recordings::finish) {
        flush_timeout = FLUSH_TIMEOUT_AFTER_ERROR;
        if status == ExitStatus::Success {
            status = error.status;
        }
        printer.print_exit(error, options.output.log_format);
    }
    server.remove_ready_file();
    printer.flush(flush_timeout);
    drop(admin);
    Ok(status)
}

fn log_drain_report(report: DrainReport) {
    let DrainReport { finished, forced, elapsed: took, .. } = report;
    let took = format_duration(took);
    match (finished, forced) {
        (0, 0) => log::info!("stopped"),
        (_, 0) => log::info!("stopped after {took}; connections finished: {finished}"),
        _ => log::warn!("stopped after {took}; connections finished: {finished}, reset: {forced}"),
    }
}
