//! The floor of the tasks: a timer wheel, a locked list.
//!
//! A wheel of one turn suffices for timers of one period. The clock is read once for each wake-up.

use std::error::Error;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::time::Timespec;

use super::{CountedTimer, NOT_DUE, TimerRun, job};

const TICK_NANOS: u64 = 1_000_000;

/// Timers by the tick at which they fire. Those further ahead than the slots are kept apart.
struct Wheel {
    slots: Vec<Vec<usize>>,
    later: Vec<(u64, usize)>,
    started: Instant,
    /// Every slot before this tick is empty.
    next_tick: u64,
}

impl Wheel {
    fn new(longest: Duration) -> Self {
        let slots = (nanos(longest) / TICK_NANOS + 2).next_power_of_two();
        let slots = std::iter::repeat_with(Vec::new).take(usize::try_from(slots).unwrap_or(1));
        Self { slots: slots.collect(), later: Vec::new(), started: Instant::now(), next_tick: 0 }
    }

    fn now(&self) -> u64 {
        nanos(self.started.elapsed())
    }

    fn arm(&mut self, timer: usize, now: u64, at: u64) {
        // The first tick that is not earlier.
        let tick = at.div_ceil(TICK_NANOS);
        if at - now <= (self.slots.len() as u64 - 2) * TICK_NANOS {
            let slot = self.slot(tick);
            self.slots[slot].push(timer);
        } else {
            self.later.push((tick, timer));
        }
    }

    /// Takes the timers of all ticks until now.
    fn expire(&mut self, now: u64, expired: &mut Vec<usize>) {
        while self.next_tick <= now / TICK_NANOS {
            let slot = self.slot(self.next_tick);
            expired.append(&mut self.slots[slot]);
            self.next_tick += 1;
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the mask is smaller")]
    fn slot(&self, tick: u64) -> usize {
        tick as usize & (self.slots.len() - 1)
    }

    /// The milliseconds until the first tick with timers.
    fn wait_millis(&self) -> u64 {
        let end = self.next_tick + self.slots.len() as u64;
        let first = (self.next_tick..end).find(|&tick| !self.slots[self.slot(tick)].is_empty()).unwrap_or(end);
        (first * TICK_NANOS).saturating_sub(self.now()).div_ceil(TICK_NANOS)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "it is less than five centuries")]
fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
}

pub(super) fn run_timers(run: &'static TimerRun) -> Result<(), Box<dyn Error>> {
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    let period = nanos(run.plan.period());
    let mut wheel = Wheel::new(run.plan.period());
    let mut timers = Vec::new();
    for beside in 0..run.plan.beside {
        wheel.arm(usize::try_from(beside)?, 0, nanos(NOT_DUE));
    }
    timers.extend((0..run.plan.timers).map(|_| CountedTimer::new(run)));
    let mut expired: Vec<usize> = (0..timers.len()).collect();
    let mut now = wheel.now();
    wheel.expire(now, &mut expired);
    expired.drain(..).for_each(|timer| wheel.arm(timer, now, now + period));
    while !run.is_finished() {
        wait(&poll, Some(wheel.wait_millis()))?;
        now = wheel.now();
        wheel.expire(now, &mut expired);
        for timer in expired.drain(..) {
            if timers[timer].fire() {
                wheel.arm(timer, now, now + period);
            }
        }
    }
    Ok(())
}

/// Waits for an event, at most for these milliseconds.
fn wait(poll: &OwnedFd, millis: Option<u64>) -> Result<(), Box<dyn Error>> {
    let mut events = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }];
    let millis = millis.map(i64::try_from).transpose()?;
    let timeout = millis.map(|millis| Timespec { tv_sec: millis / 1000, tv_nsec: millis % 1000 * 1_000_000 });
    match epoll::wait(poll, &mut events, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

type Jobs = Vec<Box<dyn FnOnce() -> u64 + Send>>;

/// Jobs posted to a loop.
struct Posted {
    jobs: Mutex<Jobs>,
    wake: OwnedFd,
}

impl Posted {
    fn swap(&self, jobs: &mut Jobs) {
        std::mem::swap(&mut *self.jobs.lock().unwrap_or_else(PoisonError::into_inner), jobs);
    }

    fn post(&self, job: impl FnOnce() -> u64 + Send + 'static) {
        let job = Box::new(job);
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.push(job);
        let is_first = jobs.len() == 1;
        drop(jobs);
        if is_first {
            let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
        }
    }
}

pub(super) fn run_posts(jobs: u64) -> Result<(), Box<dyn Error>> {
    let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&poll, &wake, EventData::new_u64(0), EventFlags::IN | EventFlags::ET)?;
    let posted = Arc::new(Posted { jobs: Mutex::default(), wake });
    let sender = thread::spawn({
        let posted = Arc::clone(&posted);
        move || (0..jobs).for_each(|number| posted.post(job(number)))
    });
    let mut taken = Jobs::new();
    let mut done = 0;
    while done < jobs {
        wait(&poll, None)?;
        posted.swap(&mut taken);
        for job in taken.drain(..) {
            done = job();
        }
    }
    sender.join().map_err(|_| "the thread panicked".into())
}
