//! Blocked signals, ignored signals and children, inherited from the parent.
//!
//! No function here starts a thread, or leaves a descriptor open.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use signal_hook::SigId;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// The kernel's process number for the first process of a container or of the machine.
const INIT_PID: u32 = 1;

/// `SIGXFSZ` (signal(7)), sent by a write that would exceed the file size limit (`ulimit -f`).
const SIGXFSZ: i32 = Signal::SIGXFSZ as i32;

/// Catches a signal and does nothing. The default action would end the process.
pub(crate) fn catch_without_effect(signal: i32) -> io::Result<SigId> {
    flag::register(signal, Arc::new(AtomicBool::new(false)))
}

/// Makes a write beyond `ulimit -f` fail with `EFBIG`; by default the signal would end the process.
pub(crate) fn survive_file_size_limit() {
    // If the signal cannot be caught, halloo ends at the limit, like other programs.
    let _ = catch_without_effect(SIGXFSZ);
}

/// Unblocks every signal. The process inherits the signal mask of the thread that starts it: a parent that blocks
/// SIGTERM would block it here, too.
pub(crate) fn unblock_signals() {
    let _ = SigSet::empty().thread_set_mask();
}

/// Blocks signals on this thread and on threads that it starts later. The existing threads handle them.
pub(crate) fn block_signals(signals: &[i32]) {
    let _ = signals.iter().filter_map(|&signal| Signal::try_from(signal).ok()).collect::<SigSet>().thread_block();
}

/// Lets SIGINT and SIGTERM end the process, even if the parent has blocked them.
pub(crate) fn end_process_on_signals() {
    if std::process::id() == INIT_PID {
        // The kernel discards them for a process 1 that does not catch them (pid_namespaces(7)).
        for signal in [SIGINT, SIGTERM] {
            let _ = flag::register_conditional_shutdown(signal, 128 + signal, Arc::new(AtomicBool::new(true)));
        }
    }
    unblock_signals();
}

/// Whether the parent ignores a signal, as `nohup` and the `&` of a script do. Only Linux shows it, in proc(5).
pub(crate) fn is_ignored(signal: i32) -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| is_ignored_in(&status, signal))
}

fn is_ignored_in(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// Collects the exit statuses of children that have ended, which are zombies until then. halloo starts no children:
/// they come from a shell that has become halloo (`exec`), or are orphans that process 1 inherits.
pub(crate) fn reap_children() {
    while !matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive) | Err(_)) {}
}

#[cfg(test)]
mod tests {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

    use super::is_ignored_in;

    #[test]
    fn ignored_signals_are_bits_of_a_number() {
        let status = "SigBlk:\tffffffffffffffff\nSigIgn:\t0000000000001003\nSigCgt:\tffffffffffffffff\n";
        assert!(is_ignored_in(status, SIGHUP) && is_ignored_in(status, SIGINT) && !is_ignored_in(status, SIGTERM));
        for unknown in ["", "SigIgn:\n", "SigIgn:\tx\n"] {
            assert!(!is_ignored_in(unknown, SIGHUP), "{unknown}");
        }
    }
}
