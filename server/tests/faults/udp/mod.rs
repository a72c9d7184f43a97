//! UDP under failing system calls, floods and forged addresses.

mod link_local_addresses;
mod spoofed_datagrams;
pub(crate) mod spoofing_network;
pub(crate) mod udp_errors;
mod udp_floods;
