//! Unix sockets.

pub(crate) mod temporary_socket_path;
mod unix_socket_paths;
mod unix_sockets;
