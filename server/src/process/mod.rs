//! What the process has from outside: descriptors, inherited sockets, a supervisor; and its end.

pub(crate) mod fd_limit;
pub(crate) mod inherited_socket;
pub(crate) mod sd_notify;
pub(crate) mod shutdown;
