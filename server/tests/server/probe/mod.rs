//! What `probe` prints and does, with servers of all kinds.

mod pasted_answers;
mod questions;
mod several_addresses;
