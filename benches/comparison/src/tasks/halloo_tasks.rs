//! The tasks on the library: closures as timers, posted jobs.

use std::error::Error;
use std::thread;

use halloo::EventLoop;

use super::{CountedTimer, NOT_DUE, TimerRun, job};

pub(super) fn run_timers(run: &'static TimerRun) -> Result<(), Box<dyn Error>> {
    let mut events = EventLoop::new()?;
    for _ in 0..run.plan.beside {
        events.every(NOT_DUE, |_| Some(NOT_DUE));
    }
    let period = run.plan.period();
    for _ in 0..run.plan.timers {
        let mut timer = CountedTimer::new(run);
        events.every(period, move |context| {
            let again = timer.fire().then_some(period);
            if again.is_none() && run.is_finished() {
                context.stop();
            }
            again
        });
    }
    events.run()?;
    Ok(())
}

pub(super) fn run_posts(jobs: u64) -> Result<(), Box<dyn Error>> {
    let mut events = EventLoop::new()?;
    let handle = events.handle();
    let poster = thread::spawn(move || {
        for number in 0..jobs {
            let job = job(number);
            let is_posted = handle.post(move |context| {
                if job() == jobs {
                    context.stop();
                }
            });
            if is_posted.is_err() {
                return;
            }
        }
    });
    events.run()?;
    poster.join().map_err(|_| "the thread panicked".into())
}
