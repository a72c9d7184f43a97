//! How the server begins to end, whoever asks for it: a signal, a limit, or idleness.
//!
//! Between those and the loop. It promises that the supervisor hears of the end before any client does, and that
//! everybody grants open connections the same time.

use std::time::Duration;

use halloo::Context;

use crate::supervisor::Supervisor;

/// One for all who may ask.
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    /// What open connections get to finish.
    pub(crate) drain_timeout: Duration,
    pub(crate) supervisor: Supervisor,
}

impl Ending {
    /// Has the loop drain.
    pub(crate) fn begin(&self, context: &mut Context) {
        self.supervisor.stopping();
        context.drain(self.drain_timeout);
    }
}
