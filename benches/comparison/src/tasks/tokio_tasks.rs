//! The tasks on tokio: sleeping tasks, jobs through a channel.

use std::error::Error;
use std::pin::pin;
use std::thread;

use tokio::sync::mpsc::unbounded_channel;
use tokio::time::{Instant, sleep};

use super::{CountedTimer, NOT_DUE, TimerRun, job};

pub(super) fn run_timers(run: &'static TimerRun) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(async {
        for _ in 0..run.plan.beside {
            tokio::spawn(sleep(NOT_DUE));
        }
        let timers: Vec<_> = (0..run.plan.timers).map(|_| tokio::spawn(repeat(run))).collect();
        for timer in timers {
            timer.await?;
        }
        Ok(())
    })
}

async fn repeat(run: &'static TimerRun) {
    let mut timer = CountedTimer::new(run);
    // Resetting one `Sleep` costs less than a new one for each fire.
    let mut sleep = pin!(sleep(run.plan.period()));
    loop {
        sleep.as_mut().await;
        if !timer.fire() {
            return;
        }
        sleep.as_mut().reset(Instant::now() + run.plan.period());
    }
}

pub(super) fn run_posts(jobs: u64) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (sender, mut receiver) = unbounded_channel::<Box<dyn FnOnce() -> u64 + Send>>();
    let poster = thread::spawn(move || (0..jobs).try_for_each(|number| sender.send(Box::new(job(number)))));
    runtime.block_on(async {
        while let Some(job) = receiver.recv().await {
            job();
        }
    });
    poster.join().map_err(|_| "the thread panicked")?.map_err(|_| "the channel is closed".into())
}
