//! The process: signals, workers, standard streams.

pub(crate) mod broken_standard_streams;
mod drain_delay;
mod greeting_system_calls;
mod idle_wakeups;
mod lifetime_settings;
mod nonblocking_streams;
mod signal_dispositions;
mod signal_handling;
mod stopped_starts;
mod worker_threads;
