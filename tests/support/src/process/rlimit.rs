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

/// Sets the soft limit, which must be at most the hard limit.
#[cfg(unix)]
#[track_caller]
pub fn set_fd_limit(descriptors: u64) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("every process has a limit");
    setrlimit(Resource::RLIMIT_NOFILE, descriptors, hard).expect("it is at most the hard limit");
}

/// Does nothing: this system has no such limit.
#[cfg(not(unix))]
pub fn raise_fd_limit() {}
