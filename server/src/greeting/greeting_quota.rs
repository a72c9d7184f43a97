//! The numbers of greetings, and the limit on them, for all workers.
//!
//! No number is skipped or reserved twice at a time, and at most `max` numbers are valid. The last greeting is reported
//! to one caller only.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::greeting::greeting_templates::GreetingTemplates;

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
    fn new(max: Option<u64>) -> Self {
        let (issued, committed) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { max, issued, committed, released: Mutex::default(), released_count: AtomicUsize::new(0) }
    }

    /// The quota, if something depends on the number of a greeting.
    pub(crate) fn if_needed(max: Option<u64>, templates: &GreetingTemplates) -> Option<Arc<Self>> {
        (max.is_some() || templates.has_number()).then(|| Arc::new(Self::new(max)))
    }

    /// Whether no number is left. An acquired number may still be released.
    pub(crate) fn is_exhausted(&self) -> bool {
        let all_issued = self.max.is_some_and(|max| self.issued.load(Ordering::Relaxed) >= max);
        all_issued && self.released_count.load(Ordering::Acquire) == 0
    }

    /// Reserves the next number; `None` if no number is left.
    pub(crate) fn reserve(self: &Arc<Self>) -> Option<Reservation> {
        self.try_acquire().map(|number| Reservation { held: Some((Arc::clone(self), number)) })
    }

    /// The number that the next greeting gets; this does not reserve it. `None` if no number is left.
    pub(crate) fn next_number(&self) -> Option<u64> {
        let released =
            if self.released_count.load(Ordering::Acquire) == 0 { None } else { self.lock_released().last().copied() };
        let not_issued = || {
            let number = self.issued.load(Ordering::Relaxed).saturating_add(1);
            self.max.is_none_or(|max| number <= max).then_some(number)
        };
        released.or_else(not_issued)
    }

    /// The number of greetings sent, and the maximum; `None` without a maximum.
    pub(crate) fn given_of_max(&self) -> Option<(u64, u64)> {
        self.max.map(|max| (self.committed.load(Ordering::Relaxed), max))
    }

    fn try_acquire(&self) -> Option<u64> {
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

    fn release(&self, number: u64) {
        let mut released = self.lock_released();
        released.push(number);
        self.released_count.store(released.len(), Ordering::Release);
    }

    fn commit(&self) -> Option<u64> {
        self.max.filter(|max| self.committed.fetch_add(1, Ordering::Relaxed) + 1 == *max)
    }

    /// No other code runs under the lock, so the list is consistent even if the lock is poisoned.
    fn lock_released(&self) -> MutexGuard<'_, Vec<u64>> {
        self.released.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A greeting that is being sent, and its number. If it is dropped before it was sent, the number is released.
#[derive(Debug, Default)]
#[must_use = "a greeting that was sent is committed"]
pub(crate) struct Reservation {
    /// `None` if nothing depends on the number of a greeting.
    held: Option<(Arc<GreetingQuota>, u64)>,
}

impl Reservation {
    /// The number; zero if nothing depends on it.
    pub(crate) fn number(&self) -> u64 {
        self.held.as_ref().map_or(0, |(_, number)| *number)
    }

    /// Counts the greeting as sent; returns the total if it was the last one.
    #[inline]
    pub(crate) fn commit(mut self) -> Option<u64> {
        let (quota, _) = self.held.take()?;
        quota.commit()
    }
}

impl Drop for Reservation {
    #[inline]
    fn drop(&mut self) {
        if let Some((quota, number)) = self.held.take() {
            quota.release(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;
    use std::time::{Duration, Instant};

    use super::{GreetingQuota, Reservation};

    fn number(reservation: Option<&Reservation>) -> Option<u64> {
        reservation.map(Reservation::number)
    }

    #[test]
    fn numbers_start_at_one_and_have_no_gap() {
        let quota = Arc::new(GreetingQuota::new(None));
        let [first, second, third] = [(); 3].map(|()| quota.reserve());
        assert_eq!([&first, &second, &third].map(|held| number(held.as_ref())), [Some(1), Some(2), Some(3)]);
        assert_eq!(quota.next_number(), Some(4));
        drop(second);
        assert_eq!(quota.next_number(), Some(2), "the released number is next");
        let [second, fourth] = [(); 2].map(|()| quota.reserve());
        assert_eq!([&second, &fourth].map(|held| number(held.as_ref())), [Some(2), Some(4)]);
        assert!(
            !quota.is_exhausted()
                && [first, second, third, fourth].into_iter().all(|held| held.unwrap().commit().is_none())
        );
        assert_eq!(quota.next_number(), Some(5), "a number that was committed is not released");
    }

    #[test]
    fn a_released_number_is_issued_again_as_the_last_one() {
        let quota = Arc::new(GreetingQuota::new(Some(2)));
        let [first, second, third] = [(); 3].map(|()| quota.reserve());
        assert_eq!([&first, &second, &third].map(|held| number(held.as_ref())), [Some(1), Some(2), None]);
        assert!(quota.is_exhausted());
        assert_eq!(quota.next_number(), None);
        assert_eq!(second.unwrap().commit(), None);
        drop(first);
        assert!(!quota.is_exhausted());
        assert_eq!(quota.next_number(), Some(1));
        let [first, third] = [(); 2].map(|()| quota.reserve());
        assert_eq!([&first, &third].map(|held| number(held.as_ref())), [Some(1), None]);
        assert_eq!(first.unwrap().commit(), Some(2));
        assert_eq!((quota.next_number(), quota.is_exhausted()), (None, true));
    }

    #[test]
    fn without_a_quota_a_greeting_has_no_number_and_is_never_the_last() {
        assert_eq!((Reservation::default().number(), Reservation::default().commit()), (0, None));
    }

    #[test]
    fn many_threads_use_each_number_once_and_one_thread_uses_the_last() {
        const MAX: u64 = 20_000;
        let quota = Arc::new(GreetingQuota::new(Some(MAX)));
        let acquire_and_release = |seed: u64| {
            let (mut committed, mut last_count, mut attempts) = (Vec::new(), 0, seed);
            let deadline = Instant::now() + Duration::from_secs(60);
            // Other threads may still release a number: the work is over only when all numbers are committed.
            while quota.committed.load(std::sync::atomic::Ordering::Relaxed) < MAX {
                assert!(Instant::now() < deadline, "a number is missing");
                let Some(reservation) = quota.reserve() else { continue };
                attempts += 1;
                if attempts % 3 != 0 {
                    committed.push(reservation.number());
                    last_count += u32::from(reservation.commit().is_some());
                }
            }
            (committed, last_count)
        };
        let results = thread::scope(|scope| {
            let threads = [0, 1, 2, 3].map(|seed| {
                scope.spawn({
                    let acquire_and_release = &acquire_and_release;
                    move || acquire_and_release(seed)
                })
            });
            threads.map(|thread| thread.join().unwrap())
        });
        let mut numbers: Vec<u64> = results.iter().flat_map(|(numbers, _)| numbers).copied().collect();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(1..=MAX));
        assert_eq!(results.iter().map(|(_, last_count)| last_count).sum::<u32>(), 1);
        assert!(quota.is_exhausted());
    }
}
