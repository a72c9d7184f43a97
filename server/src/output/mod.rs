//! Everything that is printed: standard output, standard error, and their threads.

pub(crate) mod counters;
pub(crate) mod event_log;
pub(crate) mod line_writer;
pub(crate) mod logger;
pub(crate) mod narrator;
pub(crate) mod printer_thread;
pub(crate) mod standard_stream;
pub(crate) mod stderr;
pub(crate) mod stdout;
