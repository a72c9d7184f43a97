//! Outbound connections, and the proxy.

mod outbound_connects;
mod pending_connects;
pub(crate) mod proxy_handler;
