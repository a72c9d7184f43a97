//! The counters of all workers, told together when somebody asks.
//!
//! Beside the loops, which each hand in their own between two events. It promises one line with the sums, and where there
//! are several workers a line for each behind it; a worker that has ended still counts.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use halloo::{Stats, Stopped};
use log::Level;

use crate::output::printer_thread::Printer;
use crate::output::stderr::Remark;
use crate::process::shutdown::Workers;

/// What can be counted, and where it is told.
#[derive(Clone, Debug)]
pub(crate) struct Counters {
    workers: Workers,
    printer: Printer,
    /// What those workers had counted that have ended.
    last: Arc<[OnceLock<Stats>]>,
}

/// A count under way: each worker's part, and when the last has handed in its own, or has ended, it is told.
struct Count {
    of: Counters,
    parts: Mutex<Vec<Option<Stats>>>,
}

impl Counters {
    /// The counters of so many workers.
    pub(crate) fn new(count: usize, workers: Workers, printer: Printer) -> Self {
        Self { workers, printer, last: (0..count).map(|_| OnceLock::new()).collect() }
    }

    /// Keeps what a worker has counted to its end.
    pub(crate) fn close(&self, number: usize, stats: Stats) {
        let _ = self.last[number - 1].set(stats);
    }

    /// Asks every worker; asked for, the counters are printed at any log level. [`Stopped`] if all have ended.
    pub(crate) fn show(&self) -> Result<(), Stopped> {
        let count = Arc::new(Count { of: self.clone(), parts: Mutex::new(vec![None; self.last.len()]) });
        let mut asked = Err(Stopped);
        for (index, handle) in self.workers.handles().iter().enumerate() {
            let count = Arc::clone(&count);
            let hand_in = move |context: &mut halloo::Context| {
                let mut parts = count.parts.lock().unwrap_or_else(PoisonError::into_inner);
                parts[index] = Some(context.stats().clone());
            };
            asked = handle.post(hand_in).or(asked);
        }
        asked
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        let parts = std::mem::take(self.parts.get_mut().unwrap_or_else(PoisonError::into_inner));
        let known = parts.into_iter().zip(self.of.last.iter()).map(|(part, last)| part.or_else(|| last.get().cloned()));
        // A worker that is ending in this very moment has neither: then all are, and nobody waits for a count.
        let Some(each) = known.collect::<Option<Vec<Stats>>>() else { return };
        let mut all = Stats::default();
        for stats in &each {
            all += stats;
        }
        let print = |text| self.of.printer.remark(Remark::Log(Level::Info, "halloo", text));
        print(all.to_string());
        if each.len() > 1 {
            for (index, stats) in each.iter().enumerate() {
                print(format!("worker {}: {stats}", index + 1));
            }
        }
    }
}
