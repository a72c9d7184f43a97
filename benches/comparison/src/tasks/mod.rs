//! Timers and posted jobs in a process of their own.
//!
//! The child process prints its operations and their processor time; a wrong result is an error.

pub(crate) mod bare_tasks;
pub(crate) mod halloo_tasks;
pub(crate) mod tokio_tasks;

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand, ValueEnum};
use rustix::time::{ClockId, clock_gettime};

/// What runs the tasks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Runtime {
    Floor,
    Library,
    Tokio,
}

impl Runtime {
    pub(crate) const ALL: [Self; 3] = [Self::Floor, Self::Library, Self::Tokio];
}

/// A task, with its size.
#[derive(Subcommand, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Task {
    /// Timers that are set again when they fire
    Timers(TimerPlan),
    /// Jobs from another thread
    Posts {
        /// How many
        jobs: u64,
    },
}

/// Timers of one period.
#[derive(Args, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TimerPlan {
    /// How many
    pub(crate) timers: u64,
    /// Milliseconds of each
    pub(crate) period_millis: u64,
    /// How often each fires while the time is measured
    pub(crate) fires: u64,
    /// Further timers, which do not fire
    pub(crate) beside: u64,
}

/// The time of the timers that do not fire.
const NOT_DUE: Duration = Duration::from_secs(3600);

/// What a task has cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TaskCost {
    pub(crate) operations: u64,
    /// Processor time of all threads, without the preparation.
    pub(crate) cpu_nanos: u64,
}

impl TimerPlan {
    pub(crate) fn period(self) -> Duration {
        Duration::from_millis(self.period_millis)
    }
}

/// Runs a task in this process, and prints its cost for the parent process.
pub(crate) fn run(runtime: Runtime, task: Task) -> Result<(), Box<dyn Error>> {
    let cost = match task {
        Task::Timers(plan) => {
            let run = TimerRun::new(plan);
            match runtime {
                Runtime::Floor => bare_tasks::run_timers(run)?,
                Runtime::Library => halloo_tasks::run_timers(run)?,
                Runtime::Tokio => tokio_tasks::run_timers(run)?,
            }
            run.cost()?
        }
        Task::Posts { jobs } => {
            let before = cpu_nanos();
            match runtime {
                Runtime::Floor => bare_tasks::run_posts(jobs)?,
                Runtime::Library => halloo_tasks::run_posts(jobs)?,
                Runtime::Tokio => tokio_tasks::run_posts(jobs)?,
            }
            job_cost(jobs, before)?
        }
    };
    println!("{} {}", cost.operations, cost.cpu_nanos);
    Ok(())
}

/// Nanoseconds of processor time of this process, including threads that have ended.
fn cpu_nanos() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// The shared state of a run of timers. All its users are on one thread.
///
/// A first fire of each timer is not measured: only then are all armed, whatever the runtime does at the start.
pub(crate) struct TimerRun {
    pub(crate) plan: TimerPlan,
    not_fired: AtomicU64,
    unfinished: AtomicU64,
    early: AtomicU64,
    cpu_before: AtomicU64,
    cpu_after: AtomicU64,
}

impl TimerRun {
    /// Lives until the end of the process, so that tasks of every runtime can refer to it.
    pub(crate) fn new(plan: TimerPlan) -> &'static Self {
        let count = || AtomicU64::new(plan.timers);
        let zero = AtomicU64::default;
        let (not_fired, unfinished) = (count(), count());
        let run = Self { plan, not_fired, unfinished, early: zero(), cpu_before: zero(), cpu_after: zero() };
        Box::leak(Box::new(run))
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.unfinished.load(Ordering::Relaxed) == 0
    }

    fn cost(&self) -> Result<TaskCost, String> {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        if count(&self.early) > 0 || count(&self.not_fired) > 0 || !self.is_finished() {
            let [early, missing] = [&self.early, &self.unfinished].map(count);
            return Err(format!("{early} timers fired early, {missing} not often enough"));
        }
        let cpu_nanos = count(&self.cpu_after) - count(&self.cpu_before);
        Ok(TaskCost { operations: self.plan.timers * self.plan.fires, cpu_nanos })
    }
}

/// One timer of a run.
pub(crate) struct CountedTimer {
    run: &'static TimerRun,
    first_due: Instant,
    fired: u64,
}

impl CountedTimer {
    /// A timer that is armed now.
    pub(crate) fn new(run: &'static TimerRun) -> Self {
        Self { run, first_due: Instant::now() + run.plan.period(), fired: 0 }
    }

    /// Counts a fire; returns whether the timer is set again.
    pub(crate) fn fire(&mut self) -> bool {
        if self.fired == 0 {
            if Instant::now() < self.first_due {
                count_up(&self.run.early);
            }
            if count_down(&self.run.not_fired) == 0 {
                self.run.cpu_before.store(cpu_nanos(), Ordering::Relaxed);
            }
        }
        if self.fired < self.run.plan.fires {
            self.fired += 1;
            return true;
        }
        if count_down(&self.run.unfinished) == 0 {
            self.run.cpu_after.store(cpu_nanos(), Ordering::Relaxed);
        }
        false
    }
}

/// Without an atomic read-modify-write: one thread counts.
fn count_up(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

fn count_down(counter: &AtomicU64) -> u64 {
    let left = counter.load(Ordering::Relaxed) - 1;
    counter.store(left, Ordering::Relaxed);
    left
}

/// Jobs that have run in order. A static, so that a job contains only its number.
static JOBS_DONE: AtomicU64 = AtomicU64::new(0);

/// A job that counts itself if all before it have run; returns how many have run.
fn job(number: u64) -> impl FnOnce() -> u64 + Send + 'static {
    move || {
        if JOBS_DONE.load(Ordering::Relaxed) == number {
            count_up(&JOBS_DONE);
        }
        JOBS_DONE.load(Ordering::Relaxed)
    }
}

fn job_cost(jobs: u64, cpu_before: u64) -> Result<TaskCost, String> {
    let cpu_nanos = cpu_nanos() - cpu_before;
    match JOBS_DONE.load(Ordering::Relaxed) {
        done if done == jobs => Ok(TaskCost { operations: jobs, cpu_nanos }),
        done => Err(format!("{done} of {jobs} jobs have run in order")),
    }
}

/// The cost that a child process has printed.
pub(crate) fn parse_cost(output: &str) -> Option<TaskCost> {
    let (operations, cpu_nanos) = output.trim().split_once(' ')?;
    Some(TaskCost { operations: operations.parse().ok()?, cpu_nanos: cpu_nanos.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_that_fires_early_is_an_error() {
        let run = TimerRun::new(TimerPlan { timers: 1, period_millis: 1, fires: 1, beside: 0 });
        let mut timer = CountedTimer { run, first_due: Instant::now() + NOT_DUE, fired: 0 };
        assert_eq!((timer.fire(), timer.fire()), (true, false));
        assert_eq!(run.cost(), Err("1 timers fired early, 0 not often enough".to_owned()));
    }

    #[test]
    fn a_timer_that_does_not_fire_is_an_error() {
        let run = TimerRun::new(TimerPlan { timers: 2, period_millis: 0, fires: 0, beside: 0 });
        assert!(!CountedTimer::new(run).fire());
        assert_eq!(run.cost(), Err("0 timers fired early, 1 not often enough".to_owned()));
        assert!(!CountedTimer::new(run).fire());
        assert_eq!(run.cost().map(|cost| cost.operations), Ok(0));
    }

    #[test]
    fn jobs_out_of_order_are_an_error() {
        assert_eq!([job(0)(), job(2)(), job(1)()], [1, 1, 2]);
        assert_eq!(job_cost(3, 0), Err("2 of 3 jobs have run in order".to_owned()));
    }

    #[test]
    fn a_cost_is_two_numbers() {
        assert_eq!(parse_cost("10 2500\n"), Some(TaskCost { operations: 10, cpu_nanos: 2500 }));
        assert_eq!(parse_cost("10\n"), None);
    }
}
