//! The built binary over real sockets on loopback.

mod broken_standard_streams;
mod environment_variables;
mod event_lines;
mod exit_conditions;
mod few_file_descriptors;
mod idle_wakeups;
mod limit_flags;
mod many_clients;
mod misbehaving_clients;
mod modes_and_placeholders;
mod original_clients_and_examples;
mod probe_command;
mod signal_handling;
mod socket_path;
mod udp_replies;
mod unix_socket_paths;
mod unix_sockets;
mod usage_and_bind_errors;
mod worker_threads;

use support::server::ServerBinary;

const HALLOO: ServerBinary = ServerBinary::new(env!("CARGO_BIN_EXE_halloo"));
