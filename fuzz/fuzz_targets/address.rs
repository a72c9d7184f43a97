//! Addresses: one that parses prints as a line and parses back to the same, and each socket address means itself.

#![no_main]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use halloo_fuzz::assert_line;
use libfuzzer_sys::fuzz_target;

use crate::text::address::{Address, plain};

#[expect(dead_code, reason = "only what is tried here is called")]
#[path = "../../server/src/text/mod.rs"]
mod text;

fuzz_target!(|input: (SocketAddr, &str)| {
    let (socket, text) = input;
    if let Ok(address) = text.parse::<Address>() {
        assert_prints_as_read(&address, text);
    }
    assert_eq!("localhost".parse(), Ok(Address::standard()));

    let known = plain(socket);
    assert_eq!(plain(known), known);
    // Names of zones are the kernel's to resolve, and a text has no place for flow information.
    let bare = SocketAddr::new(known.ip(), known.port());
    let address = bare.to_string().parse::<Address>().expect("what std prints is an address");
    assert_eq!(address.resolve().expect("nobody is asked"), [bare]);
});

fn assert_prints_as_read(address: &Address, text: &str) {
    let shown = address.to_string();
    assert_line(&shown, text.len().max("localhost".len()) + "[]:65535".len());
    assert_eq!(shown.parse::<Address>().as_ref(), Ok(address), "{text:?} is shown as {shown:?}");
    assert!(shown.ends_with(&format!(":{}", address.port())));
    let loopback =
        [SocketAddr::from((Ipv4Addr::LOCALHOST, address.port())), (Ipv6Addr::LOCALHOST, address.port()).into()];
    // A name would ask the resolver; these are known without.
    if shown.starts_with("localhost:") {
        assert_eq!(address.resolve().expect("nobody is asked"), loopback);
    } else if let (Ok(ip), false) = (shown.parse::<SocketAddr>(), shown.contains('%')) {
        assert_eq!(address.resolve().expect("nobody is asked"), [ip]);
    }
}
