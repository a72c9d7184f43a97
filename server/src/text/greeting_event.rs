//! An event of a greeting, and its text and JSON lines.
//!
//! The text of a client is escaped and truncated; at most one byte more is kept than is printed.

use std::io::Write;
use std::time::{Duration, SystemTime};

use crate::text::bound_address::{Addresses, BoundAddress};
use crate::text::escape;

/// The most that is kept of a text, in bytes: one more than is printed, which shows that the text was truncated.
pub(crate) const KEPT_BYTES_MAX: usize = escape::TEXT_BYTES_MAX + 1;

/// The last second that RFC 3339 can express, counted from 1970.
const YEAR_9999_END_SECONDS: u64 = 253_402_300_799;

/// An event: a greeting was sent, an echo or discard connection has closed, a datagram was echoed or discarded.
#[derive(Debug)]
pub(crate) struct GreetingEvent {
    time: SystemTime,
    addresses: Addresses,
    byte_count: u64,
    text: Box<[u8]>,
}

impl GreetingEvent {
    /// An event of this moment, with the number of bytes received and their beginning.
    pub(crate) fn new(addresses: Addresses, byte_count: u64, text: &[u8]) -> Self {
        let kept_bytes = text.len().min(KEPT_BYTES_MAX);
        Self { time: SystemTime::now(), addresses, byte_count, text: text[..kept_bytes].into() }
    }

    /// Appends the time, `tcp 127.0.0.1:50514 bytes=18 Hello, TCP Server!` and a newline. A client of a unix socket has
    /// no address: the socket's path replaces it.
    pub(crate) fn write_text(&self, buffer: &mut Vec<u8>) {
        write_text_head(buffer, self.time);
        write_text_client(buffer, &self.addresses);
        // Writing into a vector cannot fail, here and below.
        let _ = write!(buffer, "bytes={}", self.byte_count);
        if !self.text.is_empty() {
            let _ = write!(buffer, " {}", escape::text(&self.text));
        }
        buffer.push(b'\n');
    }

    /// Appends one JSON object and a newline.
    pub(crate) fn write_json(&self, buffer: &mut Vec<u8>) {
        let (bytes, text) = (self.byte_count, self.json_text());
        write_json_head(buffer, "received", self.time);
        write_json_client(buffer, &self.addresses);
        let _ = write!(
            buffer,
            ",\"bytes\":{bytes},\"text\":{},\"truncated\":{}",
            escape::json(text),
            bytes > text.len() as u64
        );
        if str::from_utf8(text).is_err() {
            let _ = write!(buffer, ",\"hex\":\"{}\"", escape::hex(text));
        }
        buffer.extend_from_slice(b"}\n");
    }

    /// The beginning that a JSON line shows; truncation never splits a character.
    fn json_text(&self) -> &[u8] {
        let text = &self.text[..self.text.len().min(escape::TEXT_BYTES_MAX)];
        let last_invalid = text.utf8_chunks().last().map_or(&[][..], |chunk| chunk.invalid());
        let is_cut = self.byte_count > text.len() as u64;
        match str::from_utf8(last_invalid) {
            Err(error) if is_cut && error.error_len().is_none() => &text[..text.len() - last_invalid.len()],
            _ => text,
        }
    }
}

/// Appends the protocol and the address of a client, and a space. A client of a unix socket has no address: the socket's
/// path replaces it.
pub(crate) fn write_text_client(buffer: &mut Vec<u8>, addresses: &Addresses) {
    let Addresses { protocol, peer, local } = addresses;
    // Writing into a vector cannot fail, here and below.
    let _ = match (peer, local) {
        (Some(peer), _) => write!(buffer, "{protocol} {peer} "),
        (None, Some(local)) => write!(buffer, "{protocol} {local} "),
        (None, None) => write!(buffer, "{protocol} - "),
    };
}

/// Appends the protocol and both addresses of a client.
pub(crate) fn write_json_client(buffer: &mut Vec<u8>, addresses: &Addresses) {
    let Addresses { protocol, peer, local } = addresses;
    let peer = peer.map_or_else(|| "null".to_owned(), |peer| format!("\"{peer}\""));
    let local = local.as_ref().map_or_else(|| "null".to_owned(), BoundAddress::json);
    let _ = write!(buffer, ",\"protocol\":\"{protocol}\",\"peer\":{peer},\"local\":{local}");
}

/// Appends the beginning of a JSON object: the event and the time.
pub(crate) fn write_json_head(buffer: &mut Vec<u8>, event: &str, time: SystemTime) {
    // Writing into a vector cannot fail.
    let _ = write!(buffer, "{{\"event\":\"{event}\",\"time\":\"{}\"", format_timestamp(time));
}

/// Appends the beginning of a text line: the time and a space.
pub(crate) fn write_text_head(buffer: &mut Vec<u8>, time: SystemTime) {
    // Writing into a vector cannot fail.
    let _ = write!(buffer, "{} ", format_timestamp(time));
}

/// The time in RFC 3339 format, in UTC, to the millisecond. A time outside the years 1970 to 9999 has no such form,
/// and becomes the nearest one within.
pub(crate) fn format_timestamp(time: SystemTime) -> String {
    let latest = SystemTime::UNIX_EPOCH + Duration::from_secs(YEAR_9999_END_SECONDS);
    humantime::format_rfc3339_millis(time.clamp(SystemTime::UNIX_EPOCH, latest)).to_string()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    use proptest::prelude::*;
    use serde_json::Value;

    use super::{Addresses, GreetingEvent, format_timestamp};
    use crate::text::bound_address::BoundAddress;
    use crate::text::protocol::Protocol;

    fn tcp_event(bytes: u64, text: &[u8]) -> GreetingEvent {
        let peer = "127.0.0.1:50514".parse().ok();
        let local: Option<SocketAddr> = "127.0.0.1:8888".parse().ok();
        let addresses = Addresses { protocol: Protocol::Tcp, peer, local: local.map(BoundAddress::from) };
        GreetingEvent::new(addresses, bytes, text)
    }

    fn unix_event(path: &str) -> GreetingEvent {
        let local = Some(BoundAddress::from_path(Path::new(path)));
        GreetingEvent::new(Addresses { protocol: Protocol::Unix, peer: None, local }, 2, b"hi")
    }

    /// The line without its time.
    fn text_line(event: &GreetingEvent) -> String {
        let mut line = Vec::new();
        event.write_text(&mut line);
        let line = String::from_utf8(line).unwrap();
        let (time, rest) = line.split_once(' ').unwrap();
        assert_eq!(time, format_timestamp(event.time));
        rest.to_owned()
    }

    fn json_line(event: &GreetingEvent) -> String {
        let mut line = Vec::new();
        event.write_json(&mut line);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn a_clock_outside_the_years_1970_to_9999_prints_the_nearest_time() {
        let (epoch, day, first) =
            (SystemTime::UNIX_EPOCH, Duration::from_secs(24 * 60 * 60), "1970-01-01T00:00:00.000Z");
        assert_eq!(format_timestamp(epoch), first);
        assert_eq!(format_timestamp(epoch - day), first);
        assert_eq!(format_timestamp(epoch + day), "1970-01-02T00:00:00.000Z");
        assert_eq!(format_timestamp(epoch + day * 4_000_000), "9999-12-31T23:59:59.000Z");
    }

    #[test]
    fn the_text_line_has_its_documented_form() {
        let hello = b"Hello, TCP Server!";
        assert_eq!(text_line(&tcp_event(18, hello)), "tcp 127.0.0.1:50514 bytes=18 Hello, TCP Server!\n");
        assert_eq!(text_line(&tcp_event(1, b"x")), "tcp 127.0.0.1:50514 bytes=1 x\n");
        assert_eq!(text_line(&tcp_event(0, b"")), "tcp 127.0.0.1:50514 bytes=0\n");
    }

    #[test]
    fn the_json_line_has_every_field_in_order() {
        let line = json_line(&tcp_event(9, b"say \"hi\"\n"));
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["protocol"], "tcp");
        assert_eq!(value["peer"], "127.0.0.1:50514");
        assert_eq!(value["local"], "127.0.0.1:8888");
        assert_eq!((&value["event"], &value["bytes"]), (&"received".into(), &9.into()));
        assert_eq!((&value["text"], &value["truncated"]), (&"say \"hi\"\n".into(), &false.into()));
        let names = ["{\"event\"", "time", "protocol", "peer", "local", "bytes", "text", "truncated"];
        let positions = names.map(|name| line.find(name));
        assert!(positions.is_sorted() && positions[0].is_some());
        let time = value["time"].as_str().unwrap();
        assert!(time.ends_with('Z') && time.len() == "2026-01-01T00:00:00.000Z".len());
    }

    #[test]
    fn over_a_unix_socket_the_path_replaces_the_address() {
        assert_eq!(text_line(&unix_event("/run/halloo.sock")), "unix /run/halloo.sock bytes=2 hi\n");
        assert_eq!(text_line(&unix_event("/run/\u{1b}\n")), "unix /run/\\x1b\\n bytes=2 hi\n");
        let value: Value = serde_json::from_str(&json_line(&unix_event("/run/\"a\"\n"))).unwrap();
        assert_eq!((&value["protocol"], &value["peer"]), (&"unix".into(), &Value::Null));
        assert_eq!(value["local"], "/run/\"a\"\n");
    }

    #[test]
    fn a_long_text_is_truncated_and_its_length_is_printed() {
        let line = text_line(&tcp_event(60_000, "a".repeat(60_000).as_bytes()));
        assert!(line.starts_with("tcp 127.0.0.1:50514 bytes=60000 aaa") && line.ends_with("a...\n"));
        assert!(line.len() < 330);
    }

    #[test]
    fn json_truncates_text_at_a_character_and_shows_other_bytes_as_hex() {
        for (bytes, text, shown, truncated, hex) in [
            (256, "x".repeat(256).into_bytes(), "x".repeat(256), false, None),
            (300, "x".repeat(300).into_bytes(), "x".repeat(256), true, None),
            (257, format!("x{}", "\u{fc}".repeat(128)).into_bytes(), format!("x{}", "\u{fc}".repeat(127)), true, None),
            // The client's text itself ends within a character.
            (2, b"a\xc3".to_vec(), "a\u{fffd}".to_owned(), false, Some("61c3")),
            (9, b"\xffa\xc3".to_vec(), "\u{fffd}a".to_owned(), true, Some("ff61")),
        ] {
            let value: Value = serde_json::from_str(&json_line(&tcp_event(bytes, &text))).unwrap();
            assert_eq!((&value["text"], &value["truncated"]), (&shown.into(), &truncated.into()));
            assert_eq!(value.get("hex").and_then(Value::as_str), hex);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_make_one_line_and_valid_json(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let event = tcp_event(bytes.len() as u64, &bytes);
            prop_assert_eq!(text_line(&event).matches('\n').count(), 1);
            let line = json_line(&event);
            prop_assert_eq!(line.matches('\n').count(), 1);
            prop_assert!(serde_json::from_str::<Value>(&line).is_ok());
        }
    }
}
