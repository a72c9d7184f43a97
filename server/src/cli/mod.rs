//! The command line: its flags, and what is asked for by them.

pub(crate) mod flags;
pub(crate) mod parse;
