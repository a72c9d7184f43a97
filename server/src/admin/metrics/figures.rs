//! The figures of all metrics at one moment.
//!
//! They are read without waiting: workers that are asked have answered before, or are silent.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use halloo::Stats;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use crate::admin::worker_query::WorkerAnswer;
use crate::greeting::worker_counters::WorkerCounters;
use crate::output::counters::{self, Counters};
use crate::output::printer_thread::OutputCounts;
use crate::process::server_state::{ServerState, SharedServerState};

/// Where the figures are read.
#[derive(Clone, Debug)]
pub(crate) struct FigureSources {
    pub(crate) started_at: SystemTime,
    pub(crate) state: SharedServerState,
    pub(crate) counters: Counters,
    pub(crate) worker_counters: Vec<Arc<WorkerCounters>>,
    /// The most connections of all workers.
    pub(crate) connections_max: usize,
}

/// All figures at one moment.
#[derive(Debug)]
pub(crate) struct Figures {
    /// Since 1970.
    pub(crate) started_at: Duration,
    pub(crate) cpu_time: Duration,
    pub(crate) is_ready: bool,
    /// Whether each worker has answered, the first worker first.
    pub(crate) workers_up: Vec<bool>,
    /// The sums of the last known counters of all workers.
    pub(crate) total: Stats,
    pub(crate) worker_counters: Vec<Arc<WorkerCounters>>,
    pub(crate) output: OutputCounts,
    pub(crate) connections_max: usize,
}

impl FigureSources {
    /// The figures of now, with the answers of the workers.
    pub(crate) fn read(&self, answers: Vec<WorkerAnswer<Stats>>) -> Figures {
        let workers_up = answers.iter().map(|answer| matches!(answer, WorkerAnswer::Answered(_))).collect();
        for (index, answer) in answers.into_iter().enumerate() {
            if let WorkerAnswer::Answered(stats) = answer {
                self.counters.set(index, stats);
            }
        }
        let mut last = self.counters.last();
        for ended in last.iter_mut().filter(|last| last.has_ended) {
            // Reset at the end of the loop, and not counted.
            ended.stats.connections = 0;
        }
        Figures {
            // A clock before 1970 shows 0.
            started_at: self.started_at.duration_since(UNIX_EPOCH).unwrap_or_default(),
            cpu_time: cpu_time(),
            is_ready: self.state.get() == ServerState::Ready,
            workers_up,
            total: counters::total(&last),
            worker_counters: self.worker_counters.clone(),
            output: self.counters.output(),
            connections_max: self.connections_max,
        }
    }
}

/// Processor time of all threads.
fn cpu_time() -> Duration {
    // It can only fail for invalid arguments.
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Duration::ZERO };
    let times = [usage.user_time(), usage.system_time()];
    let microseconds = times.iter().map(TimeValLike::num_microseconds).sum::<i64>();
    Duration::from_micros(u64::try_from(microseconds).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant, SystemTime};

    use halloo::Stats;

    use super::FigureSources;
    use crate::admin::worker_query::WorkerAnswer;
    use crate::output::counters::Counters;
    use crate::output::printer_thread::Printer;
    use crate::process::server_state::{ServerState, SharedServerState};
    use crate::process::worker_loops::WorkerLoops;

    fn sources(workers: usize) -> FigureSources {
        FigureSources {
            started_at: SystemTime::now(),
            state: SharedServerState::default(),
            counters: Counters::new(workers, WorkerLoops::default(), Printer::null()),
            worker_counters: Vec::new(),
            connections_max: 1,
        }
    }

    fn stats(accepted: u64, connections: u64) -> Stats {
        let mut stats = Stats::default();
        (stats.accepted, stats.connections) = (accepted, connections);
        stats
    }

    #[test]
    fn a_silent_and_an_ended_worker_keep_their_counters_and_only_a_silent_one_its_connections() {
        let sources = sources(3);
        sources.read(vec![WorkerAnswer::Answered(stats(10, 2)); 3]);
        sources.counters.set_final(3, stats(12, 1));
        let answers = vec![WorkerAnswer::Answered(stats(11, 3)), WorkerAnswer::Silent, WorkerAnswer::NotRunning];
        let figures = sources.read(answers);
        assert_eq!((figures.total.accepted, figures.total.connections), (11 + 10 + 12, 3 + 2));
        assert_eq!(figures.workers_up, [true, false, false]);
    }

    #[test]
    fn no_counter_goes_back_when_the_answers_of_a_later_scrape_are_read_first() {
        let sources = sources(1);
        let scrape = |turns, accepted| {
            let mut stats = stats(accepted, 0);
            stats.turns = turns;
            sources.read(vec![WorkerAnswer::Answered(stats)]).total.accepted
        };
        assert_eq!([scrape(2, 20), scrape(1, 10), scrape(3, 30)], [20, 20, 30]);
    }

    #[test]
    fn only_a_ready_server_is_shown_as_ready() {
        let sources = sources(1);
        assert!(!sources.read(Vec::new()).is_ready);
        for (state, is_ready) in [(ServerState::Ready, true), (ServerState::Stopping, false)] {
            sources.state.advance_to(state);
            assert_eq!(sources.read(Vec::new()).is_ready, is_ready);
        }
    }

    #[test]
    fn processor_time_rises() {
        let sources = sources(1);
        let before = sources.read(Vec::new()).cpu_time;
        let deadline = Instant::now() + Duration::from_secs(20);
        while sources.read(Vec::new()).cpu_time <= before {
            assert!(Instant::now() < deadline, "it stays at {before:?}");
        }
    }
}
