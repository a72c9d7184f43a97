//! UDP: datagrams, their addresses, replies, multicast, many sockets.

mod clients_behind_a_proxy;
mod later_replies;
mod many_sockets;
#[cfg(target_os = "linux")]
mod merged_datagrams;
#[cfg(target_os = "linux")]
mod multicast;
mod refused_replies;
mod udp_datagrams;
mod udp_source_addresses;
