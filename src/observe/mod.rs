//! What a loop does, as plain data: entries, recordings, findings.
//!
//! The loop notes entries in its journal. An observer gets the entries of each turn after the turn.

mod chrome_trace;
pub(crate) mod entry;
mod findings;
pub(crate) mod journal;
mod recorder;
mod recording;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod sim_recording;

use crate::close_reason::CloseReason;

pub use entry::{Callback, Entry, EntryKind, Level, Object};
pub use findings::{Finding, FindingKind, findings};
pub use journal::{Detail, TurnEntries};
pub use recorder::Recorder;
pub use recording::{LoopRecording, Recording};

/// The reasons of [`EntryKind::Closed`], by the index in the entry.
pub const CLOSE_REASONS: &[CloseReason] = CloseReason::ALL;
