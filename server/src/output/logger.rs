//! The logger behind the `log` macros: formats, truncates and queues lines.
//!
//! It never blocks and never panics; each record becomes one line of bounded length.

use log::{LevelFilter, Log, Metadata, Record};

use crate::output::printer_thread::{self, Printer};
use crate::output::stderr::StderrLine;
use crate::text::escape;

/// The longest log line, in bytes.
const LOG_LINE_BYTES_MAX: usize = 1024;

/// The name of the thread of the admin endpoint. The library's lines about its clients are marked with it.
pub(crate) const ADMIN_THREAD_NAME: &str = "admin";

/// The module that logs the end of each connection, at the level debug.
const CONNECTIONS_MODULE: &str = "halloo::event_loop::connections";

/// The `log` crate's logger for this process.
struct QueueingLogger(Printer);

/// Sends every log record and panic message to the printer. The panic hook of the standard library would write to
/// standard error itself, and block while the reader does not read.
pub(crate) fn install(printer: Printer, level: LevelFilter) {
    std::panic::set_hook(Box::new(|panic| {
        // The logger panics if its stream fails. The printer counts that; another line would only fail again.
        if std::thread::current().name() != Some(printer_thread::STDERR_THREAD_NAME) {
            log::error!("{panic}");
        }
    }));
    // A second logger is refused, which can only happen in a test.
    if log::set_boxed_logger(Box::new(QueueingLogger(printer))).is_ok() {
        log::set_max_level(level);
    }
}

/// The level for this number of `-v` and `-q` flags.
pub(crate) const fn level_from_flags(verbose: u8, quiet: u8) -> LevelFilter {
    match (quiet, verbose) {
        (0, 0) => LevelFilter::Info,
        (0, 1) => LevelFilter::Debug,
        (0, _) => LevelFilter::Trace,
        (1, _) => LevelFilter::Warn,
        _ => LevelFilter::Error,
    }
}

impl Log for QueueingLogger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        let target = record.module_path_static().unwrap_or("halloo");
        if target.starts_with("mio::") {
            // At the level trace it logs descriptors, between the steps of the clients.
            return;
        }
        let is_of_admin_loop =
            target.starts_with("halloo::event_loop") && std::thread::current().name() == Some(ADMIN_THREAD_NAME);
        if log::max_level() == LevelFilter::Trace && target == CONNECTIONS_MODULE && !is_of_admin_loop {
            // The narrator logs the end of the connection in more detail.
            return;
        }
        let mark = if is_of_admin_loop { "admin: " } else { "" };
        let text = escape::message(&format!("{mark}{}", record.args()), LOG_LINE_BYTES_MAX);
        self.0.eprint(StderrLine::Log(record.level(), target, text));
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use log::LevelFilter;

    use super::level_from_flags;

    #[test]
    fn the_log_level_is_info_unless_flags_change_it() {
        assert_eq!(level_from_flags(0, 0), LevelFilter::Info);
        assert_eq!(level_from_flags(1, 0), LevelFilter::Debug);
        assert_eq!(level_from_flags(2, 0), LevelFilter::Trace);
        assert_eq!(level_from_flags(0, 1), LevelFilter::Warn);
        assert_eq!(level_from_flags(0, 3), LevelFilter::Error);
    }
}
