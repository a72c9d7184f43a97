//! The descriptors that the system allows this process, and how many of them are connections.
//!
//! Beside the flow, at the start. It promises that all workers together never plan more connections than there are
//! descriptors for, and that their shares differ by one at most.

/// Left for everything that is no connection: the library's own reserve, which it keeps for each loop that is told no
/// limit.
#[cfg(target_os = "linux")]
const RESERVED: u64 = 64;

/// What a loop opens for itself: the poll and its wake.
#[cfg(target_os = "linux")]
const PER_LOOP: usize = 2;

/// The connections that all workers together may have: as many as there are descriptors, less the reserve, or half of a
/// small number; and at least one each. `None` where the system tells no limit.
#[cfg(target_os = "linux")]
pub(crate) fn connections_max(workers: usize, sockets_each: usize) -> Option<usize> {
    use nix::sys::resource::{Resource, getrlimit};
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    Some(planned(limit, workers, sockets_each))
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn connections_max(_workers: usize, _sockets_each: usize) -> Option<usize> {
    None
}

#[cfg(target_os = "linux")]
fn planned(limit: u64, workers: usize, sockets_each: usize) -> usize {
    // The reserve covers what the first worker opens.
    let others = (workers - 1) * (PER_LOOP + sockets_each);
    let left = limit.saturating_sub(others as u64);
    let connections = left.saturating_sub(RESERVED).max(left / 2);
    usize::try_from(connections).unwrap_or(usize::MAX).max(workers)
}

/// The part of a total that a worker gets, the first being number 1: the even share, and one more for the first ones
/// where it does not come out even.
pub(crate) const fn share(total: usize, number: usize, workers: usize) -> usize {
    total / workers + if number <= total % workers { 1 } else { 0 }
}

/// Takes all the descriptors the system allows: the soft limit is for programs that cannot poll more than 1,024.
#[cfg(target_os = "linux")]
pub(crate) fn raise_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    // Where it cannot be raised, halloo serves as many as it may.
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn raise_limit() {}

/// Looks whether there is a descriptor left for a client: where there is none, all would wait for ever.
#[cfg(unix)]
pub(crate) fn spare() -> std::io::Result<()> {
    use std::os::fd::AsFd;
    std::io::stderr().as_fd().try_clone_to_owned().map(drop)
}

#[cfg(not(unix))]
pub(crate) fn spare() -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn shares_are_even_and_add_up() {
        for (total, workers) in [(7, 1), (7, 3), (4, 4), (1000, 7), (1, 1)] {
            let shares: Vec<usize> = (1..=workers).map(|number| share(total, number, workers)).collect();
            assert_eq!(shares.iter().sum::<usize>(), total);
            assert!(shares[0] - shares[workers - 1] <= 1 && shares[workers - 1] >= 1, "{shares:?}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn connections_and_what_the_loops_open_fit_the_limit() {
        use super::planned;
        assert_eq!((planned(1024, 1, 4), planned(100, 1, 4), planned(10, 1, 4)), (960, 50, 5));
        assert_eq!(planned(1024, 4, 4), 1024 - 64 - 3 * 6);
        assert_eq!(planned(100, 16, 4), 16);
        assert_eq!(planned(0, 2, 4), 2);
    }
}
