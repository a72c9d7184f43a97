//! The state of the server: starting, ready, stopping.
//!
//! It never goes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// A state of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerState {
    /// Not every worker listens yet.
    Starting = 0,
    /// Every worker listens; READY follows.
    Ready = 1,
    /// A stop was requested, or a limit was reached.
    Stopping = 2,
}

/// The state of the server, for all threads.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedServerState(Arc<AtomicU8>);

impl SharedServerState {
    pub(crate) fn get(&self) -> ServerState {
        match self.0.load(Ordering::Acquire) {
            0 => ServerState::Starting,
            1 => ServerState::Ready,
            _ => ServerState::Stopping,
        }
    }

    /// Sets the state, unless a later one is set.
    pub(crate) fn advance_to(&self, state: ServerState) {
        self.0.fetch_max(state as u8, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::{ServerState, SharedServerState};

    #[test]
    fn a_server_that_stops_is_not_ready_again() {
        let state = SharedServerState::default();
        assert_eq!(state.get(), ServerState::Starting);
        for (advanced, expected) in [
            (ServerState::Ready, ServerState::Ready),
            (ServerState::Stopping, ServerState::Stopping),
            (ServerState::Ready, ServerState::Stopping),
        ] {
            state.clone().advance_to(advanced);
            assert_eq!(state.get(), expected);
        }
    }
}
