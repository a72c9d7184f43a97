//! The PROXY protocol: the address of the client behind a proxy.
//!
//! Only headers from trusted sources are believed. No handler of a mode is called before a whole valid header.

pub(crate) mod header;
pub(crate) mod header_policy;
pub(crate) mod proxied_datagrams;
pub(crate) mod proxied_streams;

#[cfg(test)]
mod tests;
