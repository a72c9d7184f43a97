//! UDP: datagrams, their source addresses, refused replies, many sockets.

mod many_sockets;
mod refused_replies;
mod udp_datagrams;
mod udp_source_addresses;
