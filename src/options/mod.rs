//! Options for listening, binding and connecting.

pub(crate) mod bind;
pub(crate) mod connect;
pub(crate) mod connection_limits;
pub(crate) mod listen;
