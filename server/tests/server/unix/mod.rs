//! Unix sockets.

pub(crate) mod socket_path;
mod unix_socket_paths;
mod unix_sockets;
