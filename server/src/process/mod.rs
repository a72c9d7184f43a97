//! What the process shares with the system: descriptors, signals, notifications, shutdown.

pub(crate) mod inherited_signals;
pub(crate) mod inherited_socket;
pub(crate) mod sd_notify;
pub(crate) mod server_state;
pub(crate) mod shutdown;
pub(crate) mod stdin_eof;
pub(crate) mod user;
pub(crate) mod worker_loops;

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::PollTimeout;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the soft limit on descriptors to the hard limit. The soft limit protects programs that use select(2), which
/// takes at most 1,024.
pub(crate) fn raise_descriptor_limit() {
    // If it cannot be raised, halloo serves as many clients as the limit allows.
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Whole milliseconds, rounded up: a wait that is too short would only be repeated.
pub(crate) fn poll_timeout(timeout: Duration) -> PollTimeout {
    PollTimeout::try_from(timeout.as_millis() + 1).unwrap_or(PollTimeout::MAX)
}

/// Checks that a descriptor is free for a client: without one, no client could be accepted.
pub(crate) fn check_descriptor_available() -> io::Result<()> {
    io::stderr().as_fd().try_clone_to_owned().map(drop)
}
