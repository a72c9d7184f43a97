//! Child processes, their output and faults in their system calls.

pub mod captured_output;
#[cfg(unix)]
pub mod child;
#[cfg(unix)]
pub mod examples;
#[cfg(unix)]
pub mod nonblocking_pipe;
pub mod rlimit;
#[cfg(unix)]
pub mod server;
pub mod shell;
#[cfg(target_os = "linux")]
pub mod strace;
#[cfg(unix)]
pub mod tour;
