//! The output and exit status of `probe` with servers of all kinds.

mod json_answers;
mod misbehaving_servers;
mod pasted_answers;
mod probe_output;
mod proxied_requests;
mod questions;
mod repeated_requests;
mod several_addresses;
mod several_targets;
mod waiting;
