//! Clients, ports and namespaces.

#[cfg(target_os = "linux")]
pub mod fin_capture;
pub mod http_client;
#[cfg(target_os = "linux")]
pub mod network_namespace;
pub mod ports;
pub mod raw_udp;
pub mod streams;
pub mod tcp;
pub mod udp;
