//! `--record` and `halloo view`: files, findings, pages.

mod decoded_page;
mod documented_recordings;
mod recorded_server;
mod recording_errors;
pub(crate) mod recording_reader;
mod view_findings;
mod view_page;
