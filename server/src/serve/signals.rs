//! Signals: during the start, then watched by the first worker's loop.
//!
//! The first stop signal drains the loops after the drain delay, and the second stops them at once. During the start the
//! first ends the process. A signal that the parent ignores stays ignored, except SIGTERM.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;
use signal_hook::{flag, low_level};

use crate::cli::flags::serve_options::ServeOptions;
use crate::exit::ExitStatus;
use crate::output::counters::Counters;
use crate::process::shutdown::Shutdown;
use crate::process::{self, inherited_signals};
use crate::record::recordings::Recordings;
use crate::serve::server_context::ServerContext;
use crate::text::address::Endpoint;
use crate::text::duration::format_duration;

/// How long an abandoned start may take to close its sockets. Only a system call that hangs takes longer, such as one
/// on an unreachable network file system.
const ABANDONED_START_TIMEOUT: Duration = Duration::from_secs(2);

/// How often the thread of a [`StartGuard`] checks whether the start is abandoned.
const START_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// The signals of a starting server.
#[derive(Debug)]
pub(crate) struct StartSignals {
    /// The signals that stop the server.
    stop_signals: Vec<i32>,
    /// Whether a stop signal ends the process within its handler. Until a socket is opened, there is nothing to remove.
    /// A name lookup may block for long and cannot be interrupted in another way.
    ends_process: Arc<AtomicBool>,
}

impl StartSignals {
    /// Catches and unblocks all signals that have an effect. Opens no descriptor and starts no thread.
    pub(crate) fn catch() -> io::Result<Self> {
        let stop_signals = stop_signals(is_on_terminal(), inherited_signals::is_ignored);
        let ends_process = Arc::new(AtomicBool::new(true));
        for &signal in &stop_signals {
            flag::register_conditional_shutdown(signal, ExitStatus::Success as i32, Arc::clone(&ends_process))?;
        }
        // SIGUSR1 and SIGUSR2 have an effect only when there are counters and loops to record.
        for signal in [SIGHUP, SIGUSR1, SIGUSR2].into_iter().filter(|signal| !stop_signals.contains(signal)) {
            inherited_signals::catch_without_effect(signal)?;
        }
        inherited_signals::unblock_signals();
        Ok(Self { stop_signals, ends_process })
    }

    /// Collects the signals from now on. A stop signal now abandons the start, which may have sockets to close. It no
    /// longer ends the process at once. A start without files needs no guard.
    pub(crate) fn collect(self, server: &ServerContext<'_>) -> io::Result<(ServerSignals, Option<StartGuard>)> {
        for &signal in &self.stop_signals {
            flag::register(signal, Arc::clone(&server.stop_requested))?;
        }
        let (read_end, write_end) = UnixStream::pair()?;
        let signals = [SIGUSR1, SIGUSR2, SIGCHLD].iter().chain(&self.stop_signals);
        let delivery = SignalDelivery::with_pipe(Arc::new(read_end), write_end, SignalOnly, signals)?;
        let stop_requested = || Arc::clone(&server.stop_requested);
        let start_guard = uses_files(server.options).then(|| StartGuard::start(stop_requested())).transpose()?;
        if start_guard.is_some() {
            // The kernel prefers the main thread, where no handler runs while a system call hangs.
            inherited_signals::block_signals(&self.stop_signals);
        }
        self.ends_process.store(false, Ordering::SeqCst);
        // Children that ended before SIGCHLD was caught.
        inherited_signals::reap_children();
        let handler = SignalHandler {
            shutdown: server.shutdown.clone(),
            counters: server.counters.clone(),
            recordings: server.recordings.clone(),
            is_stopping: false,
        };
        Ok((ServerSignals { delivery, handler }, start_guard))
    }
}

/// Whether the start uses a file, on a file system that may be unreachable.
fn uses_files(options: &ServeOptions) -> bool {
    let ServeOptions { listening, operation, output, recording, .. } = options;
    !listening.unix.is_empty()
        || matches!(operation.admin, Some(Endpoint::Unix(_)))
        || output.ready_file.is_some()
        || recording.record.is_some()
}

/// Ends the process if an abandoned start goes on for [`ABANDONED_START_TIMEOUT`]. It has a thread of its own: the main
/// thread may hang in a system call, and has the stop signals blocked. Dropping the guard ends the thread and unblocks
/// the signals.
#[derive(Debug)]
pub(crate) struct StartGuard {
    _is_alive: Sender<()>,
}

impl StartGuard {
    fn start(stop_requested: Arc<AtomicBool>) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel();
        let is_dropped_within = move |time| receiver.recv_timeout(time) == Err(RecvTimeoutError::Disconnected);
        thread::Builder::new().name("start".to_owned()).spawn(move || {
            while !stop_requested.load(Ordering::SeqCst) {
                if is_dropped_within(START_CHECK_INTERVAL) {
                    return;
                }
            }
            if !is_dropped_within(ABANDONED_START_TIMEOUT) {
                low_level::exit(ExitStatus::Success as i32);
            }
        })?;
        Ok(Self { _is_alive: sender })
    }
}

impl Drop for StartGuard {
    fn drop(&mut self) {
        inherited_signals::unblock_signals();
    }
}

/// The signals that have arrived and are not handled yet. The main thread handles them: its loop watches the
/// [descriptor](Self::descriptor). After that loop has ended, the thread [waits](Self::wait) for more signals.
#[derive(Debug)]
pub(crate) struct ServerSignals {
    /// Each signal handler writes a byte to the other end.
    delivery: SignalDelivery<Arc<UnixStream>, SignalOnly>,
    handler: SignalHandler,
}

impl ServerSignals {
    /// A descriptor that is readable when a signal has arrived.
    pub(crate) fn descriptor(&self) -> Arc<UnixStream> {
        Arc::clone(self.delivery.get_read())
    }

    /// Handles the signals that have arrived; never blocks.
    pub(crate) fn handle_pending(&mut self) {
        for signal in self.delivery.pending() {
            self.handler.handle(signal);
        }
    }

    /// Waits for a signal or a [wake-up](wake_main_thread), at most for `timeout`, and handles the signals that have
    /// arrived.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) {
        let timeout = timeout.map_or(PollTimeout::NONE, process::poll_timeout);
        // A signal interrupts the wait, and is pending then. After another error the caller waits again.
        let _ = poll(&mut [PollFd::new(self.delivery.get_read().as_fd(), PollFlags::POLLIN)], timeout);
        self.handle_pending();
    }
}

/// Ends a [wait](ServerSignals::wait) of the main thread. The signal's only other effect is to reap children that have
/// ended.
pub(crate) fn wake_main_thread() {
    let _ = low_level::raise(SIGCHLD);
}

/// The signals that stop the server. SIGHUP, the signal of a closed terminal, stops only a server that was started on
/// a terminal.
fn stop_signals(is_on_terminal: bool, is_ignored: impl Fn(i32) -> bool) -> Vec<i32> {
    let is_wanted = |signal: &i32| match *signal {
        SIGTERM => true,
        SIGHUP if !is_on_terminal => false,
        signal => !is_ignored(signal),
    };
    [SIGTERM, SIGINT, SIGHUP].into_iter().filter(is_wanted).collect()
}

/// Whether the server was started on a terminal: one of the standard streams is still that terminal.
fn is_on_terminal() -> bool {
    io::stdin().is_terminal() || io::stdout().is_terminal() || io::stderr().is_terminal()
}

#[derive(Debug)]
struct SignalHandler {
    shutdown: Shutdown,
    counters: Counters,
    recordings: Option<Recordings>,
    is_stopping: bool,
}

impl SignalHandler {
    /// Handles one signal. Loops that have ended already need no message.
    fn handle(&mut self, signal: i32) {
        match signal {
            SIGUSR1 => drop(self.counters.request_report()),
            SIGUSR2 => self.recordings.iter().for_each(Recordings::start_or_stop),
            SIGCHLD => inherited_signals::reap_children(),
            _ if self.is_stopping => {
                log::info!("second signal: closing all connections now");
                let _ = self.shutdown.stop();
            }
            _ => {
                self.is_stopping = true;
                let Shutdown { drain_delay, drain_timeout, .. } = self.shutdown;
                let drain_timeout = format_duration(drain_timeout);
                if drain_delay.is_zero() {
                    log::info!("stopping: open connections have {drain_timeout} to finish");
                } else {
                    let drain_delay = format_duration(drain_delay);
                    log::info!(
                        "stopping: everything is served for {drain_delay}, then connections have {drain_timeout} to \
                         finish; a second signal ends at once"
                    );
                }
                let _ = self.shutdown.drain_after_delay();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpStream};
    use std::time::Duration;

    use halloo::{EventLoop, Turn};
    use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};

    use super::{Counters, Shutdown, SignalHandler, stop_signals};
    use crate::output::printer_thread::Printer;
    use crate::process::sd_notify::SdNotifier;
    use crate::process::server_state::SharedServerState;
    use crate::process::worker_loops::{WorkerLoop, WorkerLoops};

    const LONG_TIMEOUT: Duration = Duration::from_secs(600);

    fn signal_handler(event_loop: &EventLoop<'_>, drain_delay: Duration) -> SignalHandler {
        let loops = WorkerLoops::default();
        loops.set(vec![WorkerLoop::for_test(event_loop)]);
        let counters = Counters::new(1, loops.clone(), Printer::null());
        let (state, notifier) = (SharedServerState::default(), SdNotifier::disabled());
        let shutdown =
            Shutdown { drain_delay, drain_timeout: LONG_TIMEOUT, notifier, state, loops, keeps_connections: false };
        SignalHandler { shutdown, counters, recordings: None, is_stopping: false }
    }

    fn turn(event_loop: &mut EventLoop<'_>) -> Turn {
        event_loop.turn(Some(Duration::ZERO)).unwrap()
    }

    #[test]
    fn the_first_stop_request_drains_and_the_second_stops_at_once() {
        let mut event_loop = EventLoop::new().unwrap();
        // A client that sends nothing and delays the drain.
        let listener = event_loop.listen(SocketAddr::from(([127, 0, 0, 1], 0)), IgnoringHandler).unwrap();
        let _client = TcpStream::connect(event_loop.local_addr(listener).unwrap()).unwrap();
        while event_loop.stats().connections == 0 {
            let _ = event_loop.turn(Some(LONG_TIMEOUT)).unwrap();
        }
        let mut signal_handler = signal_handler(&event_loop, Duration::ZERO);
        signal_handler.handle(SIGTERM);
        for _ in 0..10 {
            assert!(!matches!(turn(&mut event_loop), Turn::Stopped(_)));
        }
        signal_handler.handle(SIGINT);
        let report = event_loop.run().unwrap();
        assert_eq!((report.finished, report.forced), (0, 1));
        signal_handler.handle(SIGTERM);
    }

    struct IgnoringHandler;

    impl halloo::StreamHandler for IgnoringHandler {
        type Session = ();

        fn on_open(&mut self, _: &mut halloo::Connection<'_>) -> Option<()> {
            Some(())
        }

        fn on_data(&mut self, _: &mut halloo::Connection<'_>, (): &mut (), input: &[u8]) -> usize {
            input.len()
        }
    }

    #[test]
    fn sighup_ends_only_a_server_that_was_started_on_a_terminal() {
        for (is_on_terminal, ignored, expected) in [
            (false, &[][..], &[SIGTERM, SIGINT][..]),
            (true, &[], &[SIGTERM, SIGINT, SIGHUP]),
            (true, &[SIGHUP], &[SIGTERM, SIGINT]),
            (false, &[SIGHUP, SIGINT, SIGTERM], &[SIGTERM]),
        ] {
            assert_eq!(stop_signals(is_on_terminal, |signal| ignored.contains(&signal)), expected);
        }
    }

    #[test]
    fn sigusr1_sigusr2_and_sigchld_do_not_stop_the_loop() {
        let mut event_loop = EventLoop::new().unwrap();
        let mut signal_handler = signal_handler(&event_loop, Duration::ZERO);
        for signal in [SIGUSR1, SIGUSR2, SIGCHLD] {
            signal_handler.handle(signal);
            assert!(!matches!(turn(&mut event_loop), Turn::Stopped(_)));
        }
        assert!(!signal_handler.is_stopping);
        assert_eq!(event_loop.stats().jobs, 1, "the counters are requested");
    }
}
