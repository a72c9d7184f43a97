//! The numbers of greetings, and the limit on them, for all workers.
//!
//! No number is left out or held twice at a time, and at most `max` numbers are valid. The last greeting is reported to
//! one caller alone.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Numbers for the greetings of all workers, up to a maximum.
#[derive(Debug)]
pub(crate) struct GreetingQuota {
    max: Option<u64>,
    /// Numbers issued so far; numbers above `max` are invalid.
    issued: AtomicU64,
    /// Greetings sent so far.
    committed: AtomicU64,
    released: Mutex<Vec<u64>>,
    /// How many numbers are in `released`, so that the lock is taken only if there are any.
    released_count: AtomicUsize,
}

impl GreetingQuota {
    /// A quota of that many numbers, or without a maximum.
    pub(crate) fn new(max: Option<u64>) -> Self {
        let (issued, committed) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { max, issued, committed, released: Mutex::default(), released_count: AtomicUsize::new(0) }
    }

    /// Whether no number is left. An acquired number may still be released.
    pub(crate) fn is_exhausted(&self) -> bool {
        let all_issued = self.max.is_some_and(|max| self.issued.load(Ordering::Relaxed) >= max);
        all_issued && self.released_count.load(Ordering::Acquire) == 0
    }

    /// Acquires the next number.
    pub(crate) fn try_acquire(&self) -> Option<u64> {
        if self.released_count.load(Ordering::Acquire) > 0 {
            let mut released = self.lock_released();
            let number = released.pop();
            self.released_count.store(released.len(), Ordering::Release);
            if number.is_some() {
                return number;
            }
        }
        let number = self.issued.fetch_add(1, Ordering::Relaxed) + 1;
        self.max.is_none_or(|max| number <= max).then_some(number)
    }

    /// Releases a number whose greeting was not sent.
    pub(crate) fn release(&self, number: u64) {
        let mut released = self.lock_released();
        released.push(number);
        self.released_count.store(released.len(), Ordering::Release);
    }

    /// Counts a greeting as sent; returns the total if it was the last one.
    pub(crate) fn commit(&self) -> Option<u64> {
        self.max.filter(|max| self.committed.fetch_add(1, Ordering::Relaxed) + 1 == *max)
    }

    /// Nothing is called while the lock is held, so a poisoned one guards a whole list.
    fn lock_released(&self) -> MutexGuard<'_, Vec<u64>> {
        self.released.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::GreetingQuota;

    #[test]
    fn numbers_begin_with_one_and_go_on_without_a_gap() {
        let quota = GreetingQuota::new(None);
        assert_eq!((quota.try_acquire(), quota.try_acquire(), quota.try_acquire()), (Some(1), Some(2), Some(3)));
        quota.release(2);
        assert_eq!((quota.try_acquire(), quota.try_acquire()), (Some(2), Some(4)));
        assert!(!quota.is_exhausted() && quota.commit().is_none());
    }

    #[test]
    fn one_given_back_is_the_last_that_is_left() {
        let quota = GreetingQuota::new(Some(2));
        assert_eq!((quota.try_acquire(), quota.try_acquire(), quota.try_acquire()), (Some(1), Some(2), None));
        assert!(quota.is_exhausted());
        assert_eq!(quota.commit(), None);
        quota.release(1);
        assert!(!quota.is_exhausted());
        assert_eq!((quota.try_acquire(), quota.try_acquire()), (Some(1), None));
        assert_eq!(quota.commit(), Some(2));
    }

    #[test]
    fn of_many_threads_that_take_and_give_back_one_hears_of_the_last_and_no_number_is_missing() {
        const MAX: u64 = 20_000;
        let quota = GreetingQuota::new(Some(MAX));
        let acquire_and_release = |seed: u64| {
            let (mut committed, mut last_count, mut attempts) = (Vec::new(), 0, seed);
            // Numbers that other threads hold may be released: the work is over only when all are committed.
            while quota.committed.load(std::sync::atomic::Ordering::Relaxed) < MAX {
                let Some(number) = quota.try_acquire() else { continue };
                attempts += 1;
                if attempts % 3 == 0 {
                    quota.release(number);
                } else {
                    committed.push(number);
                    last_count += u32::from(quota.commit().is_some());
                }
            }
            (committed, last_count)
        };
        let results = thread::scope(|scope| {
            let threads = [0, 1, 2, 3].map(|seed| scope.spawn(move || acquire_and_release(seed)));
            threads.map(|thread| thread.join().unwrap())
        });
        let mut numbers: Vec<u64> = results.iter().flat_map(|(numbers, _)| numbers).copied().collect();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(1..=MAX));
        assert_eq!(results.iter().map(|(_, last_count)| last_count).sum::<u32>(), 1);
        assert!(quota.is_exhausted());
    }
}
