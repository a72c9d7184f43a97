//! What to listen on, to bind and to connect to, and the limits of connections.

pub(crate) mod bind;
pub(crate) mod connect;
pub(crate) mod connection_limits;
pub(crate) mod listen;
