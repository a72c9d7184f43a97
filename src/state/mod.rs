//! State of the loop as pure data: no I/O, no clock.

pub(crate) mod buffers;
pub(crate) mod connection_state;
pub(crate) mod deadlines;
pub(crate) mod memory;
pub(crate) mod phase;
pub(crate) mod source_address_limits;
pub(crate) mod sparse_vec;
pub(crate) mod timers;
pub(crate) mod timestamp;
pub(crate) mod udp_send_queue;
