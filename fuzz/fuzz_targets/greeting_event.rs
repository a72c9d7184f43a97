//! Event lines: one bounded line of text, and the same as JSON.
//!
//! The part of a text that is kept prints as the whole text would.

#![no_main]

use std::net::SocketAddr;

use halloo_fuzz::assert_printable_line;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

use crate::text::bound_address::{Addresses, BoundAddress};
use crate::text::greeting_event::GreetingEvent;
use crate::text::protocol::Protocol;

#[expect(dead_code, reason = "only what is tried here is called")]
#[path = "../../server/src/text/mod.rs"]
mod text;

/// An IPv6 address with a zone and a port.
const ADDRESS_BYTES_MAX: usize = 58;

/// The longest line: one address, the largest count, a text that was cut.
const LINE_BYTES_MAX: usize = LINE_FORMAT.len() + ADDRESS_BYTES_MAX + text::escape::TEXT_BYTES_MAX;
const LINE_FORMAT: &str = "tcp  bytes=18446744073709551615 ";

/// The longest object: two addresses, every byte of the text as `\u0000` and in hexadecimal.
const JSON_BYTES_MAX: usize = JSON_FORMAT.len()
    + "2026-01-01T00:00:00.000Z".len()
    + 2 * ADDRESS_BYTES_MAX
    + (r"\u0000".len() + "00".len()) * text::escape::TEXT_BYTES_MAX;
const JSON_FORMAT: &str = r#"{"event":"received","time":"","protocol":"tcp","peer":"","local":"","bytes":18446744073709551615,"text":"","truncated":false,"hex":""}"#;

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    is_udp: bool,
    peer: Option<SocketAddr>,
    local: Option<SocketAddr>,
    bytes: u64,
    text: &'a [u8],
}

fuzz_target!(|input: Input<'_>| {
    let Input { is_udp, peer, local, bytes: byte_count, text } = input;
    let protocol = if is_udp { Protocol::Udp } else { Protocol::Tcp };
    let local = local.map(BoundAddress::from);
    let event = GreetingEvent::new(Addresses { protocol, peer, local: local.clone() }, byte_count, text);
    // The event keeps only the beginning of the text, and prints it as it would print the whole.
    let escaped = text::escape::text(text);
    let (peer, local) = (peer.map(|peer| peer.to_string()), local.map(|local| local.to_string()));

    let line = written_line(|buffer| event.write_text(buffer));
    assert_printable_line(&line, LINE_BYTES_MAX);
    let space = if text.is_empty() { "" } else { " " };
    let address = peer.as_deref().or(local.as_deref()).unwrap_or("-");
    assert_eq!(line, format!("{protocol} {address} bytes={byte_count}{space}{escaped}"));

    let line = written_line(|buffer| event.write_json(buffer));
    assert_printable_line(&line, JSON_BYTES_MAX);
    let mut object: Value = serde_json::from_str(&line).expect("a JSON value");
    let time = object["time"].take();
    assert!(time.as_str().is_some_and(|time| humantime::parse_rfc3339(time).is_ok()), "{time}");
    // The whole text, or its beginning without the character that is cut.
    let cut = &text[..text.len().min(text::escape::TEXT_BYTES_MAX)];
    let shown = (0..4).filter_map(|missing| cut.get(..cut.len().checked_sub(missing)?)).find(|shown| {
        object["text"] == String::from_utf8_lossy(shown).as_ref()
            && object["truncated"] == (byte_count > shown.len() as u64)
    });
    let shown = shown.unwrap_or_else(|| panic!("{object} of {text:?}"));
    let mut expected = serde_json::json!({
        "event": "received", "time": null, "protocol": protocol.to_string(), "peer": peer, "local": local,
        "bytes": byte_count, "text": object["text"], "truncated": object["truncated"],
    });
    if str::from_utf8(shown).is_err() {
        let hex = shown.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        expected["hex"] = hex.into();
    }
    assert_eq!(object, expected);
});

/// The written line, without the newline.
fn written_line(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut line = Vec::new();
    write(&mut line);
    assert_eq!(line.pop(), Some(b'\n'));
    String::from_utf8(line).expect("text")
}
