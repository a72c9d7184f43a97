//! Signals: during the start, and the thread that handles them afterwards.
//!
//! The first request to stop drains the loops, and the second stops them at once. During the start the first ends the
//! process. A signal that the parent ignores stays ignored, except SIGTERM.

use std::io::{self, IsTerminal};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;
use signal_hook::{flag, low_level};

use crate::exit::ExitStatus;
use crate::output::counters::Counters;
use crate::process::inherited_signals;
use crate::process::shutdown::Shutdown;
use crate::text::duration::format_duration;

/// How long an abandoned start may take to close its sockets. Only a system call that hangs takes longer, such as one
/// on a network file system that is gone.
const ABANDONED_START_TIMEOUT: Duration = Duration::from_secs(2);

/// The signals of a server that starts.
#[derive(Debug)]
pub(crate) struct StartSignals {
    /// What stops the server.
    stop_signals: Vec<i32>,
    /// Whether a stop signal ends the process within its handler. Until a socket is opened, nothing has to be removed,
    /// and the lookup of a name, which may block for long, cannot be interrupted otherwise.
    ends_process: Arc<AtomicBool>,
}

impl StartSignals {
    /// Catches and unblocks all signals that have a meaning. Opens no descriptor and starts no thread.
    pub(crate) fn catch() -> io::Result<Self> {
        let stop_signals = stop_signals(is_on_terminal(), inherited_signals::is_ignored);
        let ends_process = Arc::new(AtomicBool::new(true));
        for &signal in &stop_signals {
            flag::register_conditional_shutdown(signal, ExitStatus::Success as i32, Arc::clone(&ends_process))?;
        }
        // SIGUSR1 has an effect once there are counters.
        for signal in [SIGHUP, SIGUSR1, SIGUSR2].into_iter().filter(|signal| !stop_signals.contains(signal)) {
            inherited_signals::catch_without_effect(signal)?;
        }
        inherited_signals::unblock_signals();
        Ok(Self { stop_signals, ends_process })
    }

    /// Handles the signals from now on, on a thread of their own.
    pub(crate) fn spawn_handler(self, shutdown: Shutdown, counters: Counters) -> io::Result<()> {
        let mut signals = Signals::new([SIGUSR1, SIGCHLD].iter().chain(&self.stop_signals))?;
        let mut handler = SignalHandler { shutdown, counters, is_draining: false };
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            inherited_signals::reap_children();
            signals.forever().find(|&signal| handler.handle(signal).is_break());
            thread::sleep(ABANDONED_START_TIMEOUT);
            low_level::exit(ExitStatus::Success as i32);
        })?;
        self.ends_process.store(false, Ordering::SeqCst);
        Ok(())
    }
}

/// The signals that stop the server. SIGHUP, which says that a terminal is closed, stops one that was started on a
/// terminal.
fn stop_signals(is_on_terminal: bool, is_ignored: impl Fn(i32) -> bool) -> Vec<i32> {
    let is_wanted = |signal: &i32| match *signal {
        SIGTERM => true,
        SIGHUP if !is_on_terminal => false,
        signal => !is_ignored(signal),
    };
    [SIGTERM, SIGINT, SIGHUP].into_iter().filter(is_wanted).collect()
}

/// Whether a person started this by hand: then one of the standard streams is still their terminal.
fn is_on_terminal() -> bool {
    io::stdin().is_terminal() || io::stdout().is_terminal() || io::stderr().is_terminal()
}

struct SignalHandler {
    shutdown: Shutdown,
    counters: Counters,
    is_draining: bool,
}

impl SignalHandler {
    /// Handles one signal. The break says that the start was abandoned: no further signal has a meaning then.
    ///
    /// Loops that have ended already need no message.
    fn handle(&mut self, signal: i32) -> ControlFlow<()> {
        match signal {
            SIGUSR1 => drop(self.counters.request_report()),
            SIGCHLD => inherited_signals::reap_children(),
            _ if self.shutdown.loops.abandon_start() => return ControlFlow::Break(()),
            _ if self.is_draining => {
                log::info!("asked twice: stopping at once");
                let _ = self.shutdown.stop();
            }
            _ => {
                self.is_draining = true;
                let drain_timeout = format_duration(self.shutdown.drain_timeout);
                log::info!("stopping: open connections have {drain_timeout} to finish");
                let _ = self.shutdown.drain();
            }
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpStream};
    use std::time::Duration;

    use halloo::{EventLoop, Turn};
    use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1};

    use super::{Counters, Shutdown, SignalHandler, stop_signals};
    use crate::output::printer_thread::Printer;
    use crate::process::sd_notify::SdNotifier;
    use crate::process::shutdown::LoopHandles;

    const LONG_TIMEOUT: Duration = Duration::from_secs(600);

    fn signal_handler(event_loop: &EventLoop<'_>) -> SignalHandler {
        let loops = LoopHandles::default();
        assert!(loops.set(vec![event_loop.handle()]));
        let counters = Counters::new(1, loops.clone(), Printer::null());
        let shutdown = Shutdown { drain_timeout: LONG_TIMEOUT, notifier: SdNotifier::disabled(), loops };
        SignalHandler { shutdown, counters, is_draining: false }
    }

    fn turn(event_loop: &mut EventLoop<'_>) -> Turn {
        event_loop.turn(Some(Duration::ZERO)).unwrap()
    }

    #[test]
    fn the_first_request_drains_and_the_second_ends_at_once() {
        let mut event_loop = EventLoop::new().unwrap();
        // A client that says nothing, and would hold up the drain.
        let handler = halloo::framing::Framed::new(halloo::framing::Format::Lines, 10, IgnoringHandler);
        let listener = event_loop.listen(SocketAddr::from(([127, 0, 0, 1], 0)), handler).unwrap();
        let _client = TcpStream::connect(event_loop.local_addr(listener).unwrap()).unwrap();
        while event_loop.stats().connections == 0 {
            let _ = event_loop.turn(Some(LONG_TIMEOUT)).unwrap();
        }
        let mut signal_handler = signal_handler(&event_loop);
        assert!(signal_handler.handle(SIGTERM).is_continue());
        for _ in 0..10 {
            assert!(!matches!(turn(&mut event_loop), Turn::Stopped(_)));
        }
        assert!(signal_handler.handle(SIGINT).is_continue());
        let report = event_loop.run().unwrap();
        assert_eq!((report.finished, report.forced), (0, 1));
        assert!(signal_handler.handle(SIGTERM).is_continue());
    }

    struct IgnoringHandler;

    impl halloo::framing::FrameHandler for IgnoringHandler {
        type Session = ();

        fn on_open(&mut self, _: &mut halloo::Connection<'_>) -> Option<()> {
            Some(())
        }

        fn on_frame(&mut self, _: &mut halloo::Connection<'_>, (): &mut (), _: &[u8]) {}
    }

    #[test]
    fn a_closing_terminal_ends_only_what_was_started_on_one() {
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
    fn the_counters_and_a_child_stop_nothing_before_or_after_the_start() {
        let event_loop = EventLoop::new().unwrap();
        let mut serving = signal_handler(&event_loop);
        let loops = LoopHandles::default();
        let shutdown = Shutdown { loops: loops.clone(), ..serving.shutdown.clone() };
        let mut starting = SignalHandler { shutdown, counters: serving.counters.clone(), is_draining: false };
        for signal in [SIGUSR1, SIGCHLD] {
            assert!(serving.handle(signal).is_continue() && starting.handle(signal).is_continue());
        }
        assert!(!loops.is_start_abandoned() && !serving.is_draining);
        assert!(starting.handle(SIGTERM).is_break());
        assert!(loops.is_start_abandoned());
    }
}
