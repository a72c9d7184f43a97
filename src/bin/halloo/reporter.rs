//! What becomes of each event: printed, summed up, or nothing.
//!
//! On the loop's thread, between the greeting desk and the printer. It promises at most 20 lines in any one second as
//! text, whatever is going on, with the rest counted to the last one; as JSON, every event is offered to the queue.
//! It never waits, and sets no timer: the printer tells the sum.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::event::Event;
use crate::options::EventStyle;
use crate::outputs::Line;
use crate::printer::Printer;

/// More than a person can follow.
const LINES_PER_SECOND_MAX: usize = 20;

const SECOND: Duration = Duration::from_secs(1);

/// Where events go.
#[derive(Debug)]
pub(crate) struct Reporter {
    printer: Printer,
    style: EventStyle,
    pace: Pace,
}

impl Reporter {
    /// Events go to this printer, in this style.
    pub(crate) fn new(printer: Printer, style: EventStyle) -> Self {
        Self { printer, style, pace: Pace::default() }
    }

    /// Tells one event, made only if somebody will see it.
    pub(crate) fn report(&mut self, now: Instant, event: impl FnOnce() -> Event) {
        match self.style {
            EventStyle::Off => {}
            EventStyle::Json => self.printer.print(Line::Event(event())),
            EventStyle::Text => match self.pace.admit(now) {
                Verdict::Print => self.printer.print(Line::Event(event())),
                Verdict::Count => self.printer.sum_up(),
                Verdict::CountUntil(moment) => {
                    self.printer.sum_up();
                    if !self.printer.sum_up_at(moment) {
                        // The queue is full: the next event asks again.
                        self.pace.sum_due = None;
                    }
                }
            },
        }
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
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::{LINES_PER_SECOND_MAX, Pace, SECOND, Verdict};

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
