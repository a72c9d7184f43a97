//! Where a socket is served: an address of the internet, or a unix socket's path, and how each is written.
//!
//! Beside the flow: the first line, event lines, greetings and sentences about failures name sites. It promises that a
//! path, which may hold anything, is written on one line in either way: percent-escaped for programs, or as untrusted
//! text for people. It never looks at the file system.

use std::fmt::{self, Write};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net;
use std::path::Path;
use std::sync::Arc;

use crate::text::address::plain;
use crate::text::escape;

/// The longest that a site is to people, in bytes: the sign and the name of a unix socket, which is longer than any address.
pub(crate) const SITE_BYTES_MAX: usize = 1 + escape::PATH_BYTES_MAX;

/// One of them; a copy costs no memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Site {
    Internet(SocketAddr),
    Unix(Arc<Name>),
}

/// What a unix socket is called, written once for all who read it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Name {
    for_programs: String,
    for_people: String,
}

impl Site {
    /// A unix socket in the file system.
    pub(crate) fn path(path: &Path) -> Self {
        Self::named("", path.as_os_str().as_bytes())
    }

    /// Of a unix socket that is bound already: its path, or `@` and its name outside the file system.
    pub(crate) fn of_unix(address: &net::SocketAddr) -> Self {
        match (address.as_pathname(), abstract_name(address)) {
            (Some(path), _) => Self::path(path),
            (None, Some(name)) => Self::named("@", name),
            (None, None) => Self::named("-", b""),
        }
    }

    fn named(sign: &str, name: &[u8]) -> Self {
        let (mut for_programs, for_people) = (sign.to_owned(), format!("{sign}{}", escape::path(name)));
        for byte in name {
            // What stays is what RFC 3986 calls unreserved, and the slash.
            if byte.is_ascii_alphanumeric() || b"/-._~".contains(byte) {
                for_programs.push(char::from(*byte));
            } else {
                // Writing into a string cannot fail.
                let _ = write!(for_programs, "%{byte:02X}");
            }
        }
        Self::Unix(Arc::new(Name { for_programs, for_people }))
    }

    /// As the first line has it: an address as it is, a path percent-escaped.
    pub(crate) fn for_programs(&self) -> String {
        match self {
            Self::Internet(address) => address.to_string(),
            Self::Unix(name) => name.for_programs.clone(),
        }
    }

    /// The address, if it is one.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Internet(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl Name {
    pub(crate) fn for_people(&self) -> &str {
        &self.for_people
    }
}

impl From<SocketAddr> for Site {
    fn from(address: SocketAddr) -> Self {
        Self::Internet(address)
    }
}

/// As people read it.
impl fmt::Display for Site {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Internet(address) => plain(*address).fmt(formatter),
            Self::Unix(name) => formatter.write_str(&name.for_people),
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

    use super::Site;

    fn site(path: &[u8]) -> Site {
        Site::path(Path::new(OsStr::from_bytes(path)))
    }

    /// What a program makes of it.
    fn decoded(text: &str) -> Vec<u8> {
        let mut pieces = text.split('%');
        let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
        for piece in pieces {
            bytes.push(u8::from_str_radix(&piece[..2], 16).unwrap());
            bytes.extend_from_slice(&piece.as_bytes()[2..]);
        }
        bytes
    }

    #[test]
    fn a_plain_path_is_written_as_it_is_and_another_in_both_ways_on_one_line() {
        for (path, for_programs, for_people) in [
            (&b"/run/halloo.sock"[..], "/run/halloo.sock", "/run/halloo.sock"),
            (b"/run/my sock", "/run/my%20sock", "/run/my sock"),
            (b"/run/50%", "/run/50%25", "/run/50%"),
            (b"/\x1b[31m\n", "/%1B%5B31m%0A", r"/\x1b[31m\n"),
            (b"@a", "%40a", "@a"),
            ("/t\u{fc}r\u{202e}".as_bytes(), "/t%C3%BCr%E2%80%AE", "/t\u{fc}r\\u{202e}"),
        ] {
            assert_eq!(
                (site(path).for_programs().as_str(), site(path).to_string().as_str()),
                (for_programs, for_people)
            );
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_name_outside_the_file_system_has_a_sign_before_it() {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::net;
        let address = net::SocketAddr::from_abstract_name("halloo 1").unwrap();
        let site = Site::of_unix(&address);
        assert_eq!((site.for_programs().as_str(), site.to_string().as_str()), ("@halloo%201", "@halloo 1"));
    }

    #[test]
    fn an_ipv4_address_of_a_dual_stack_socket_is_shown_to_people_as_ipv4() {
        let site = Site::from("[::ffff:127.0.0.2]:5".parse::<std::net::SocketAddr>().unwrap());
        assert_eq!((site.for_programs().as_str(), site.to_string().as_str()), ("[::ffff:127.0.0.2]:5", "127.0.0.2:5"));
    }

    proptest! {
        #[test]
        fn any_path_is_read_again_by_programs_and_shown_whole(path in prop::collection::vec(1..=255_u8, 1..108)) {
            let site = site(&path);
            let word = site.for_programs();
            prop_assert!(word.bytes().all(|byte| byte.is_ascii_graphic()));
            prop_assert_eq!(decoded(&word), path);
            prop_assert!(!site.to_string().chars().any(char::is_control) && site.to_string().len() <= super::SITE_BYTES_MAX);
        }
    }
}
