//! The threads that send requests: one for each target and protocol.
//!
//! No target delays the requests to another one.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::cli::flags::probe_options::ProbeOptions;
use crate::exit::ExitError;
use crate::probe::lookup::query_target;
use crate::probe::query_result::{Outcome, Presence, QueryResult};
use crate::probe::report::{Lane, Order, Report};

/// The time between two requests without an end or during a wait, unless `--interval` sets it.
const ENDLESS_INTERVAL: Duration = Duration::from_secs(1);
const WAIT_INTERVAL: Duration = Duration::from_millis(100);

/// The lanes, and the state that their threads share.
#[derive(Debug)]
pub(crate) struct Requesters {
    options: ProbeOptions,
    lanes: Vec<Lane>,
    progress: Mutex<Progress>,
    /// Notified when a thread ends, and when all of them have to.
    changed: Condvar,
}

#[derive(Debug)]
struct Progress {
    report: Report,
    running: usize,
    worst: Option<Outcome>,
    signal: Option<i32>,
}

/// How the requests ended.
#[derive(Debug)]
pub(crate) struct RunEnd {
    /// The most severe outcome; `None` before the first one.
    pub(crate) worst: Option<Outcome>,
    /// The signal that ended them.
    pub(crate) signal: Option<i32>,
    /// The first error of standard output, except that its reader is gone.
    pub(crate) output_error: Option<io::Error>,
}

/// What `--wait` or `--wait-gone` waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    Reply,
    Absence,
}

impl Awaited {
    fn is_shown_by(self, result: &QueryResult) -> bool {
        match self {
            Self::Reply => result.outcome == Outcome::Ok,
            Self::Absence => result.presence == Presence::Absent,
        }
    }

    /// What the last result means for the exit status.
    fn judge(self, result: &QueryResult) -> Outcome {
        match (self, result.presence) {
            (Self::Reply, _) | (Self::Absence, Presence::Unknown) => result.outcome,
            (Self::Absence, Presence::Absent) => Outcome::Ok,
            (Self::Absence, Presence::Present) => Outcome::Mismatch,
        }
    }
}

impl Requesters {
    pub(crate) fn new(options: ProbeOptions, lanes: Vec<Lane>) -> Self {
        let order = if options.repetition.count == 1 { Order::AsGiven } else { Order::AsKnown };
        let report = Report::new(lanes.clone(), options.json, order);
        let progress = Progress { report, running: lanes.len(), worst: None, signal: None };
        Self { options, lanes, progress: Mutex::new(progress), changed: Condvar::new() }
    }

    /// Starts a thread for each lane. It ends with the process if not before.
    pub(crate) fn start(self: &Arc<Self>) -> Result<(), ExitError> {
        for index in 0..self.lanes.len() {
            let requesters = Arc::clone(self);
            thread::Builder::new().spawn(move || requesters.run(index)).map_err(|error| {
                let target = &self.lanes[index].target;
                ExitError::from_io(&format!("cannot start a thread for the requests to {target}"), &error)
            })?;
        }
        Ok(())
    }

    /// Ends the requests at the next opportunity.
    pub(crate) fn end_by_signal(&self, signal: i32) {
        self.progress().signal = Some(signal);
        self.changed.notify_all();
    }

    /// Waits until all threads have ended or a signal has arrived, and prints the summary.
    pub(crate) fn wait_for_end(&self) -> RunEnd {
        let is_going_on = |progress: &mut Progress| progress.running > 0 && progress.signal.is_none();
        let waited = self.changed.wait_while(self.progress(), is_going_on);
        let mut progress = waited.unwrap_or_else(PoisonError::into_inner);
        let is_silent = progress.worst.is_none() && progress.signal.is_some();
        if !is_silent && (self.options.json || self.options.repetition.count != 1) {
            progress.report.print_summary();
        }
        RunEnd { worst: progress.worst, signal: progress.signal, output_error: progress.report.take_error() }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread of one lane.
    fn run(&self, index: usize) {
        let repetition = &self.options.repetition;
        match (repetition.wait, repetition.wait_gone) {
            (Some(time), _) => self.wait(index, Awaited::Reply, time),
            (None, Some(time)) => self.wait(index, Awaited::Absence, time),
            (None, None) => self.repeat(index),
        }
        self.progress().running -= 1;
        self.changed.notify_all();
    }

    fn query(&self, index: usize, timeout: Duration) -> QueryResult {
        let Lane { protocol, target } = &self.lanes[index];
        query_target(&self.options, *protocol, target, timeout)
    }

    /// Sends the requests of `--count`.
    fn repeat(&self, index: usize) {
        let repetition = &self.options.repetition;
        let default = if repetition.count == 0 { ENDLESS_INTERVAL } else { Duration::ZERO };
        let interval = repetition.interval.unwrap_or(default);
        let mut sent = 0;
        loop {
            let start = Instant::now();
            let result = self.query(index, self.options.timeout);
            sent += 1;
            let judged = result.outcome;
            let mut progress = self.progress();
            if progress.is_over() {
                // The summary is printed, or the reader is gone; the exit status has this result, too.
                progress.judge(judged);
                return;
            }
            progress.report.count(index, &result);
            progress.judge(judged);
            progress.report.add(index, result);
            drop(progress);
            if sent == repetition.count || !self.sleep_until(start + interval) {
                return;
            }
        }
    }

    /// Sends requests until a result shows what is awaited, for the time given at most, and reports the last result.
    fn wait(&self, index: usize, awaited: Awaited, time: Duration) {
        let interval = self.options.repetition.interval.unwrap_or(WAIT_INTERVAL);
        let deadline = Instant::now() + time;
        let mut last: Option<QueryResult> = None;
        loop {
            let start = Instant::now();
            let timeout = self.options.timeout.min(deadline.saturating_duration_since(start));
            let result = self.query(index, timeout);
            self.progress().report.count(index, &result);
            // With less time than asked for, a missing reply shows less than the result before.
            let is_cut = timeout < self.options.timeout && result.outcome == Outcome::Timeout;
            let latest = match last.take() {
                Some(previous) if is_cut => previous,
                _ => result,
            };
            let next_start = start + interval;
            let is_last = is_cut || awaited.is_shown_by(&latest) || next_start >= deadline;
            if is_last {
                let mut progress = self.progress();
                progress.judge(awaited.judge(&latest));
                progress.report.add(index, latest);
                return;
            }
            if !self.sleep_until(next_start) {
                let mut progress = self.progress();
                if progress.report.is_reader_gone() {
                    progress.judge(awaited.judge(&latest));
                }
                return;
            }
            last = Some(latest);
        }
    }

    /// Sleeps, unless the requests are over; returns whether they go on.
    fn sleep_until(&self, instant: Instant) -> bool {
        let mut progress = self.progress();
        loop {
            let time_left = instant.saturating_duration_since(Instant::now());
            if progress.is_over() || time_left.is_zero() {
                return !progress.is_over();
            }
            let waited = self.changed.wait_timeout(progress, time_left);
            progress = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Progress {
    fn is_over(&self) -> bool {
        self.signal.is_some() || self.report.is_reader_gone()
    }

    fn judge(&mut self, outcome: Outcome) {
        self.worst = self.worst.max(Some(outcome));
    }
}
