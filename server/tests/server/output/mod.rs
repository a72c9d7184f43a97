//! What the server prints, in every format.

mod client_steps;
mod event_schema;
pub(crate) mod line_schema;
mod log_lines;
