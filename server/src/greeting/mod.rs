//! Greetings: their templates, their numbers, and the handlers that send them.

pub(crate) mod datagram_handler;
pub(crate) mod greeter;
pub(crate) mod greeting_quota;
pub(crate) mod greeting_templates;
pub(crate) mod stream_handlers;
pub(crate) mod worker_counters;
