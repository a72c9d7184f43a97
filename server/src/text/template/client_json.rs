//! The placeholder `{json}`: all that the server knows of a client.
//!
//! It is one JSON object, and valid for all bytes that a client can send.

use std::io::{self, Write};

use crate::text::bound_address::BoundAddress;
use crate::text::escape::{self, whole_characters};
use crate::text::protocol::Protocol;
use crate::text::template::placeholder::PlaceholderValues;

/// The longest object, in bytes. The longest parts are the client's text and a path, of at most six bytes for each byte.
pub(crate) const JSON_BYTES_MAX: usize = 3 * 1024;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The beginning of each object.
const HEAD: &str = "{\"hostname\":\"";

/// Appends the object. Over UDP it leaves out the client's text, so that two servers do not grow it.
pub(crate) fn write(values: PlaceholderValues<'_>, buffer: &mut Vec<u8>) -> io::Result<()> {
    let PlaceholderValues { addresses, number, hostname, mode, time, proxy, received } = values;
    let (protocol, time) = (addresses.protocol, crate::text::greeting_event::format_timestamp(time));
    let quoted = |text: String| format!("\"{text}\"");
    let or_null = |text: Option<String>| text.unwrap_or_else(|| "null".to_owned());
    let peer = or_null(addresses.peer.map(|peer| quoted(peer.to_string())));
    let peer_ip = or_null(addresses.peer.map(|peer| quoted(peer.ip().to_canonical().to_string())));
    let peer_port = or_null(addresses.peer.map(|peer| peer.port().to_string()));
    let local = or_null(addresses.local.as_ref().map(BoundAddress::json));
    let proxy = or_null(proxy.map(|proxy| quoted(proxy.to_string())));
    write!(buffer, "{HEAD}{hostname}\",\"version\":\"{VERSION}\",\"mode\":\"{mode}\",\"protocol\":\"{protocol}\"")?;
    write!(buffer, ",\"number\":{number},\"time\":\"{time}\",\"peer\":{peer},\"peer_ip\":{peer_ip}")?;
    write!(buffer, ",\"peer_port\":{peer_port},\"local\":{local},\"proxy\":{proxy},\"bytes\":{}", received.len())?;
    if protocol != Protocol::Udp {
        let shown = whole_characters(received, escape::TEXT_BYTES_MAX);
        let is_truncated = shown.len() < received.len();
        write!(buffer, ",\"received\":{},\"truncated\":{is_truncated}", escape::json(shown))?;
    }
    buffer.write_all(b"}")
}

/// The end of an object that bytes begin with, as it is sent over UDP: then no string in it contains a brace.
pub(crate) fn end_in_datagram(bytes: &[u8]) -> Option<usize> {
    let inner = bytes.strip_prefix(HEAD.as_bytes())?;
    let inner = &inner[..inner.len().min(JSON_BYTES_MAX)];
    let position = inner.iter().position(|byte| !matches!(byte, b' '..=b'~') || matches!(byte, b'{' | b'}'))?;
    (inner[position] == b'}').then_some(HEAD.len() + position + 1)
}

/// Whether an object over UDP can begin with all these bytes, without its end.
pub(crate) fn can_begin_in_datagram(bytes: &[u8]) -> bool {
    match bytes.strip_prefix(HEAD.as_bytes()) {
        Some(inner) => inner.iter().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'{' | b'}')),
        None => HEAD.as_bytes().starts_with(bytes),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::{BoundAddress, JSON_BYTES_MAX, PlaceholderValues, Protocol, end_in_datagram, write};
    use crate::text::bound_address::Addresses;
    use crate::text::template::placeholder::HOSTNAME_BYTES_MAX;

    fn render(values: PlaceholderValues<'_>) -> String {
        let mut buffer = Vec::new();
        write(values, &mut buffer).unwrap();
        assert!(buffer.len() <= JSON_BYTES_MAX, "{}", buffer.len());
        String::from_utf8(buffer).unwrap()
    }

    fn addresses(protocol: Protocol) -> Addresses {
        let (peer, local) = ("192.0.2.7:4711".parse().ok(), "[::1]:8888".parse().ok().map(std::net::SocketAddr::into));
        Addresses { protocol, peer, local }
    }

    #[test]
    fn a_client_of_a_connection_is_described_with_its_text() {
        let addresses = addresses(Protocol::Tcp);
        let proxy = "10.0.0.1:9".parse().ok();
        let values = PlaceholderValues { proxy, received: b"hi\n", ..PlaceholderValues::for_test(&addresses) };
        assert_eq!(
            render(values),
            format!(
                "{{\"hostname\":\"box-1.example.org\",\"version\":\"{}\",\"mode\":\"greet\",\"protocol\":\"tcp\",\
                 \"number\":7,\"time\":\"1970-01-01T00:00:00.000Z\",\"peer\":\"192.0.2.7:4711\",\
                 \"peer_ip\":\"192.0.2.7\",\"peer_port\":4711,\"local\":\"[::1]:8888\",\"proxy\":\"10.0.0.1:9\",\
                 \"bytes\":3,\"received\":\"hi\\n\",\"truncated\":false}}",
                super::VERSION
            )
        );
    }

    #[test]
    fn over_udp_the_text_is_left_out_and_the_object_is_recognized() {
        let addresses = addresses(Protocol::Udp);
        let object = render(PlaceholderValues { received: b"{}", ..PlaceholderValues::for_test(&addresses) });
        let value: Value = serde_json::from_str(&object).unwrap();
        assert_eq!((&value["bytes"], value.get("received"), value.get("truncated")), (&2.into(), None, None));
        assert_eq!(end_in_datagram(format!("{object} and more").as_bytes()), Some(object.len()));
        for other in ["{\"hostname\":\"a", "{\"hostname\":\"a\n}", "{\"hostname\":\"{}", "{}", ""] {
            assert_eq!(end_in_datagram(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn the_longest_object_is_within_its_limit() {
        let local = Some(BoundAddress::from_path(Path::new(&"\u{1}".repeat(108))));
        let peer = "[1111:2222:3333:4444:5555:6666:7777:8888]:65535".parse().ok();
        let (received, hostname) = ([1; 9999], "a".repeat(HOSTNAME_BYTES_MAX));
        let addresses = Addresses { protocol: Protocol::Unix, peer, local };
        let of_test = PlaceholderValues::for_test(&addresses);
        render(PlaceholderValues {
            received: &received,
            hostname: &hostname,
            number: u64::MAX,
            proxy: peer,
            ..of_test
        });
    }

    proptest! {
        #[test]
        fn any_bytes_of_a_client_make_valid_json(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let addresses = addresses(Protocol::Tcp);
            let object = render(PlaceholderValues { received: &bytes, ..PlaceholderValues::for_test(&addresses) });
            let value: Value = serde_json::from_str(&object).unwrap();
            let (length, is_long) = (bytes.len(), bytes.len() > 256);
            prop_assert_eq!(&value["bytes"], &Value::from(length));
            prop_assert_eq!(&value["truncated"], &Value::from(is_long));
            let text = value["received"].as_str().unwrap();
            let whole = String::from_utf8_lossy(&bytes).into_owned();
            let shown = text.trim_end_matches(char::REPLACEMENT_CHARACTER);
            prop_assert!(whole.starts_with(shown), "{shown}");
        }
    }
}
