//! The command line: the definition of the flags, and their parsing.

pub(crate) mod flags;
pub(crate) mod parse;
