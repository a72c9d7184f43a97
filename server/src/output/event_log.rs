//! Prints each event, or counts it if there are too many.
//!
//! All workers together print at most 20 lines in any second, or 1000 as JSON; every other event is counted.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::cli::flags::serve_options::EventStyle;
use crate::output::printer_thread::{Printer, QUEUE_LINES_MAX};
use crate::output::stdout::StdoutLine;
use crate::text::fault_event::FaultEvent;
use crate::text::greeting_event::GreetingEvent;

/// More than a person can follow.
const TEXT_LINES_PER_SECOND_MAX: usize = 20;

/// A rate that a log pipeline can take: a few hundred kilobytes a second.
const JSON_LINES_PER_SECOND_MAX: usize = 1000;

const _: () = assert!(JSON_LINES_PER_SECOND_MAX < QUEUE_LINES_MAX, "the queue has room for a burst of that many lines");

const SECOND: Duration = Duration::from_secs(1);

/// Prints events, or counts them; each worker has a clone.
#[derive(Clone, Debug)]
pub(crate) struct EventLog {
    printer: Printer,
    style: EventStyle,
    limiter: Arc<LineLimiter>,
}

impl EventLog {
    /// An event log that prints to this printer, in this style.
    pub(crate) fn new(printer: Printer, style: EventStyle) -> Self {
        let lines_per_second_max = match style {
            EventStyle::Json => JSON_LINES_PER_SECOND_MAX,
            EventStyle::Text | EventStyle::Off => TEXT_LINES_PER_SECOND_MAX,
        };
        Self { printer, style, limiter: Arc::new(LineLimiter::new(lines_per_second_max)) }
    }

    /// Whether no event is printed or counted.
    pub(crate) fn is_off(&self) -> bool {
        self.style == EventStyle::Off
    }

    /// Logs one event; `event` is called only if it is printed.
    pub(crate) fn log(&self, now: Instant, event: impl FnOnce() -> GreetingEvent) {
        self.log_line(now, || StdoutLine::Event(event()));
    }

    /// The same for a fault on purpose.
    pub(crate) fn log_fault(&self, now: Instant, event: impl FnOnce() -> FaultEvent) {
        self.log_line(now, || StdoutLine::Fault(event()));
    }

    fn log_line(&self, now: Instant, line: impl FnOnce() -> StdoutLine) {
        if self.is_off() {
            return;
        }
        match self.limiter.decide(now) {
            Decision::Print => self.printer.print(line()),
            Decision::Suppress => self.printer.count_suppressed(),
            Decision::SuppressUntil(due) => {
                self.printer.count_suppressed();
                if !self.printer.write_suppressed_at(due) {
                    // The queue is full: the next event tries again.
                    self.limiter.reset();
                }
            }
        }
    }
}

/// The limit on lines, which all clones share. While events are suppressed, the lock is not taken.
#[derive(Debug)]
struct LineLimiter {
    lines_per_second_max: usize,
    epoch: Instant,
    /// The end of the time in which events are only counted, in nanoseconds since `epoch`. The printer writes their
    /// number then.
    suppressed_until_nanos: AtomicU64,
    /// The times of the lines of the last second.
    printed_at: Mutex<VecDeque<Instant>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Decision {
    Print,
    Suppress,
    /// Count the event, and write the number of suppressed events at that moment.
    SuppressUntil(Instant),
}

impl LineLimiter {
    fn new(lines_per_second_max: usize) -> Self {
        let (epoch, suppressed_until_nanos) = (Instant::now(), AtomicU64::new(0));
        Self { lines_per_second_max, epoch, suppressed_until_nanos, printed_at: Mutex::default() }
    }

    fn decide(&self, now: Instant) -> Decision {
        if self.is_suppressed(now) {
            return Decision::Suppress;
        }
        let mut printed_at = self.printed_at.lock().unwrap_or_else(PoisonError::into_inner);
        // A loop reads its clock once a turn: another worker's line may have been later.
        let now = printed_at.back().map_or(now, |last| now.max(*last));
        // Another worker may have begun to suppress events before this one got the lock.
        if self.is_suppressed(now) {
            return Decision::Suppress;
        }
        if printed_at.len() == self.lines_per_second_max {
            let next_slot = printed_at[0] + SECOND;
            if now < next_slot {
                self.suppressed_until_nanos.store(self.nanos_since_epoch(next_slot), Ordering::Relaxed);
                return Decision::SuppressUntil(next_slot);
            }
            printed_at.pop_front();
        }
        printed_at.push_back(now);
        Decision::Print
    }

    fn is_suppressed(&self, now: Instant) -> bool {
        self.nanos_since_epoch(now) < self.suppressed_until_nanos.load(Ordering::Relaxed)
    }

    fn reset(&self) {
        self.suppressed_until_nanos.store(0, Ordering::Relaxed);
    }

    fn nanos_since_epoch(&self, instant: Instant) -> u64 {
        u64::try_from(instant.saturating_duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::{Decision, EventLog, JSON_LINES_PER_SECOND_MAX, LineLimiter, SECOND, TEXT_LINES_PER_SECOND_MAX};
    use crate::cli::flags::serve_options::EventStyle;
    use crate::output::printer_thread::Printer;
    use crate::text::bound_address::Addresses;
    use crate::text::greeting_event::GreetingEvent;
    use crate::text::protocol::Protocol;

    #[test]
    fn twenty_lines_are_printed_and_further_events_of_the_second_are_counted() {
        let (limiter, start) = (LineLimiter::new(TEXT_LINES_PER_SECOND_MAX), Instant::now());
        for _ in 0..TEXT_LINES_PER_SECOND_MAX {
            assert_eq!(limiter.decide(start), Decision::Print);
        }
        assert_eq!(limiter.decide(start), Decision::SuppressUntil(start + SECOND));
        assert_eq!(limiter.decide(start + SECOND / 2), Decision::Suppress);
        assert_eq!(limiter.decide(start + SECOND), Decision::Print);
    }

    #[test]
    fn each_style_has_its_own_rate_and_a_sum_that_was_not_printed_is_due_again() {
        for (style, lines) in
            [(EventStyle::Text, TEXT_LINES_PER_SECOND_MAX), (EventStyle::Json, JSON_LINES_PER_SECOND_MAX)]
        {
            // It accepts no line, like a printer whose queue is full.
            let event_log = EventLog::new(Printer::null(), style);
            let (now, mut made) = (Instant::now(), 0);
            for _ in 0..lines + 10 {
                event_log.log(now, || {
                    made += 1;
                    let addresses = Addresses { protocol: Protocol::Udp, peer: None, local: None };
                    GreetingEvent::new(addresses, 0, b"")
                });
            }
            assert_eq!(made, lines);
            assert_eq!(event_log.limiter.decide(now), Decision::SuppressUntil(now + SECOND));
        }
    }

    #[test]
    fn many_workers_together_print_twenty_lines_and_one_sum() {
        let limiter = LineLimiter::new(TEXT_LINES_PER_SECOND_MAX);
        let decide_many = || -> (usize, usize) {
            let decisions: Vec<Decision> = (0..100).map(|_| limiter.decide(limiter.epoch)).collect();
            let count = |matches: fn(&Decision) -> bool| decisions.iter().filter(|decision| matches(decision)).count();
            (
                count(|decision| *decision == Decision::Print),
                count(|decision| matches!(decision, Decision::SuppressUntil(_))),
            )
        };
        let results = thread::scope(|scope| {
            let workers = [(); 4].map(|()| scope.spawn(decide_many));
            workers.map(|worker| worker.join().unwrap())
        });
        let printed: usize = results.iter().map(|(printed, _)| printed).sum();
        let suppressed: usize = results.iter().map(|(_, suppressed)| suppressed).sum();
        assert_eq!((printed, suppressed), (TEXT_LINES_PER_SECOND_MAX, 1));
        assert_eq!(limiter.decide(limiter.epoch + SECOND), Decision::Print);
        // This worker's turn began before that line.
        assert!(matches!(limiter.decide(limiter.epoch + SECOND / 2), Decision::Suppress | Decision::Print));
        limiter.reset();
        assert_eq!(limiter.decide(limiter.epoch + SECOND), Decision::Print);
    }

    #[test]
    fn events_below_the_rate_are_all_printed() {
        let (limiter, start) = (LineLimiter::new(TEXT_LINES_PER_SECOND_MAX), Instant::now());
        for number in 0..1000 {
            assert_eq!(limiter.decide(start + Duration::from_millis(51) * number), Decision::Print);
        }
    }

    proptest! {
        #[test]
        fn no_second_has_more_than_twenty_lines(steps in prop::collection::vec(0_u64..120, 1..400)) {
            let (limiter, start) = (LineLimiter::new(TEXT_LINES_PER_SECOND_MAX), Instant::now());
            let mut elapsed_millis = 0;
            let mut printed = Vec::new();
            for step in steps {
                elapsed_millis += step;
                if limiter.decide(start + Duration::from_millis(elapsed_millis)) == Decision::Print {
                    printed.push(elapsed_millis);
                }
            }
            for first in &printed {
                let within = printed.iter().filter(|other| (*first..*first + 1000).contains(*other)).count();
                prop_assert!(within <= TEXT_LINES_PER_SECOND_MAX);
            }
        }

        #[test]
        fn every_count_is_due_within_a_second(steps in prop::collection::vec(0_u64..120, 1..400)) {
            let (limiter, mut now) = (LineLimiter::new(TEXT_LINES_PER_SECOND_MAX), Instant::now());
            let mut due = None;
            for step in steps {
                now += Duration::from_millis(step);
                match limiter.decide(now) {
                    Decision::Print => {}
                    Decision::Suppress => prop_assert!(due.is_some_and(|due| now < due)),
                    Decision::SuppressUntil(next) => {
                        prop_assert!(next > now && next <= now + SECOND);
                        due = Some(next);
                    }
                }
            }
        }
    }
}
