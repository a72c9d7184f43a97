//! Addresses: what parses, prints as one line and parses back.
//!
//! Every socket address resolves to itself.

#![no_main]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use halloo_fuzz::assert_printable_line;
use libfuzzer_sys::fuzz_target;

use crate::text::address::Address;

#[expect(dead_code, reason = "only what is tried here is called")]
#[path = "../../server/src/text/mod.rs"]
mod text;

fuzz_target!(|input: (SocketAddr, &str)| {
    let (socket_addr, text) = input;
    if let Ok(address) = text.parse::<Address>() {
        assert_round_trip(&address, text);
    }
    assert_eq!("localhost".parse(), Ok(Address::default()));

    // Zone names need the kernel, and the text of an address has no flow information.
    let without_flow = SocketAddr::new(socket_addr.ip(), socket_addr.port());
    let address = without_flow.to_string().parse::<Address>().expect("what std prints is an address");
    assert_eq!(address.resolve().expect("no resolver is asked"), [without_flow]);
});

fn assert_round_trip(address: &Address, text: &str) {
    let printed = address.to_string();
    assert_printable_line(&printed, text.len().max("localhost".len()) + "[]:65535".len());
    assert_eq!(printed.parse::<Address>().as_ref(), Ok(address), "{text:?} is shown as {printed:?}");
    let port: u16 = printed.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port at its end");
    let loopback = [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), (Ipv6Addr::LOCALHOST, port).into()];
    // Other names would need the resolver.
    if printed.starts_with("localhost:") {
        assert_eq!(address.resolve().expect("no resolver is asked"), loopback);
    } else if let (Ok(ip), false) = (printed.parse::<SocketAddr>(), printed.contains('%')) {
        assert_eq!(address.resolve().expect("no resolver is asked"), [ip]);
    }
}
