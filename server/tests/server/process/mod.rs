//! The process: signals, workers, standard streams.

mod broken_standard_streams;
mod greeting_system_calls;
mod idle_wakeups;
mod signal_handling;
mod worker_threads;
