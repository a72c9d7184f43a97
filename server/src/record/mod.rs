//! `--record`: recordings of all workers, and the file that they replace.

pub(crate) mod recording_file;
pub(crate) mod recordings;
