//! One worker: a loop with its own sockets and its own greeting desk, on a thread of its own, and the way its turns go.
//!
//! Between the crew, which starts the workers and waits for their end, and the loop. It promises that between two turns
//! everybody is looked after who is no client: idleness and the watchdog. It shares nothing with other workers but what
//! [`Common`] hands out.

use std::cell::RefCell;
use std::error::Error as _;
use std::sync::Arc;
use std::time::Instant;

use halloo::{DrainReport, EventLoop, Turn};

use crate::cli::flags::ServeOptions;
use crate::exit::{Failure, Status};
use crate::greeting::greeter::{Desk, Greetings, Limit};
use crate::greeting::greeting_quota::Tickets;
use crate::output::counters::Counters;
use crate::output::event_log::Reporter;
use crate::output::printer_thread::Printer;
use crate::process::sd_notify::{Supervisor, Watchdog};
use crate::process::shutdown::{Ending, Workers};
use crate::serve::idle_timer::{Idleness, Rest};
use crate::text::duration::show;

/// What all workers have in common.
pub(crate) struct Common<'o> {
    pub(crate) options: &'o ServeOptions,
    pub(crate) ending: Ending,
    pub(crate) counters: Counters,
    greetings: Greetings,
    tickets: Option<Arc<Tickets>>,
    reporter: Reporter,
    rest: Arc<Rest>,
}

impl<'o> Common<'o> {
    /// For the workers that the command line asks for.
    pub(crate) fn new(
        options: &'o ServeOptions,
        greetings: Greetings,
        printer: &Printer,
        supervisor: Supervisor,
    ) -> Self {
        let ServeOptions { workers: count, lifetime, output, .. } = options;
        let is_counted = lifetime.max_greetings.is_some() || greetings.are_numbered();
        let workers = Workers::default();
        Self {
            options,
            counters: Counters::new(*count, workers.clone(), printer.clone()),
            ending: Ending { drain_timeout: lifetime.drain_timeout, supervisor, workers },
            greetings,
            tickets: is_counted.then(|| Arc::new(Tickets::new(lifetime.max_greetings))),
            reporter: Reporter::new(printer.clone(), output.events),
            rest: Rest::new(*count),
        }
    }

    /// A desk for one worker.
    pub(crate) fn desk(&self) -> RefCell<Desk> {
        let limit = Limit { tickets: self.tickets.clone(), ending: self.ending.clone() };
        RefCell::new(Desk::new(self.greetings.clone(), limit, self.reporter.clone()))
    }

    /// Turns a worker's loop until it has drained; idleness counts from that moment on.
    pub(crate) fn turn(
        &self,
        events: &mut EventLoop<'_>,
        desk: &RefCell<Desk>,
        since: Instant,
        mut watchdog: Option<&mut Watchdog>,
    ) -> Result<DrainReport, Failure> {
        let patience = self.options.lifetime.exit_when_idle;
        let mut idleness = patience.map(|patience| Idleness::new(patience, since, Arc::clone(&self.rest)));
        loop {
            let idle_in = idleness.as_ref().and_then(|idleness| idleness.wait(events));
            let word_in = watchdog.as_deref().map(Watchdog::wait);
            let wait = idle_in.into_iter().chain(word_in).min();
            if let Turn::Stopped(report) = events.turn(wait).map_err(|error| broken(&error))? {
                return Ok(report);
            }
            if let Some(watchdog) = &mut watchdog {
                watchdog.feed();
            }
            let given = desk.borrow().given();
            if let Some(idleness) = idleness.take_if(|idleness| idleness.is_over(events, given)) {
                log::info!("nothing to do for {}: stopping", show(idleness.patience));
                // A loop that has ended needs no word.
                let _ = self.ending.begin();
            }
        }
    }
}

/// A loop for one worker, on the thread that asks for it.
pub(crate) fn event_loop<'h>() -> Result<EventLoop<'h>, Failure> {
    let mut events = EventLoop::new().map_err(|error| broken(&error))?;
    // A bug that one client's bytes bring out must not end the service of all others. Nothing here is left half done by
    // it: the desk's borrow ends as the panic passes, and a greeting counts only once it is given.
    events.catch_panics(true);
    Ok(events)
}

fn broken(error: &halloo::Error) -> Failure {
    match error.source().and_then(|source| source.downcast_ref()) {
        Some(cause) => Failure::of_system(&error.to_string(), cause),
        None => Failure::new(Status::RunTime, error.to_string()),
    }
}
