//! What the process shares with the system: descriptors, inherited sockets, notifications, shutdown.

pub(crate) mod fd_limit;
pub(crate) mod inherited_socket;
pub(crate) mod sd_notify;
pub(crate) mod shutdown;
