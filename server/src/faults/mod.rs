//! `--fault`: what the server does wrong on purpose, and to which clients.
//!
//! Without the flag nothing of it is in the way of a reply.

pub(crate) mod fault_control;
pub(crate) mod fault_source;
pub(crate) mod faulty_datagrams;
pub(crate) mod faulty_streams;
pub(crate) mod shaped_output;
