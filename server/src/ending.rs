//! How the server begins to end, whoever asks for it: a signal, a limit, idleness, or a worker that failed.
//!
//! Between those and the loops. It promises that the supervisor hears of the end before any client does, and that every
//! worker grants its open connections the same time, to one moment for all.

use std::time::{Duration, Instant};

use halloo::{Context, Stopped};

use crate::supervisor::Supervisor;
use crate::workers::Workers;

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
