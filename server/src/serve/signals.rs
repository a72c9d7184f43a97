//! The thread that handles SIGTERM, SIGINT, SIGHUP and SIGUSR1.
//!
//! The first request to stop drains the loops, and the second stops them at once. SIGHUP stops only a server that was
//! started on a terminal.

use std::io::{self, IsTerminal};
use std::thread;

use halloo::LoopStopped;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use crate::output::counters::Counters;
use crate::process::shutdown::Shutdown;
use crate::text::duration::format_duration;

/// Catches the signals from now on, on a thread of its own.
pub(crate) fn spawn_handler(shutdown: Shutdown, counters: Counters) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1])?;
    let mut handler = SignalHandler { shutdown, counters, stops_on_hangup: is_on_terminal(), is_draining: false };
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in &mut signals {
            if handler.handle(signal).is_err() {
                break;
            }
        }
    })?;
    Ok(())
}

/// Whether a person started this by hand: then one of the standard streams is still their terminal.
fn is_on_terminal() -> bool {
    io::stdin().is_terminal() || io::stdout().is_terminal() || io::stderr().is_terminal()
}

struct SignalHandler {
    shutdown: Shutdown,
    counters: Counters,
    stops_on_hangup: bool,
    is_draining: bool,
}

impl SignalHandler {
    fn handle(&mut self, signal: i32) -> Result<(), LoopStopped> {
        match signal {
            SIGUSR1 => self.counters.request_report(),
            SIGHUP if !self.stops_on_hangup => Ok(()),
            _ if self.is_draining => {
                log::info!("asked twice: stopping at once");
                self.shutdown.stop()
            }
            _ => {
                self.is_draining = true;
                let drain_timeout = format_duration(self.shutdown.drain_timeout);
                log::info!("stopping: open connections have {drain_timeout} to finish");
                self.shutdown.drain()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpStream};
    use std::time::Duration;

    use halloo::{EventLoop, Turn};
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};

    use super::{Counters, Shutdown, SignalHandler};
    use crate::output::printer_thread::Printer;
    use crate::process::sd_notify::SdNotifier;
    use crate::process::shutdown::LoopHandles;

    const LONG_TIMEOUT: Duration = Duration::from_secs(600);

    fn signal_handler(event_loop: &EventLoop<'_>, stops_on_hangup: bool) -> SignalHandler {
        let loops = LoopHandles::default();
        loops.set(vec![event_loop.handle()]);
        let counters = Counters::new(1, loops.clone(), Printer::null());
        let shutdown = Shutdown { drain_timeout: LONG_TIMEOUT, notifier: SdNotifier::disabled(), loops };
        SignalHandler { shutdown, counters, stops_on_hangup, is_draining: false }
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
        let mut signal_handler = signal_handler(&event_loop, false);
        signal_handler.handle(SIGTERM).unwrap();
        for _ in 0..10 {
            assert!(!matches!(turn(&mut event_loop), Turn::Stopped(_)));
        }
        signal_handler.handle(SIGINT).unwrap();
        let report = event_loop.run().unwrap();
        assert_eq!((report.finished, report.forced), (0, 1));
        assert!(signal_handler.handle(SIGTERM).is_err());
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
        let mut event_loop = EventLoop::new().unwrap();
        signal_handler(&event_loop, false).handle(SIGHUP).unwrap();
        signal_handler(&event_loop, false).handle(SIGUSR1).unwrap();
        assert!(!matches!(turn(&mut event_loop), Turn::Stopped(_)));
        signal_handler(&event_loop, true).handle(SIGHUP).unwrap();
        assert!(event_loop.run().is_ok());
    }
}
