//! The way to every worker's loop, for whoever has something to tell them all.
//!
//! Beside the flow: filled once, when all workers listen; who ends the server, counts or feeds the watchdog holds a copy.
//! It promises that a word reaches each loop that still turns. It never waits for an answer.

use std::sync::{Arc, OnceLock};

use halloo::{Context, Handle, Stopped};

/// The handles of all loops, by number; before the workers have met, there are none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Workers(Arc<OnceLock<Vec<Handle>>>);

impl Workers {
    /// All of them, known from now on.
    pub(crate) fn meet(&self, handles: Vec<Handle>) {
        // A second meeting changes nothing: there is one for each process.
        let _ = self.0.set(handles);
    }

    /// The handles by number, the first worker's first.
    pub(crate) fn handles(&self) -> &[Handle] {
        self.0.get().map_or(&[], Vec::as_slice)
    }

    /// Has each loop do something; [`Stopped`] if every one of them has ended.
    pub(crate) fn tell(&self, job: impl Fn(&mut Context) + Clone + Send + 'static) -> Result<(), Stopped> {
        let mut told = Err(Stopped);
        for handle in self.handles() {
            told = handle.post(job.clone()).or(told);
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use halloo::{Context, EventLoop, Stopped};

    use super::Workers;

    #[test]
    fn a_word_reaches_every_loop_that_still_turns() {
        let workers = Workers::default();
        assert_eq!(workers.tell(Context::stop), Err(Stopped));
        let mut loops = [EventLoop::new().unwrap(), EventLoop::new().unwrap(), EventLoop::new().unwrap()];
        workers.meet(loops.iter().map(EventLoop::handle).collect());
        loops[0].context().stop();
        loops[0].run().unwrap();
        assert_eq!(workers.tell(Context::stop), Ok(()));
        for events in &mut loops {
            events.run().unwrap();
        }
        assert_eq!(workers.tell(Context::stop), Err(Stopped));
    }
}
