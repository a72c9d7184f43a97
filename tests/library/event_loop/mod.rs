//! The loop: turns, timers, jobs, watches, panics and drain.

mod drain_and_stop;
mod drained_connections;
mod fairness;
mod handler_panics;
mod nested_loops;
mod notify_connections;
mod posted_jobs;
mod scheduled_timers;
mod turn_and_next_timeout;
#[cfg(unix)]
mod watched_descriptors;
