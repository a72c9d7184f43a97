//! PROXY headers: the parser accepts exactly what an independent recognizer accepts.
//!
//! A cut header is incomplete, and nothing is read beyond its end.

#![no_main]

use libfuzzer_sys::fuzz_target;

use crate::greeting::worker_counters::HeaderError;
use crate::header::{HEADER_BYTES_MAX, Parsed, begins_with_signature, has_v2_signature, parse_datagram, parse_stream};
use crate::header_oracle::{Accepted, recognize};

#[expect(dead_code, reason = "only what is tried here is called")]
#[path = "../../server/src/text/mod.rs"]
mod text;

#[expect(dead_code, reason = "only the errors are used here")]
#[path = "../../server/src/greeting"]
mod greeting {
    pub(crate) mod worker_counters;
}

#[path = "../../server/src/proxy/header.rs"]
mod header;

#[path = "../../server/src/proxy/tests/header_oracle.rs"]
mod header_oracle;

/// The place of the family and transport in version 2.
const FAMILY_AT: usize = 13;

fuzz_target!(|input: &[u8]| {
    let (parsed, expected) = (parse_stream(input), recognize(input));
    match (parsed, expected) {
        (Parsed::Header { client, length }, Some(expected)) => {
            assert_eq!(Accepted { client, length }, expected);
            assert!(length <= HEADER_BYTES_MAX && length <= input.len());
            assert_eq!(parse_stream(&input[..length]), parsed, "the bytes behind it are read");
            for end in 0..length {
                assert_eq!(parse_stream(&input[..end]), Parsed::Incomplete, "{end} bytes");
            }
        }
        (Parsed::Header { .. }, None) | (_, Some(_)) => panic!("{parsed:?}, but {expected:?}"),
        // Each refusal is final.
        (Parsed::Invalid(_) | Parsed::NoHeader, None) => {
            assert_eq!(parse_stream(&[input, b"\r\n"].concat()), parsed);
            assert_eq!(parsed == Parsed::NoHeader, begins_with_signature(input) == Some(false));
        }
        (Parsed::Incomplete, None) => assert!(input.len() < HEADER_BYTES_MAX),
    }
    assert_datagram(input);
});

/// A datagram is accepted if a stream of the same family would be.
fn assert_datagram(datagram: &[u8]) {
    let parsed = parse_datagram(datagram);
    if !has_v2_signature(datagram) {
        let is_version_1 = datagram.starts_with(b"PROXY ");
        let expected = if is_version_1 { Parsed::Invalid(HeaderError::Version1Datagram) } else { Parsed::NoHeader };
        return assert_eq!(parsed, expected);
    }
    let mut as_stream = datagram.to_vec();
    // Of LOCAL and of families without a transport the byte stays.
    if let Some(family @ (0x11 | 0x12 | 0x21 | 0x22 | 0x31 | 0x32)) = as_stream.get_mut(FAMILY_AT) {
        *family ^= 3;
    }
    let expected = recognize(&as_stream).map(|Accepted { client, length }| Parsed::Header { client, length });
    match (parsed, expected) {
        (Parsed::Invalid(_), None) => {}
        (parsed, expected) => assert_eq!(Some(parsed), expected),
    }
}
