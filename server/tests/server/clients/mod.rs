//! What clients are sent, and what is printed of them.

mod blocking_and_polling_servers;
mod connection_checks;
mod event_lines;
mod few_file_descriptors;
mod many_clients;
mod misbehaving_clients;
mod original_clients_and_examples;
mod udp_replies;
