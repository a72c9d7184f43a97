//! Greetings: who gets one, what it says, and the handlers that send it.

pub(crate) mod datagram_handler;
pub(crate) mod greeter;
pub(crate) mod greeting_quota;
pub(crate) mod stream_handlers;
