//! The loops of all workers, for other threads.
//!
//! They are set once, when all workers listen.

use std::sync::{Arc, OnceLock};

use halloo::{Context, Handle, HandlerId, LoopStopped};

use crate::text::served_socket::ServedSocket;

/// One worker's loop, for other threads.
#[derive(Clone, Debug)]
pub(crate) struct WorkerLoop {
    pub(crate) handle: Handle,
    /// Its listeners, each with the handler of its connections.
    pub(crate) listeners: Vec<(HandlerId, Arc<ServedSocket>)>,
}

/// The loops of all workers, by number; empty until all workers listen.
#[derive(Clone, Debug, Default)]
pub(crate) struct WorkerLoops(Arc<OnceLock<Vec<WorkerLoop>>>);

impl WorkerLoops {
    /// Sets the loops, once for each process.
    pub(crate) fn set(&self, loops: Vec<WorkerLoop>) {
        let _ = self.0.set(loops);
    }

    /// The loops by number, the first worker's first.
    pub(crate) fn as_slice(&self) -> &[WorkerLoop] {
        self.0.get().map_or(&[], Vec::as_slice)
    }

    /// Posts a job to each loop and passes it the loop's index; [`LoopStopped`] if all loops have ended.
    pub(crate) fn post(&self, job: impl Fn(usize, &mut Context) + Clone + Send + 'static) -> Result<(), LoopStopped> {
        let mut result = Err(LoopStopped);
        for (index, WorkerLoop { handle, .. }) in self.as_slice().iter().enumerate() {
            let job = job.clone();
            result = handle.post(move |context| job(index, context)).or(result);
        }
        result
    }
}

#[cfg(test)]
impl WorkerLoop {
    /// A loop of a test, without connections to visit.
    pub(crate) fn for_test(event_loop: &halloo::EventLoop<'_>) -> Self {
        Self { handle: event_loop.handle(), listeners: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use halloo::{EventLoop, LoopStopped};

    use super::{WorkerLoop, WorkerLoops};

    #[test]
    fn a_job_reaches_every_loop_that_still_runs() {
        let handles = WorkerLoops::default();
        assert_eq!(handles.post(|_, context| context.stop()), Err(LoopStopped));
        let mut loops = [EventLoop::new().unwrap(), EventLoop::new().unwrap(), EventLoop::new().unwrap()];
        handles.set(loops.iter().map(WorkerLoop::for_test).collect());
        loops[0].context().stop();
        loops[0].run().unwrap();
        assert_eq!(handles.post(|_, context| context.stop()), Ok(()));
        for event_loop in &mut loops {
            event_loop.run().unwrap();
        }
        assert_eq!(handles.post(|_, context| context.stop()), Err(LoopStopped));
    }
}
