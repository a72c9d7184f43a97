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
