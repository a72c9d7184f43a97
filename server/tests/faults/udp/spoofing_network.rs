//! The addresses of the network namespace in which datagrams are forged.

use std::net::UdpSocket;
use std::time::Duration;

use support::network::network_namespace::{in_network_namespace_after, ip};
use support::wait::wait_until;

/// Two addresses to serve on, one for an echo service, and blocks of source addresses for forged datagrams.
const ADDRESSES: [&str; 7] = [
    "address add 10.9.0.1/32 dev lo",
    "address add 10.9.0.2/32 dev lo",
    "address add 10.9.0.3/32 dev lo",
    "-6 address add fd09::1/128 dev lo nodad",
    "-6 address add fd09::2/128 dev lo nodad",
    "route add local 10.64.0.0/10 dev lo",
    "route add broadcast 10.9.255.255 dev lo table local",
];

/// Runs the body of a test in the namespace. The closure must be in the test function: its type names the test.
#[track_caller]
pub(crate) fn in_test_network<F: FnOnce()>(body: F) {
    in_network_namespace_after(add_addresses, body);
}

fn add_addresses() {
    ADDRESSES.into_iter().for_each(ip);
    // The kernel lists a new IPv6 address a moment before it can be used.
    wait_until("IPv6 between its addresses", || {
        can_send("[fd09::1]:0", "[fd09::2]:0").is_ok() && can_send("[fd09::2]:0", "[fd09::1]:0").is_ok()
    });
}

/// Sends a datagram from one address to another.
fn can_send(from: &str, to: &str) -> std::io::Result<()> {
    let (sender, receiver) = (UdpSocket::bind(from)?, UdpSocket::bind(to)?);
    receiver.set_read_timeout(Some(Duration::from_millis(100)))?;
    sender.send_to(b"probe", receiver.local_addr()?)?;
    receiver.recv(&mut [0; 16]).map(drop)
}
