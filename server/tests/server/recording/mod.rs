//! `--record` and `halloo view`.

mod documented_recordings;
mod recorded_server;
mod recording_errors;
mod recording_reader;
mod view_findings;
