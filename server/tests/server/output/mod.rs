//! What the server prints, in every format.

mod event_schema;
pub(crate) mod line_schema;
mod log_lines;
