//! Listeners: options, limits, unix sockets and removal.

mod listener_and_socket_removal;
mod max_connections;
mod options_and_bind_errors;
#[cfg(target_os = "linux")]
mod reserved_descriptors;
#[cfg(unix)]
mod unix_paths;
#[cfg(unix)]
mod unix_sockets;
