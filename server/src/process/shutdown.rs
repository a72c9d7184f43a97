//! How the server begins to end, whoever asks for it: a signal, a limit, idleness, or a worker that failed.
//!
//! Between those and the loops. It promises that the supervisor hears of the end before any client does, and that every
//! worker grants its open connections the same time, to one moment for all.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use halloo::{Context, Handle, Stopped};

use crate::process::sd_notify::Supervisor;

/// One for all who may ask.
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    /// What open connections get to finish.
    pub(crate) drain_timeout: Duration,
    pub(crate) supervisor: Supervisor,
    pub(crate) workers: Workers,
}

impl Ending {
    /// Has all loops drain; [`Stopped`] if they have ended already.
    pub(crate) fn begin(&self) -> Result<(), Stopped> {
        self.supervisor.stopping();
        let until = Instant::now() + self.drain_timeout;
        self.workers.tell(move |context| context.drain(until.saturating_duration_since(context.now())))
    }

    /// Has all loops end at once; [`Stopped`] if they have ended already.
    pub(crate) fn cut(&self) -> Result<(), Stopped> {
        self.workers.tell(Context::stop)
    }
}

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
    use super::Workers;
    use halloo::{Context, EventLoop, Stopped};

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
