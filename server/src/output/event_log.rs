//! What becomes of each event: printed, summed up, or nothing.
//!
//! On the loops' threads, between the greeting desks and the printer. It promises at most 20 lines in any one second as
//! text, of all workers together and whatever is going on, with the rest counted to the last one; as JSON, every event is
//! offered to the queue. It waits for nobody but, for a line that may be printed, another worker's turn at the same; and
//! it sets no timer: the printer tells the sum.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::cli::flags::EventStyle;
use crate::output::printer_thread::Printer;
use crate::output::stdout::Line;
use crate::text::event::Event;

/// More than a person can follow.
const LINES_PER_SECOND_MAX: usize = 20;

const SECOND: Duration = Duration::from_secs(1);

/// Where events go: each worker has a copy.
#[derive(Clone, Debug)]
pub(crate) struct Reporter {
    printer: Printer,
    style: EventStyle,
    gate: Arc<Gate>,
}

impl Reporter {
    /// Events go to this printer, in this style.
    pub(crate) fn new(printer: Printer, style: EventStyle) -> Self {
        Self { printer, style, gate: Arc::new(Gate::new()) }
    }

    /// Whether nobody sees any event.
    pub(crate) fn is_silent(&self) -> bool {
        self.style == EventStyle::Off
    }

    /// Tells one event, made only if somebody will see it.
    pub(crate) fn report(&self, now: Instant, event: impl FnOnce() -> Event) {
        match self.style {
            EventStyle::Off => {}
            EventStyle::Json => self.printer.print(Line::Event(event())),
            EventStyle::Text => match self.gate.admit(now) {
                Verdict::Print => self.printer.print(Line::Event(event())),
                Verdict::Count => self.printer.sum_up(),
                Verdict::CountUntil(moment) => {
                    self.printer.sum_up();
                    if !self.printer.sum_up_at(moment) {
                        // The queue is full: the next event asks again.
                        self.gate.ask_again();
                    }
                }
            },
        }
    }
}

/// What the copies share. Where the lines of this second are used up, nobody takes the lock.
#[derive(Debug)]
struct Gate {
    began: Instant,
    /// Until when events are only counted, in nanoseconds since then.
    closed_until: AtomicU64,
    pace: Mutex<Pace>,
}

impl Gate {
    fn new() -> Self {
        Self { began: Instant::now(), closed_until: AtomicU64::new(0), pace: Mutex::default() }
    }

    fn admit(&self, now: Instant) -> Verdict {
        if self.nanos(now) < self.closed_until.load(Ordering::Relaxed) {
            return Verdict::Count;
        }
        let verdict = self.pace.lock().unwrap_or_else(PoisonError::into_inner).admit(now);
        if let Verdict::CountUntil(moment) = verdict {
            self.closed_until.store(self.nanos(moment), Ordering::Relaxed);
        }
        verdict
    }

    fn ask_again(&self) {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner).sum_due = None;
        self.closed_until.store(0, Ordering::Relaxed);
    }

    fn nanos(&self, moment: Instant) -> u64 {
        u64::try_from(moment.saturating_duration_since(self.began).as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The lines of the last second.
#[derive(Debug, Default)]
struct Pace {
    printed: VecDeque<Instant>,
    /// When the printer tells the sum that it has been asked for.
    sum_due: Option<Instant>,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Print,
    Count,
    /// Count, and have the sum told then.
    CountUntil(Instant),
}

impl Pace {
    fn admit(&mut self, now: Instant) -> Verdict {
        // A loop's clock stands still during a turn: another worker's line may have been later.
        let now = self.printed.back().map_or(now, |last| now.max(*last));
        if self.printed.len() == LINES_PER_SECOND_MAX {
            let room = self.printed[0] + SECOND;
            if now < room {
                if self.sum_due.is_some_and(|due| now < due) {
                    return Verdict::Count;
                }
                self.sum_due = Some(room);
                return Verdict::CountUntil(room);
            }
            self.printed.pop_front();
        }
        self.printed.push_back(now);
        Verdict::Print
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::{Gate, LINES_PER_SECOND_MAX, Pace, SECOND, Verdict};

    #[test]
    fn twenty_are_printed_and_the_rest_of_the_second_is_summed_up() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        for _ in 0..LINES_PER_SECOND_MAX {
            assert_eq!(pace.admit(start), Verdict::Print);
        }
        assert_eq!(pace.admit(start), Verdict::CountUntil(start + SECOND));
        assert_eq!(pace.admit(start + SECOND / 2), Verdict::Count);
        assert_eq!(pace.admit(start + SECOND), Verdict::Print);
    }

    #[test]
    fn many_workers_print_twenty_together_and_ask_for_one_sum() {
        let gate = Gate::new();
        let work = || -> (usize, usize) {
            let verdicts: Vec<Verdict> = (0..100).map(|_| gate.admit(gate.began)).collect();
            let count = |wanted: fn(&Verdict) -> bool| verdicts.iter().filter(|verdict| wanted(verdict)).count();
            (count(|verdict| *verdict == Verdict::Print), count(|verdict| matches!(verdict, Verdict::CountUntil(_))))
        };
        let all = thread::scope(|scope| {
            let workers = [(); 4].map(|()| scope.spawn(work));
            workers.map(|worker| worker.join().unwrap())
        });
        let printed: usize = all.iter().map(|(printed, _)| printed).sum();
        let asked: usize = all.iter().map(|(_, asked)| asked).sum();
        assert_eq!((printed, asked), (LINES_PER_SECOND_MAX, 1));
        assert_eq!(gate.admit(gate.began + SECOND), Verdict::Print);
        // A worker whose turn began before that line.
        assert!(matches!(gate.admit(gate.began + SECOND / 2), Verdict::Count | Verdict::Print));
        gate.ask_again();
        assert_eq!(gate.admit(gate.began + SECOND), Verdict::Print);
    }

    #[test]
    fn a_quiet_client_is_never_summed_up() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        for number in 0..1000 {
            assert_eq!(pace.admit(start + Duration::from_millis(51) * number), Verdict::Print);
        }
    }

    proptest! {
        #[test]
        fn no_second_has_more_than_twenty_lines(steps in prop::collection::vec(0_u64..120, 1..400)) {
            let (mut pace, start) = (Pace::default(), Instant::now());
            let mut at = 0;
            let mut printed = Vec::new();
            for step in steps {
                at += step;
                if pace.admit(start + Duration::from_millis(at)) == Verdict::Print {
                    printed.push(at);
                }
            }
            for first in &printed {
                let within = printed.iter().filter(|other| (*first..*first + 1000).contains(*other)).count();
                prop_assert!(within <= LINES_PER_SECOND_MAX);
            }
        }

        #[test]
        fn every_sum_is_told_within_the_second(steps in prop::collection::vec(0_u64..120, 1..400)) {
            let (mut pace, mut at) = (Pace::default(), Instant::now());
            let mut due = None;
            for step in steps {
                at += Duration::from_millis(step);
                match pace.admit(at) {
                    Verdict::Print => {}
                    Verdict::Count => prop_assert!(due.is_some_and(|due| at < due)),
                    Verdict::CountUntil(moment) => {
                        prop_assert!(moment > at && moment <= at + SECOND);
                        due = Some(moment);
                    }
                }
            }
        }
    }
}
