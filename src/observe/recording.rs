//! Recordings: what one or several loops have noted, in memory.

use std::time::Duration;

use crate::observe::entry::Entry;
use crate::observe::journal::Detail;

/// What the loops of a program noted, from one moment to another.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Recording {
    /// One part for each loop.
    pub loops: Vec<LoopRecording>,
}

/// What one loop noted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct LoopRecording {
    /// The name of the loop, for people.
    pub name: String,
    /// The time from the start of the earliest loop to the start of this one, which is time zero of its entries.
    pub started_after: Duration,
    /// The entries, in the order in which things happened.
    pub entries: Vec<Entry>,
    /// Details of entries, by their index in [`entries`](Self::entries), in ascending order.
    pub details: Vec<(usize, Detail)>,
    /// The bytes that [`Detail::Payload`] refers to.
    pub payload: Vec<u8>,
}
