//! Text formats: addresses, durations, greeting templates, escapes, event lines.

pub(crate) mod address;
pub(crate) mod bound_address;
pub(crate) mod byte_size;
pub(crate) mod duration;
pub(crate) mod escape;
pub(crate) mod fault_event;
pub(crate) mod greeting_event;
pub(crate) mod protocol;
pub(crate) mod served_socket;
pub(crate) mod template;
pub(crate) mod unescape;

/// The hint for a value without a meaning. The command line replaces it if a variable has the value.
pub(crate) const LEAVE_FLAG_OUT: &str = "leave the flag out";
