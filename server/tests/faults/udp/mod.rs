//! UDP under failing system calls, floods and forged addresses.

mod spoofed_datagrams;
pub(crate) mod test_network;
pub(crate) mod udp_errors;
mod udp_floods;
