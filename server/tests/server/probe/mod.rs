//! The output and exit status of `probe` with servers of all kinds.

mod misbehaving_servers;
mod pasted_answers;
mod probe_output;
mod questions;
mod several_addresses;
