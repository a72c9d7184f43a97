//! The built binary under a supervisor, which here is the test: sockets handed over at the start, words about its
//! state, and restarts that nobody notices.

#![cfg(target_os = "linux")]

mod handing;
mod refusals;
mod restarts;
mod support;
mod watchdog;
mod words;
mod workers;
