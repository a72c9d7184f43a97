//! What `probe` prints and does, with servers of all kinds.

mod misbehaving_servers;
mod pasted_answers;
mod probe_output;
mod questions;
mod several_addresses;
