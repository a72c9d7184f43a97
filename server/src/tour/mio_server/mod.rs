//! An echo server on mio, right except for one rule.
//!
//! It speaks the protocol of the tour: each byte that came is sent back, and the line `work 300` after 300 ms.
//! [`Rules`](rules::Rules) has the lines that the twelve cases are about. The rest is what every server needs.

pub(crate) mod connections;
pub(crate) mod datagrams;
pub(crate) mod noted_mio;
pub(crate) mod notes;
pub(crate) mod rules;
pub(crate) mod server;
