//! The tasks on tokio: sleeping tasks, jobs through a channel.

use std::error::Error;
use std::thread;

use tokio::sync::mpsc::unbounded_channel;
use tokio::time::sleep;

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
    loop {
        sleep(run.plan.period()).await;
        if !timer.fire() {
            return;
        }
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
