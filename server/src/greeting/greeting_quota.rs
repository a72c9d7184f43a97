//! The right to give a greeting, and its number: what the greetings of all workers have in common.
//!
//! Beside the flow: every worker's desk takes a ticket before it greets, and gives it back if the greeting could not be
//! given. There are tickets only where something depends on them: a limit, or a greeting that tells its number. It
//! promises that no number is given out twice at a time nor left out, that at most as many are out as the limit says,
//! and that one desk alone hears that its greeting was the last. A ticket costs one addition, and a lock only after one
//! was given back, which is rare.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One roll for the whole process.
#[derive(Debug)]
pub(crate) struct Tickets {
    max: Option<u64>,
    /// How many have been torn off the roll, those past the limit included, which are void.
    torn: AtomicU64,
    /// How many greetings have been given.
    given: AtomicU64,
    returned: Mutex<Vec<u64>>,
    /// How many those are, so that nobody takes the lock for nothing.
    returned_count: AtomicUsize,
}

impl Tickets {
    /// A roll with so many tickets, or without end.
    pub(crate) fn new(max: Option<u64>) -> Self {
        let (torn, given) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { max, torn, given, returned: Mutex::default(), returned_count: AtomicUsize::new(0) }
    }

    /// Whether there is none left. One that is out may still come back.
    pub(crate) fn is_used_up(&self) -> bool {
        let all_torn = self.max.is_some_and(|max| self.torn.load(Ordering::Relaxed) >= max);
        all_torn && self.returned_count.load(Ordering::Acquire) == 0
    }

    /// The next one.
    pub(crate) fn take(&self) -> Option<u64> {
        if self.returned_count.load(Ordering::Acquire) > 0 {
            let mut returned = self.returned();
            let number = returned.pop();
            self.returned_count.store(returned.len(), Ordering::Release);
            if number.is_some() {
                return number;
            }
        }
        let number = self.torn.fetch_add(1, Ordering::Relaxed) + 1;
        self.max.is_none_or(|max| number <= max).then_some(number)
    }

    /// Takes one back whose greeting was not given.
    pub(crate) fn give_back(&self, number: u64) {
        let mut returned = self.returned();
        returned.push(number);
        self.returned_count.store(returned.len(), Ordering::Release);
    }

    /// Notes that a greeting was given; for the last one it says how many there were.
    pub(crate) fn use_up(&self) -> Option<u64> {
        self.max.filter(|max| self.given.fetch_add(1, Ordering::Relaxed) + 1 == *max)
    }

    /// Nothing is called while the lock is held, so a poisoned one guards a whole list.
    fn returned(&self) -> MutexGuard<'_, Vec<u64>> {
        self.returned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::Tickets;

    #[test]
    fn numbers_begin_with_one_and_go_on_without_a_gap() {
        let tickets = Tickets::new(None);
        assert_eq!((tickets.take(), tickets.take(), tickets.take()), (Some(1), Some(2), Some(3)));
        tickets.give_back(2);
        assert_eq!((tickets.take(), tickets.take()), (Some(2), Some(4)));
        assert!(!tickets.is_used_up() && tickets.use_up().is_none());
    }

    #[test]
    fn one_given_back_is_the_last_that_is_left() {
        let tickets = Tickets::new(Some(2));
        assert_eq!((tickets.take(), tickets.take(), tickets.take()), (Some(1), Some(2), None));
        assert!(tickets.is_used_up());
        assert_eq!(tickets.use_up(), None);
        tickets.give_back(1);
        assert!(!tickets.is_used_up());
        assert_eq!((tickets.take(), tickets.take()), (Some(1), None));
        assert_eq!(tickets.use_up(), Some(2));
    }

    #[test]
    fn of_many_threads_that_take_and_give_back_one_hears_of_the_last_and_no_number_is_missing() {
        const MAX: u64 = 20_000;
        let tickets = Tickets::new(Some(MAX));
        let work = |seed: u64| {
            let (mut used, mut lasts, mut tries) = (Vec::new(), 0, seed);
            // What others have out may come back: only when all have been given is the work over.
            while tickets.given.load(std::sync::atomic::Ordering::Relaxed) < MAX {
                let Some(number) = tickets.take() else { continue };
                tries += 1;
                if tries % 3 == 0 {
                    tickets.give_back(number);
                } else {
                    used.push(number);
                    lasts += u32::from(tickets.use_up().is_some());
                }
            }
            (used, lasts)
        };
        let all = thread::scope(|scope| {
            let threads = [0, 1, 2, 3].map(|seed| scope.spawn(move || work(seed)));
            threads.map(|thread| thread.join().unwrap())
        });
        let mut numbers: Vec<u64> = all.iter().flat_map(|(used, _)| used).copied().collect();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(1..=MAX));
        assert_eq!(all.iter().map(|(_, lasts)| lasts).sum::<u32>(), 1);
        assert!(tickets.is_used_up());
    }
}
