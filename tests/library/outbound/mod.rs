//! Outbound connections, and the proxy.

#[cfg(target_os = "linux")]
pub(crate) mod adopted_streams;
mod connect_values;
mod outbound_connects;
mod pending_connects;
pub(crate) mod proxy_handler;
