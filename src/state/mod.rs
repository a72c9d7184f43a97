//! State of the loop as pure data: no I/O, no clock.

pub(crate) mod buffers;
pub(crate) mod connection_state;
pub(crate) mod deadlines;
pub(crate) mod phase;
pub(crate) mod send_queue;
pub(crate) mod source_limits;
pub(crate) mod sparse_vec;
pub(crate) mod timers;
pub(crate) mod timestamp;
