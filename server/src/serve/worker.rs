//! The event loop of one worker, run until it has drained.
//!
//! Between two turns the watchdog is pinged and the idle timer is checked.

use std::cell::RefCell;
use std::time::Instant;

use halloo::observe::TurnEntries;
use halloo::{DrainReport, EventLoop, Turn};

use crate::cli::flags::serve_options::ServeOptions;
use crate::exit::{ExitError, os_error};
use crate::greeting::greeter::Greeter;
use crate::output::narrator::Narrator;
use crate::process::sd_notify::Watchdog;
use crate::record::recordings;
use crate::serve::idle_timer::IdleTimer;
use crate::serve::server_context::ServerContext;
use crate::serve::signals::ServerSignals;
use crate::text::duration::format_duration;

/// Runs a worker's loop until it has drained. Idle time counts from `start`. Only the first worker's loop watches the
/// signals and pings the watchdog.
pub(crate) fn run_loop(
    server: &ServerContext<'_>,
    event_loop: &mut EventLoop<'_>,
    greeter: &RefCell<Greeter>,
    start: Instant,
    signals: Option<&RefCell<ServerSignals>>,
    mut watchdog: Option<&mut Watchdog>,
) -> Result<DrainReport, ExitError> {
    let idle_timeout = server.options.lifetime.exit_when_idle;
    let mut idle_timer = idle_timeout.map(|timeout| IdleTimer::new(timeout, start, &server.busy_workers));
    loop {
        let idle_timeout_left = idle_timer.as_ref().and_then(|timer| timer.time_left(event_loop));
        let watchdog_time_left = watchdog.as_deref().map(Watchdog::time_until_ping);
        let timeout = idle_timeout_left.into_iter().chain(watchdog_time_left).min();
        match event_loop.turn(timeout).map_err(loop_error)? {
            Turn::Stopped(report) => return Ok(report),
            // If signals interrupt every poll, the watch is not called.
            Turn::Idle if server.is_stop_requested() => {
                if let Some(signals) = signals {
                    signals.borrow_mut().handle_pending();
                }
            }
            _ => {}
        }
        if let Some(watchdog) = &mut watchdog {
            watchdog.ping();
        }
        let greeting_count = greeter.borrow().greeting_count();
        let is_reply_held = greeter.borrow().counters().has_held_replies();
        if let Some(timer) = idle_timer.as_mut().filter(|_| is_reply_held) {
            timer.restart();
        } else if let Some(expired) = idle_timer.take_if(|timer| timer.check_expired(event_loop, greeting_count)) {
            log::info!("stopping: idle for {}", format_duration(expired.timeout));
            server.end_idle();
        }
    }
}

/// Creates the loop of one worker, on the calling thread.
pub(crate) fn new_event_loop<'h>(server: &ServerContext<'_>, worker_number: usize) -> Result<EventLoop<'h>, ExitError> {
    let ServeOptions { limits, workers, .. } = server.options;
    let mut event_loop = EventLoop::new().map_err(loop_error)?;
    // A panic that one client causes must not end the service for the other clients. It leaves no state half changed:
    // the greeter's borrow ends with the unwinding, and a greeting counts only when it is sent.
    event_loop.catch_panics(true);
    if let Some(total) = limits.memory_max {
        event_loop.buffer_bytes_max(total / workers);
    }
    let mut narrator = Narrator::new(server.printer.clone());
    let narrate = move |turn: &TurnEntries<'_>| narrator.narrate(turn);
    if let Some(recordings) = &server.recordings {
        recordings.record(worker_number, &mut event_loop, narrate);
    } else {
        event_loop.set_observer(narrate);
        event_loop.journal_level(recordings::level_without_recording(server.options.operation.admin.is_some()));
    }
    Ok(event_loop)
}

fn loop_error(error: halloo::Error) -> ExitError {
    ExitError::from_io(&format!("cannot {}", error.kind()), &os_error(error))
}
