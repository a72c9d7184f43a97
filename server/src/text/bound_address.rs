//! The addresses of clients and of bound sockets, and their printed forms.
//!
//! Each form of a path is one line: percent-encoded or JSON for programs, escaped for display.

use std::fmt::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net;
use std::path::Path;
use std::sync::Arc;

use crate::text::escape;
use crate::text::protocol::Protocol;

/// The longest displayed address, in bytes: that of a unix socket, a prefix and a name.
pub(crate) const BOUND_ADDRESS_BYTES_MAX: usize = 2 + escape::PATH_BYTES_MAX;

/// The addresses of a client and of the socket that it reached.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    pub(crate) protocol: Protocol,
    /// `None` for a client of a unix socket.
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) local: Option<BoundAddress>,
}

/// A socket of the server, and its address.
pub(crate) type BoundSocket = (Protocol, BoundAddress);

/// An address that a socket is bound to; a clone allocates nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BoundAddress {
    Internet(SocketAddr),
    Unix { percent_encoded: Arc<str>, json: Arc<str>, display: Arc<str> },
}

impl BoundAddress {
    /// A unix socket, by its path, or by a NUL byte and its abstract name.
    pub(crate) fn from_path(path: &Path) -> Self {
        match path.as_os_str().as_bytes() {
            [0, name @ ..] => Self::from_name("@", name),
            // Without the prefix it would look like an abstract name.
            bytes @ [b'@', ..] => Self::from_name("./", bytes),
            bytes => Self::from_name("", bytes),
        }
    }

    /// The address of a bound unix socket: its path, or `@` and its abstract name.
    pub(crate) fn from_unix(address: &net::SocketAddr) -> Self {
        match (address.as_pathname(), abstract_name(address)) {
            (Some(path), _) => Self::from_path(path),
            (None, Some(name)) => Self::from_name("@", name),
            (None, None) => Self::from_name("-", b""),
        }
    }

    fn from_name(prefix: &str, name: &[u8]) -> Self {
        let (mut percent_encoded, display) = (prefix.to_owned(), format!("{prefix}{}", escape::path(name)));
        for byte in name {
            // The unreserved characters of RFC 3986, and the slash, stay.
            if byte.is_ascii_alphanumeric() || b"/-._~".contains(byte) {
                percent_encoded.push(char::from(*byte));
            } else {
                // Writing into a string cannot fail.
                let _ = write!(percent_encoded, "%{byte:02X}");
            }
        }
        let json = escape::json(&[prefix.as_bytes(), name].concat());
        Self::Unix { percent_encoded: percent_encoded.into(), json: json.into(), display: display.into() }
    }

    /// The form in JSON lines: a JSON string of the address or of the path itself.
    pub(crate) fn json(&self) -> String {
        match self {
            Self::Internet(_) => format!("\"{self}\""),
            Self::Unix { json, .. } => json.to_string(),
        }
    }

    /// The form in the READY line: an unchanged address, or a percent-encoded path.
    pub(crate) fn percent_encoded(&self) -> String {
        match self {
            Self::Internet(address) => address.to_string(),
            Self::Unix { percent_encoded, .. } => percent_encoded.to_string(),
        }
    }

    /// The socket address, unless it is a unix socket.
    pub(crate) fn socket_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Internet(address) => Some(*address),
            Self::Unix { .. } => None,
        }
    }
}

impl From<SocketAddr> for BoundAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Internet(address)
    }
}

/// The form in log lines, event lines and greetings.
impl fmt::Display for BoundAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Internet(address) => match address.ip().to_canonical() {
                IpAddr::V4(ip) => SocketAddr::from((ip, address.port())).fmt(formatter),
                IpAddr::V6(_) => address.fmt(formatter),
            },
            Self::Unix { display, .. } => formatter.write_str(display),
        }
    }
}

#[cfg(target_os = "linux")]
fn abstract_name(address: &net::SocketAddr) -> Option<&[u8]> {
    std::os::linux::net::SocketAddrExt::as_abstract_name(address)
}

#[cfg(not(target_os = "linux"))]
fn abstract_name(_address: &net::SocketAddr) -> Option<&[u8]> {
    None
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    use proptest::prelude::*;

    use super::BoundAddress;
    use crate::text::unescape::Unescaped;

    fn unix_address(path: &[u8]) -> BoundAddress {
        BoundAddress::from_path(Path::new(OsStr::from_bytes(path)))
    }

    /// The bytes that a program would decode.
    fn percent_decode(text: &str) -> Vec<u8> {
        let mut pieces = text.split('%');
        let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
        for piece in pieces {
            bytes.push(u8::from_str_radix(&piece[..2], 16).unwrap());
            bytes.extend_from_slice(&piece.as_bytes()[2..]);
        }
        bytes
    }

    #[test]
    fn a_plain_path_is_unchanged_and_other_paths_are_encoded_on_one_line() {
        for (path, percent_encoded, display) in [
            (&b"/run/halloo.sock"[..], "/run/halloo.sock", "/run/halloo.sock"),
            (b"/run/my sock", "/run/my%20sock", "/run/my sock"),
            (b"/run/50%", "/run/50%25", "/run/50%"),
            (b"/\x1b[31m\n", "/%1B%5B31m%0A", r"/\x1b[31m\n"),
            (b"@a", "./%40a", "./@a"),
            (b"/run/@a", "/run/%40a", "/run/@a"),
            (b"\0a b", "@a%20b", "@a b"),
            (b"\0@a", "@%40a", "@@a"),
            ("/t\u{fc}r\u{202e}".as_bytes(), "/t%C3%BCr%E2%80%AE", "/t\u{fc}r\\u{202e}"),
        ] {
            assert_eq!(
                (unix_address(path).percent_encoded().as_str(), unix_address(path).to_string().as_str()),
                (percent_encoded, display)
            );
            let json: String = serde_json::from_str(&unix_address(path).json()).unwrap();
            assert_eq!(json.as_bytes(), percent_decode(percent_encoded));
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn an_abstract_name_is_printed_after_an_at_sign() {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::net;
        let socket_addr = net::SocketAddr::from_abstract_name("halloo 1").unwrap();
        let address = BoundAddress::from_unix(&socket_addr);
        assert_eq!((address.percent_encoded().as_str(), address.to_string().as_str()), ("@halloo%201", "@halloo 1"));
    }

    #[test]
    fn an_ipv4_mapped_address_is_displayed_as_ipv4() {
        let address = BoundAddress::from("[::ffff:127.0.0.2]:5".parse::<std::net::SocketAddr>().unwrap());
        assert_eq!(
            (address.percent_encoded().as_str(), address.to_string().as_str()),
            ("[::ffff:127.0.0.2]:5", "127.0.0.2:5")
        );
    }

    proptest! {
        #[test]
        fn any_path_is_displayed_whole_and_can_be_parsed_back(path in prop::collection::vec(1..=255_u8, 1..108)) {
            let address = unix_address(&path);
            let encoded = address.percent_encoded();
            prop_assert!(encoded.bytes().all(|byte| byte.is_ascii_graphic()));
            let shown = if path.starts_with(b"@") { [b"./", path.as_slice()].concat() } else { path };
            prop_assert_eq!(percent_decode(&encoded), shown.as_slice());
            prop_assert_eq!(address.to_string().parse(), Ok(Unescaped(shown)));
            prop_assert!(!address.to_string().chars().any(char::is_control) && address.to_string().len() <= super::BOUND_ADDRESS_BYTES_MAX);
        }
    }
}
