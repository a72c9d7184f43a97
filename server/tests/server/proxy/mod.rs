//! The server behind proxies that send PROXY headers.

mod clients_behind_proxies;
mod counted_headers;
mod datagrams_behind_proxies;
mod proxy_settings;
mod refused_headers;

/// The client in each header of these tests, as the server prints it.
const CLIENT: &str = "192.0.2.7:4711";

/// A header of version 1 with the client.
const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 80\r\n";

/// The families and transports of version 2.
const TCP4: u8 = 0x11;
const UDP4: u8 = 0x12;

/// A header of version 2 with a client of the last octet and TLVs.
fn v2_of(last_octet: u8, family: u8, tlvs: &[u8]) -> Vec<u8> {
    let addresses = [192, 0, 2, last_octet, 198, 51, 100, 1, 0x12, 0x67, 0, 80];
    let length = u16::try_from(addresses.len() + tlvs.len()).expect("a short header").to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", [0x21, family].as_slice(), &length, &addresses, tlvs].concat()
}

/// A header of version 2 with the client.
fn v2(family: u8) -> Vec<u8> {
    v2_of(7, family, &[])
}

/// A header of a proxy's own connection, such as a check: `LOCAL` of version 2.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
