//! Ends all loops: after a drain, or at once.
//!
//! The supervisor is notified before any loop drains, and all loops have the same deadline.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use halloo::{Context, Handle, LoopStopped};

use crate::process::sd_notify::SdNotifier;
use crate::process::server_state::{ServerState, SharedServerState};

/// Ends the server; every part that can end it has a clone.
#[derive(Clone, Debug)]
pub(crate) struct Shutdown {
    /// How long open connections may take to finish.
    pub(crate) drain_timeout: Duration,
    pub(crate) notifier: SdNotifier,
    pub(crate) state: SharedServerState,
    pub(crate) loops: LoopHandles,
}

impl Shutdown {
    /// Drains all loops; [`LoopStopped`] if they have ended already.
    pub(crate) fn drain(&self) -> Result<(), LoopStopped> {
        self.state.advance_to(ServerState::Stopping);
        self.notifier.notify_stopping();
        let deadline = Instant::now() + self.drain_timeout;
        self.loops.post(move |_, context| context.drain(deadline.saturating_duration_since(context.now())))
    }

    /// Stops all loops at once; [`LoopStopped`] if they have ended already.
    pub(crate) fn stop(&self) -> Result<(), LoopStopped> {
        self.loops.post(|_, context| context.stop())
    }
}

/// The handles of all loops, by worker number; empty until all workers listen.
#[derive(Clone, Debug, Default)]
pub(crate) struct LoopHandles(Arc<OnceLock<Vec<Handle>>>);

impl LoopHandles {
    /// Sets the handles, once for each process.
    pub(crate) fn set(&self, handles: Vec<Handle>) {
        let _ = self.0.set(handles);
    }

    /// The handles by number, the first worker's first.
    pub(crate) fn as_slice(&self) -> &[Handle] {
        self.0.get().map_or(&[], Vec::as_slice)
    }

    /// Posts a job to each loop and passes it the loop's index; [`LoopStopped`] if all loops have ended.
    pub(crate) fn post(&self, job: impl Fn(usize, &mut Context) + Clone + Send + 'static) -> Result<(), LoopStopped> {
        let mut result = Err(LoopStopped);
        for (index, handle) in self.as_slice().iter().enumerate() {
            let job = job.clone();
            result = handle.post(move |context| job(index, context)).or(result);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::LoopHandles;
    use halloo::{EventLoop, LoopStopped};

    #[test]
    fn a_job_reaches_every_loop_that_still_runs() {
        let handles = LoopHandles::default();
        assert_eq!(handles.post(|_, context| context.stop()), Err(LoopStopped));
        let mut loops = [EventLoop::new().unwrap(), EventLoop::new().unwrap(), EventLoop::new().unwrap()];
        handles.set(loops.iter().map(EventLoop::handle).collect());
        loops[0].context().stop();
        loops[0].run().unwrap();
        assert_eq!(handles.post(|_, context| context.stop()), Ok(()));
        for event_loop in &mut loops {
            event_loop.run().unwrap();
        }
        assert_eq!(handles.post(|_, context| context.stop()), Err(LoopStopped));
    }
}
