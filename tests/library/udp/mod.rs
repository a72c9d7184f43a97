//! UDP: datagrams and refused replies.

mod refused_replies;
mod udp_datagrams;
