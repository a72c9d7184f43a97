//! The limit on file descriptors, and the connections it allows.
//!
//! All workers together plan no more connections than there are descriptors for.

/// Descriptors that are kept for everything but connections: as many as the library reserves for each loop without a
/// limit.
#[cfg(target_os = "linux")]
const RESERVED_FDS: u64 = 64;

/// What a loop opens for itself: the poll and its wake.
#[cfg(target_os = "linux")]
const FDS_PER_LOOP: usize = 2;

/// The connections that all workers together may have: as many as there are descriptors, less the reserve, or half of a
/// small number; and at least one each. `None` where the system tells no limit.
#[cfg(target_os = "linux")]
pub(crate) fn connections_max(workers: usize, sockets_per_worker: usize) -> Option<usize> {
    use nix::sys::resource::{Resource, getrlimit};
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    Some(connections_within(limit, workers, sockets_per_worker))
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn connections_max(_workers: usize, _sockets_per_worker: usize) -> Option<usize> {
    None
}

#[cfg(target_os = "linux")]
fn connections_within(limit: u64, workers: usize, sockets_per_worker: usize) -> usize {
    // The reserve covers what the first worker opens.
    let other_worker_fds = (workers - 1) * (FDS_PER_LOOP + sockets_per_worker);
    let available = limit.saturating_sub(other_worker_fds as u64);
    let connections = available.saturating_sub(RESERVED_FDS).max(available / 2);
    usize::try_from(connections).unwrap_or(usize::MAX).max(workers)
}

/// The part of a total that a worker gets, the first being number 1: the even share, and one more for the first ones
/// where it does not come out even.
pub(crate) const fn worker_share(total: usize, worker_number: usize, workers: usize) -> usize {
    total / workers + if worker_number <= total % workers { 1 } else { 0 }
}

/// Raises the soft limit to the hard limit: the soft limit is for programs that cannot poll more than 1,024.
#[cfg(target_os = "linux")]
pub(crate) fn raise() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    // Where it cannot be raised, halloo serves as many as it may.
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn raise() {}

/// Checks that a descriptor is left for a client: without one, all clients would wait for ever.
#[cfg(unix)]
pub(crate) fn check_available() -> std::io::Result<()> {
    use std::os::fd::AsFd;
    std::io::stderr().as_fd().try_clone_to_owned().map(drop)
}

#[cfg(not(unix))]
pub(crate) fn check_available() -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::worker_share;

    #[test]
    fn shares_are_even_and_add_up() {
        for (total, workers) in [(7, 1), (7, 3), (4, 4), (1000, 7), (1, 1)] {
            let shares: Vec<usize> =
                (1..=workers).map(|worker_number| worker_share(total, worker_number, workers)).collect();
            assert_eq!(shares.iter().sum::<usize>(), total);
            assert!(shares[0] - shares[workers - 1] <= 1 && shares[workers - 1] >= 1, "{shares:?}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn connections_and_what_the_loops_open_fit_the_limit() {
        use super::connections_within;
        assert_eq!(
            (connections_within(1024, 1, 4), connections_within(100, 1, 4), connections_within(10, 1, 4)),
            (960, 50, 5)
        );
        assert_eq!(connections_within(1024, 4, 4), 1024 - 64 - 3 * 6);
        assert_eq!(connections_within(100, 16, 4), 16);
        assert_eq!(connections_within(0, 2, 4), 2);
    }
}
