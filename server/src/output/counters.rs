//! Logs the counters of all workers on request.
//!
//! The totals include workers that have ended.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use halloo::{LoopStopped, Stats};
use log::Level;

use crate::output::printer_thread::Printer;
use crate::output::stderr::StderrLine;
use crate::process::shutdown::WorkerLoops;

/// Collects the counters of all loops and logs them.
#[derive(Clone, Debug)]
pub(crate) struct Counters {
    loops: WorkerLoops,
    printer: Printer,
    /// The counters of the workers that have ended.
    final_stats: Arc<[OnceLock<Stats>]>,
}

/// A report in progress, logged when its last clone is dropped: then each loop has added its part, or has ended.
struct StatsReport {
    counters: Counters,
    parts: Mutex<Vec<Option<Stats>>>,
}

impl Counters {
    /// The counters of that many workers.
    pub(crate) fn new(workers: usize, loops: WorkerLoops, printer: Printer) -> Self {
        Self { loops, printer, final_stats: (0..workers).map(|_| OnceLock::new()).collect() }
    }

    /// Stores the counters of a worker that has ended.
    pub(crate) fn set_final(&self, worker_number: usize, stats: Stats) {
        let _ = self.final_stats[worker_number - 1].set(stats);
    }

    /// Logs the counters of every loop, at any log level. [`LoopStopped`] if all loops have ended.
    pub(crate) fn request_report(&self) -> Result<(), LoopStopped> {
        let report =
            Arc::new(StatsReport { counters: self.clone(), parts: Mutex::new(vec![None; self.final_stats.len()]) });
        self.loops.post(move |index, context| {
            let mut parts = report.parts.lock().unwrap_or_else(PoisonError::into_inner);
            parts[index] = Some(context.stats().clone());
        })
    }
}

impl Drop for StatsReport {
    fn drop(&mut self) {
        let parts = std::mem::take(self.parts.get_mut().unwrap_or_else(PoisonError::into_inner));
        let all_stats = parts
            .into_iter()
            .zip(self.counters.final_stats.iter())
            .map(|(part, final_stats)| part.or_else(|| final_stats.get().cloned()));
        // A worker that is just ending has neither. Then all workers are ending, and the report is skipped.
        let Some(per_worker) = all_stats.collect::<Option<Vec<Stats>>>() else { return };
        let mut total = Stats::default();
        for stats in &per_worker {
            total += stats;
        }
        let log = |text| self.counters.printer.eprint(StderrLine::Log(Level::Info, "halloo", text));
        log(total.to_string());
        if per_worker.len() > 1 {
            for (index, stats) in per_worker.iter().enumerate() {
                log(format!("worker {}: {stats}", index + 1));
            }
        }
    }
}
