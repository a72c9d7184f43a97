//! Outbound connections, and the proxy.

mod connect_values;
mod outbound_connects;
mod pending_connects;
pub(crate) mod proxy_handler;
