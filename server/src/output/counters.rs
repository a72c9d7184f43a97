//! The last known counters of all loops, and a report of them.
//!
//! No counter goes back: a worker that does not answer, or has ended, keeps those that it had.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use halloo::{LoopStopped, Stats};
use log::Level;

use crate::output::printer_thread::{OutputCounts, Printer};
use crate::output::stderr::StderrLine;
use crate::process::worker_loops::WorkerLoops;

/// Collects the counters of all loops; every part that needs them has a clone.
#[derive(Clone, Debug)]
pub(crate) struct Counters {
    loops: WorkerLoops,
    printer: Printer,
    last: Arc<[Mutex<LastStats>]>,
}

/// The last known counters of a worker.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastStats {
    pub(crate) stats: Stats,
    /// Whether the worker has ended; then its counters are final.
    pub(crate) has_ended: bool,
}

/// A report in progress, logged when its last clone is dropped: then each loop has answered, or has ended.
struct StatsReport {
    counters: Counters,
    answered: Vec<AtomicBool>,
}

impl Counters {
    /// The counters of that many workers.
    pub(crate) fn new(workers: usize, loops: WorkerLoops, printer: Printer) -> Self {
        Self { loops, printer, last: (0..workers).map(|_| Mutex::default()).collect() }
    }

    /// Stores the counters of the worker with this index, unless later ones are known: answers may overtake each other.
    pub(crate) fn set(&self, index: usize, stats: Stats) {
        let mut last = lock(&self.last[index]);
        if !last.has_ended && stats.turns >= last.stats.turns {
            last.stats = stats;
        }
    }

    /// Stores the counters of a worker that has ended; the first worker has number 1.
    pub(crate) fn set_final(&self, worker_number: usize, stats: Stats) {
        *lock(&self.last[worker_number - 1]) = LastStats { stats, has_ended: true };
    }

    /// The last known counters of all workers, the first worker's first.
    pub(crate) fn last(&self) -> Vec<LastStats> {
        self.last.iter().map(|last| lock(last).clone()).collect()
    }

    /// What has been printed until now.
    pub(crate) fn output(&self) -> OutputCounts {
        self.printer.counts()
    }

    /// Logs the counters of every loop, at any log level. [`LoopStopped`] if all loops have ended.
    pub(crate) fn request_report(&self) -> Result<(), LoopStopped> {
        let answered = self.last.iter().map(|_| AtomicBool::new(false)).collect();
        let report = Arc::new(StatsReport { counters: self.clone(), answered });
        self.loops.post(move |index, context| {
            report.counters.set(index, context.stats().clone());
            report.answered[index].store(true, Ordering::Relaxed);
        })
    }
}

impl Drop for StatsReport {
    fn drop(&mut self) {
        let last = self.counters.last();
        // A worker that is just ending has done neither. Then all workers are ending, and the report is skipped.
        if !last.iter().zip(&self.answered).all(|(last, answered)| last.has_ended || answered.load(Ordering::Relaxed)) {
            return;
        }
        let log = |text| self.counters.printer.eprint(StderrLine::Log(Level::Info, "halloo", text));
        log(total(&last).to_string());
        if last.len() > 1 {
            for (index, last) in last.iter().enumerate() {
                log(format!("worker {}: {}", index + 1, last.stats));
            }
        }
    }
}

/// The sums over all workers.
pub(crate) fn total(last: &[LastStats]) -> Stats {
    let mut total = Stats::default();
    for last in last {
        total += &last.stats;
    }
    total
}

/// Locks, also after a panic of another thread: a value is replaced as a whole.
fn lock(last: &Mutex<LastStats>) -> MutexGuard<'_, LastStats> {
    last.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use halloo::Stats;

    use super::{Counters, total};
    use crate::output::printer_thread::Printer;
    use crate::process::worker_loops::WorkerLoops;

    fn with_turns(turns: u64) -> Stats {
        let mut stats = Stats::default();
        stats.turns = turns;
        stats
    }

    #[test]
    fn a_worker_keeps_its_last_counters_when_it_does_not_answer_or_has_ended() {
        let counters = Counters::new(2, WorkerLoops::default(), Printer::null());
        counters.set(0, with_turns(1));
        counters.set(1, with_turns(10));
        counters.set(0, with_turns(2));
        assert_eq!(total(&counters.last()).turns, 12);
        counters.set_final(2, with_turns(15));
        // An answer that was late.
        counters.set(1, with_turns(14));
        assert_eq!(total(&counters.last()).turns, 17);
        assert_eq!(counters.last().iter().map(|last| last.has_ended).collect::<Vec<_>>(), [false, true]);
    }

    #[test]
    fn an_answer_that_a_later_one_has_overtaken_changes_no_counter() {
        let counters = Counters::new(1, WorkerLoops::default(), Printer::null());
        for (turns, expected) in [(10, 10), (20, 20), (10, 20), (20, 20), (21, 21)] {
            counters.set(0, with_turns(turns));
            assert_eq!(total(&counters.last()).turns, expected);
        }
    }
}
