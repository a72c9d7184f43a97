//! What the test programs share: processes, clients, waiting with a deadline.
//!
//! `thread::sleep` stands only here, in [`wait`].

#![expect(clippy::missing_panics_doc, reason = "a helper that fails ends its test")]
#![expect(clippy::must_use_candidate, reason = "some tests call for the effect alone")]

pub mod byte_pattern;
pub mod captured_output;
pub mod measurement;
#[cfg(target_os = "linux")]
pub mod network_namespace;
pub mod ports;
#[cfg(unix)]
pub mod process;
pub mod raw_udp;
pub mod rlimit;
#[cfg(unix)]
pub mod server;
pub mod shell;
#[cfg(target_os = "linux")]
pub mod strace;
pub mod streams;
pub mod tcp;
pub mod udp;
pub mod wait;
