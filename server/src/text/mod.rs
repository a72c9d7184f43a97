//! Text formats: addresses, durations, greeting templates, escapes, event lines.

pub(crate) mod address;
pub(crate) mod bound_address;
pub(crate) mod byte_size;
pub(crate) mod duration;
pub(crate) mod escape;
pub(crate) mod greeting_event;
pub(crate) mod placeholder;
pub(crate) mod protocol;
pub(crate) mod template;
pub(crate) mod unescape;

/// The way out of a value that means nothing. The command line replaces it where a variable has the value.
pub(crate) const LEAVE_FLAG_OUT: &str = "leave the flag out";
