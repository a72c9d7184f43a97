//! All workers: started together, ended together.
//!
//! The server's main flow. The first worker has the process's own thread, so that one worker costs no other; it opens the
//! sockets, has the others open theirs, and waits for their end behind its own. It promises the READY line before any
//! other line on standard output and only once every worker listens; that no client is served before it; and that a
//! worker which fails, in whatever way, ends all of them in order: never half a server.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, Scope};
use std::time::Instant;

use halloo::{DrainReport, Handle};

use crate::exit::{Failure, Status};
use crate::output::printer_thread::Printer;
use crate::output::stdout::Line;
use crate::process::descriptors;
use crate::process::inherited_socket::Handed;
use crate::process::sd_notify::Watchdog;
use crate::serve::signals;
use crate::serve::socket_plan::{self, Plan, Served};
use crate::serve::worker::{self, Common};
use crate::text::protocol::Protocol;

/// How a worker ended.
type Outcome = Result<DrainReport, Failure>;

/// What a worker tells the first one, with its number.
enum News {
    Listens(Handle),
    Ended(Outcome),
}

/// Serves until every worker has ended, and says how their drains went, taken together.
pub(crate) fn serve(common: &Common<'_>, handed: Vec<Handed>, printer: &Printer) -> Outcome {
    thread::scope(|scope| {
        let desk = common.desk();
        let mut events = worker::event_loop()?;
        let plan = socket_plan::open(&mut events, handed, common.options, &desk)?;
        let served = plan.served.clone();
        let (others, mut handles) = Others::start(scope, common, plan)?;
        let watched = handles.clone();
        handles.insert(0, events.handle());
        common.ending.workers.meet(handles);
        signals::watch(common.ending.clone(), common.counters.clone())
            .map_err(|error| Failure::of_system("cannot catch signals", &error))?;
        if served.iter().any(|(protocol, _)| *protocol != Protocol::Udp) {
            descriptors::spare().map_err(|error| Failure::of_system("cannot serve any client", &error))?;
        }
        printer.print(Line::Plain(ready(&served)));
        common.ending.supervisor.ready();
        let since = Instant::now();
        others.go(since);
        let mut watchdog = common.ending.supervisor.watchdog(&watched);
        let own = to_the_end(common, 1, || {
            let own = common.turn(&mut events, &desk, since, watchdog.as_mut());
            common.counters.close(1, events.stats().clone());
            own
        });
        // What it still holds must not wait for the others.
        drop(events);
        others.join(own, watchdog)
    })
}

/// Has a loop turn to its end. If that fails, the other workers are asked to end, and the failure names this one.
fn to_the_end(common: &Common<'_>, number: usize, turn: impl FnOnce() -> Outcome) -> Outcome {
    guarded(turn).map_err(|failure| {
        // Those that have ended need no word.
        let _ = common.ending.begin();
        let workers = common.options.workers;
        if workers == 1 {
            return failure;
        }
        log::error!("worker {number} of {workers} has failed: stopping the others");
        Failure { sentence: format!("worker {number} of {workers} has failed: {}", failure.sentence), ..failure }
    })
}

/// A panic that leaves a loop is a failure like another. What it has touched is not looked at again.
fn guarded<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let sentence = "a bug of halloo: it panicked; please report what the log says of it";
        Err(Failure::new(Status::RunTime, sentence))
    })
}

/// All workers but the first, as the first one sees them.
struct Others {
    news: Receiver<(usize, News)>,
    /// One for each: the word to begin. Those that never hear it end at once.
    starts: Vec<Sender<Instant>>,
}

impl Others {
    /// Starts them, and waits until all of them listen; their handles come in the order of their numbers.
    fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        common: &'scope Common<'_>,
        plan: Plan,
    ) -> Result<(Self, Vec<Handle>), Failure> {
        let (tell, news) = mpsc::channel();
        let mut others = Self { news, starts: Vec::new() };
        for number in 2..=common.options.workers {
            let (start, started) = mpsc::channel();
            others.starts.push(start);
            let (plan, tell) = (plan.clone(), tell.clone());
            thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn_scoped(scope, move || work(common, number, plan, &tell, &started))
                .map_err(|error| Failure::of_system(&format!("cannot start worker {number}"), &error))?;
        }
        drop((plan, tell));
        let mut handles = vec![None; others.starts.len()];
        for _ in 0..others.starts.len() {
            match others.news.recv() {
                Ok((number, News::Listens(handle))) => handles[number - 2] = Some(handle),
                Ok((_, News::Ended(Err(failure)))) => return Err(failure),
                // It ends only once it is told to begin.
                Ok((_, News::Ended(Ok(_)))) | Err(_) => {}
            }
        }
        Ok((others, handles.into_iter().flatten().collect()))
    }

    fn go(&self, since: Instant) {
        for start in &self.starts {
            // One that does not hear it has failed, and its news says so.
            let _ = start.send(since);
        }
    }

    /// Waits for their end, looking after the watchdog meanwhile, and takes all outcomes together.
    fn join(self, own: Outcome, mut watchdog: Option<Watchdog>) -> Outcome {
        let (mut together, mut running) = (own, self.starts.len());
        while running > 0 {
            let news = match &watchdog {
                None => self.news.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(watchdog) => self.news.recv_timeout(watchdog.wait()),
            };
            match news {
                Ok((_, News::Ended(outcome))) => {
                    together = add(together, outcome);
                    running -= 1;
                }
                Ok((_, News::Listens(_))) | Err(RecvTimeoutError::Timeout) => {}
                // Each tells its end before it goes.
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if let Some(watchdog) = &mut watchdog {
                watchdog.feed();
            }
        }
        together
    }
}

/// The thread of a worker that is not the first.
fn work(common: &Common<'_>, number: usize, plan: Plan, tell: &Sender<(usize, News)>, started: &Receiver<Instant>) {
    let outcome = guarded(|| {
        let desk = common.desk();
        let mut events = worker::event_loop()?;
        socket_plan::join(&mut events, plan, common.options, &desk, number)?;
        let _ = tell.send((number, News::Listens(events.handle())));
        // Where the server has failed to start, nobody says when.
        let Ok(since) = started.recv() else { return Ok(None) };
        to_the_end(common, number, || {
            let outcome = common.turn(&mut events, &desk, since, None);
            common.counters.close(number, events.stats().clone());
            outcome
        })
        .map(Some)
    });
    if let Some(outcome) = outcome.transpose() {
        let _ = tell.send((number, News::Ended(outcome)));
    }
}

/// The first failure counts. Of several drains the longest is the one that was waited for.
fn add(one: Outcome, other: Outcome) -> Outcome {
    let (mut one, other) = (one?, other?);
    one.finished += other.finished;
    one.forced += other.forced;
    one.took = one.took.max(other.took);
    Ok(one)
}

/// `READY tcp=127.0.0.1:8888 udp=127.0.0.1:8888 pid=4242`
fn ready(served: &[Served]) -> String {
    let mut line = "READY".to_owned();
    // Writing into a string cannot fail.
    for (protocol, site) in served {
        let _ = write!(line, " {protocol}={}", site.for_programs());
    }
    let _ = write!(line, " pid={}", std::process::id());
    line
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::path::Path;
    use std::time::Duration;

    use clap::Parser;
    use halloo::{DrainReport, EventLoop};

    use super::{add, ready, to_the_end};
    use crate::cli::flags::{CommandLine, ServeOptions};
    use crate::exit::{Failure, Status};
    use crate::greeting::greeter::Greetings;
    use crate::output::printer_thread::Printer;
    use crate::process::sd_notify::Supervisor;
    use crate::serve::worker::Common;
    use crate::text::bound_address::Site;
    use crate::text::protocol::Protocol;

    fn options(workers: &str) -> ServeOptions {
        CommandLine::parse_from(["halloo", "--workers", workers, "--drain-timeout", "10s"]).serve
    }

    fn common(options: &ServeOptions) -> Common<'_> {
        let greetings = Greetings::new(&options.replies).unwrap();
        Common::new(options, greetings, &Printer::to_nowhere(), Supervisor::none())
    }

    fn report() -> DrainReport {
        let mut events = EventLoop::new().unwrap();
        events.context().stop();
        events.run().unwrap()
    }

    #[test]
    fn a_worker_that_fails_or_panics_is_named_and_ends_the_others() {
        let options = options("3");
        let failing: [fn() -> super::Outcome; 2] =
            [|| Err(Failure::new(Status::RunTime, "cannot wait for events")), || panic!("this is a test")];
        for (fail, cause) in failing.into_iter().zip(["cannot wait for events", "a bug of halloo"]) {
            let common = common(&options);
            let mut other = EventLoop::new().unwrap();
            common.ending.workers.meet(vec![other.handle()]);
            let failure = to_the_end(&common, 2, fail).unwrap_err();
            assert_eq!(failure.status, Status::RunTime);
            assert!(failure.sentence.starts_with("worker 2 of 3 has failed: "), "{}", failure.sentence);
            assert!(failure.sentence.contains(cause), "{}", failure.sentence);
            // It ends though nobody else stops it.
            assert_eq!(other.run().unwrap().forced, 0);
        }
    }

    #[test]
    fn the_drains_of_several_workers_are_told_as_one_and_a_failure_counts_more() {
        let (mut one, mut other) = (report(), report());
        (one.finished, one.forced, one.took) = (3, 1, Duration::from_millis(20));
        (other.finished, other.forced, other.took) = (4, 2, Duration::from_millis(10));
        let together = add(Ok(one), Ok(other)).unwrap();
        assert_eq!((together.finished, together.forced, together.took), (7, 3, Duration::from_millis(20)));
        let failure = || Err(Failure::new(Status::RunTime, "x"));
        assert!(add(failure(), Ok(one)).is_err() && add(Ok(one), failure()).is_err());
    }

    #[test]
    fn the_ready_line_names_every_socket_in_order() {
        let address = |text: &str| Site::from(text.parse::<SocketAddr>().unwrap());
        let served = [
            (Protocol::Tcp, address("127.0.0.1:8888")),
            (Protocol::Udp, address("127.0.0.1:8888")),
            (Protocol::Tcp, address("[::1]:8888")),
            (Protocol::Unix, Site::path(Path::new("/run/my halloo.sock"))),
        ];
        let sites = "tcp=127.0.0.1:8888 udp=127.0.0.1:8888 tcp=[::1]:8888 unix=/run/my%20halloo.sock";
        assert_eq!(ready(&served), format!("READY {sites} pid={}", std::process::id()));
    }
}
