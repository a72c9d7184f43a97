//! The file descriptor limit of this process.

/// Raises the soft limit to the hard limit.
#[cfg(unix)]
pub fn raise_fd_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("every process has a limit");
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("the hard limit is allowed");
    }
}

/// Does nothing: this system has no such limit.
#[cfg(not(unix))]
pub fn raise_fd_limit() {}
