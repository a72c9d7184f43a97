//! What signals do to a server.
//!
//! A thread beside the loops that sleeps until a signal comes and then reaches them all through their handles. It
//! promises that the first request to stop drains, that a second one ends at once, that a closing terminal ends only what
//! was started on one, and that the counters can be asked for at any time. It never touches a loop's tables itself.

use std::io::{self, IsTerminal};
use std::thread;

use halloo::Stopped;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use crate::output::counters::Counters;
use crate::process::shutdown::Ending;
use crate::text::duration::show;

/// Catches the signals from now on.
pub(crate) fn watch(ending: Ending, counters: Counters) -> io::Result<()> {
    let hangup = if is_on_terminal() { Hangup::Stops } else { Hangup::Ignored };
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1])?;
    let mut watch = Watch { ending, counters, hangup, stage: Stage::Serving };
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in &mut signals {
            if watch.take(signal).is_err() {
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

#[derive(Clone, Copy, PartialEq, Eq)]
enum Hangup {
    Stops,
    Ignored,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Serving,
    Draining,
}

struct Watch {
    ending: Ending,
    counters: Counters,
    hangup: Hangup,
    stage: Stage,
}

impl Watch {
    fn take(&mut self, signal: i32) -> Result<(), Stopped> {
        match signal {
            SIGUSR1 => self.counters.show(),
            SIGHUP if self.hangup == Hangup::Ignored => Ok(()),
            _ => self.stop(),
        }
    }

    fn stop(&mut self) -> Result<(), Stopped> {
        match self.stage {
            Stage::Serving => {
                self.stage = Stage::Draining;
                log::info!("stopping: open connections have {} to finish", show(self.ending.drain_timeout));
                self.ending.begin()
            }
            Stage::Draining => {
                log::info!("asked twice: stopping at once");
                self.ending.cut()
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

    use super::{Counters, Ending, Hangup, Stage, Watch};
    use crate::output::printer_thread::Printer;
    use crate::process::sd_notify::Supervisor;
    use crate::process::shutdown::Workers;

    const LONG: Duration = Duration::from_secs(600);

    fn watch(events: &EventLoop<'_>, hangup: Hangup) -> Watch {
        let workers = Workers::default();
        workers.meet(vec![events.handle()]);
        let counters = Counters::new(1, workers.clone(), Printer::to_nowhere());
        let ending = Ending { drain_timeout: LONG, supervisor: Supervisor::none(), workers };
        Watch { ending, counters, hangup, stage: Stage::Serving }
    }

    fn turn(events: &mut EventLoop<'_>) -> Turn {
        events.turn(Some(Duration::ZERO)).unwrap()
    }

    #[test]
    fn the_first_request_drains_and_the_second_ends_at_once() {
        let mut events = EventLoop::new().unwrap();
        // A client that says nothing, and would hold up the drain.
        let patient = halloo::framing::Framed::new(halloo::framing::Format::Lines, 10, Patient);
        let listener = events.listen(SocketAddr::from(([127, 0, 0, 1], 0)), patient).unwrap();
        let _client = TcpStream::connect(events.local_addr(listener).unwrap()).unwrap();
        while events.stats().connections == 0 {
            let _ = events.turn(Some(LONG)).unwrap();
        }
        let mut watch = watch(&events, Hangup::Ignored);
        watch.take(SIGTERM).unwrap();
        for _ in 0..10 {
            assert!(!matches!(turn(&mut events), Turn::Stopped(_)));
        }
        watch.take(SIGINT).unwrap();
        let report = events.run().unwrap();
        assert_eq!((report.finished, report.forced), (0, 1));
        assert!(watch.take(SIGTERM).is_err());
    }

    struct Patient;

    impl halloo::framing::FrameHandler for Patient {
        type Session = ();

        fn on_open(&mut self, _: &mut halloo::Connection<'_>) -> Option<()> {
            Some(())
        }

        fn on_frame(&mut self, _: &mut halloo::Connection<'_>, (): &mut (), _: &[u8]) {}
    }

    #[test]
    fn a_closing_terminal_ends_only_what_was_started_on_one() {
        let mut events = EventLoop::new().unwrap();
        watch(&events, Hangup::Ignored).take(SIGHUP).unwrap();
        watch(&events, Hangup::Ignored).take(SIGUSR1).unwrap();
        assert!(!matches!(turn(&mut events), Turn::Stopped(_)));
        watch(&events, Hangup::Stops).take(SIGHUP).unwrap();
        assert!(events.run().is_ok());
    }
}
