//! The placeholders of greeting templates: how they render and match.
//!
//! A placeholder renders at most its `bytes_max`. Rendering into a large enough buffer does not allocate.

use std::io::Write;
use std::net::SocketAddr;

use clap::ValueEnum;

use crate::text::bound_address::{Addresses, BOUND_ADDRESS_BYTES_MAX};
use crate::text::protocol::Protocol;

/// The longest address, in bytes: [IPv6 address % zone]:port
const ADDRESS_BYTES_MAX: usize = 1 + 39 + 1 + 10 + 2 + 5;

/// A placeholder of greeting templates; the names are those of the variants, in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Placeholder {
    Peer,
    Local,
    Protocol,
    Number,
    Hostname,
}

/// The values of the placeholders in one greeting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlaceholderValues<'a> {
    pub(crate) addresses: &'a Addresses,
    pub(crate) number: u64,
    /// A name that [`is_hostname`] accepts, if the template contains the placeholder.
    pub(crate) hostname: &'a str,
}

impl Placeholder {
    /// The length of the longest value, in bytes.
    pub(crate) const fn bytes_max(self) -> usize {
        match self {
            Self::Peer => ADDRESS_BYTES_MAX,
            Self::Local => BOUND_ADDRESS_BYTES_MAX,
            Self::Protocol => 4,
            // u64::MAX
            Self::Number => 20,
            Self::Hostname => HOSTNAME_BYTES_MAX,
        }
    }

    /// Appends the value.
    pub(crate) fn render(self, values: PlaceholderValues<'_>, buffer: &mut Vec<u8>) {
        debug_assert!(
            self != Self::Hostname || is_hostname(values.hostname),
            "a greeting with this host name cannot be matched"
        );
        // Writing into a vector cannot fail.
        let _ = match self {
            Self::Peer => match values.addresses.peer {
                Some(peer) => write!(buffer, "{peer}"),
                // Only a client of a unix socket has no address.
                None => write!(buffer, "{}", Protocol::Unix),
            },
            Self::Local => match &values.addresses.local {
                Some(local) => write!(buffer, "{local}"),
                None => write!(buffer, "-"),
            },
            Self::Protocol => write!(buffer, "{}", values.addresses.protocol),
            Self::Number => write!(buffer, "{}", values.number),
            Self::Hostname => write!(buffer, "{}", values.hostname),
        };
    }

    /// Adds every position where the placeholder can end if it begins at `start`. Only datagrams are matched: their
    /// greetings contain addresses and no paths.
    pub(crate) fn push_match_ends(self, rest: &[u8], start: usize, ends: &mut Vec<usize>) {
        match self {
            Self::Peer | Self::Local => push_address_ends(rest, start, ends),
            Self::Protocol if rest.starts_with(b"tcp") || rest.starts_with(b"udp") => ends.push(start + 3),
            Self::Protocol => {}
            Self::Number => push_run_ends(self.bytes_max(), rest, start, ends, |byte| byte.is_ascii_digit()),
            Self::Hostname => push_run_ends(self.bytes_max(), rest, start, ends, is_hostname_byte),
        }
    }
}

/// Adds the position after each byte of a run. The starts are in ascending order, and each call skips the bytes that
/// an earlier call has reached. All calls together check each byte once, and one more byte each where the run stops.
fn push_run_ends(bytes_max: usize, bytes: &[u8], start: usize, ends: &mut Vec<usize>, is_member: fn(u8) -> bool) {
    let scanned = ends.last().map_or(0, |last| last.saturating_sub(start));
    let added = bytes.iter().take(bytes_max).skip(scanned).take_while(|&&byte| is_member(byte)).count();
    ends.extend((1..=added).map(|length| start + scanned + length));
}

/// An address can end after one to five digits of its port; it has no other ambiguity.
fn push_address_ends(rest: &[u8], start: usize, ends: &mut Vec<usize>) {
    let rest = &rest[..rest.len().min(ADDRESS_BYTES_MAX)];
    let colon = if rest.first() == Some(&b'[') {
        rest.windows(2).position(|pair| pair == b"]:").map(|bracket| bracket + 1)
    } else {
        rest.iter().position(|&byte| byte == b':')
    };
    let Some(port_start) = colon.map(|colon| colon + 1) else { return };
    let digits = rest[port_start..].iter().take(5).take_while(|byte| byte.is_ascii_digit()).count();
    for end in (1..=digits).map(|length| port_start + length) {
        let text = std::str::from_utf8(&rest[..end]);
        if text.is_ok_and(|text| text.parse::<SocketAddr>().is_ok()) {
            ends.push(start + end);
        }
    }
}

/// The longest name of a host, in bytes (POSIX).
pub(crate) const HOSTNAME_BYTES_MAX: usize = 255;

/// The name of this machine, as gethostname(2) and `uname -n` return it.
pub(crate) fn read_hostname() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    hostname_or_localhost(&name.to_string_lossy()).to_owned()
}

/// The name, or `localhost` if it is not a valid host name: its greetings could not be matched.
fn hostname_or_localhost(name: &str) -> &str {
    Some(name).filter(|name| is_hostname(name)).unwrap_or("localhost")
}

/// Whether a greeting with this host name can be matched.
pub(crate) fn is_hostname(name: &str) -> bool {
    (1..=HOSTNAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_hostname_byte)
}

pub(crate) fn is_hostname_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')
}

#[cfg(test)]
mod tests {
    use super::{Addresses, BOUND_ADDRESS_BYTES_MAX, Placeholder, PlaceholderValues, push_run_ends};
    use super::{hostname_or_localhost, read_hostname};
    use crate::text::bound_address::BoundAddress;
    use crate::text::protocol::Protocol;
    use crate::text::template::placeholder::is_hostname_byte;
    use proptest::prelude::*;
    use std::path::Path;

    #[test]
    fn a_client_of_a_unix_socket_renders_as_unix_and_the_path() {
        let render = |placeholder: Placeholder, path: &str| {
            let local = Some(BoundAddress::from_path(Path::new(path)));
            let addresses = Addresses { protocol: Protocol::Unix, peer: None, local };
            let mut buffer = Vec::new();
            placeholder.render(PlaceholderValues { addresses: &addresses, number: 7, hostname: "a" }, &mut buffer);
            String::from_utf8(buffer).unwrap()
        };
        assert_eq!(render(Placeholder::Peer, "/a"), "unix");
        assert_eq!(render(Placeholder::Protocol, "/a").len(), Placeholder::Protocol.bytes_max());
        assert_eq!(render(Placeholder::Local, "/run/halloo.sock"), "/run/halloo.sock");
        assert_eq!(render(Placeholder::Local, "/run/\n"), r"/run/\n");
        assert!(render(Placeholder::Local, &"\n".repeat(200)).len() <= BOUND_ADDRESS_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn runs_from_many_starts_add_each_end_once_and_in_order(
            text in "[a.!]{40}", bytes_max in 1..20_usize, starts in prop::collection::btree_set(0..=40_usize, 0..20),
        ) {
            let mut ends = Vec::new();
            for &start in &starts {
                push_run_ends(bytes_max, &text.as_bytes()[start..], start, &mut ends, is_hostname_byte);
            }
            let is_run = |start, end| start < end && end - start <= bytes_max && !text[start..end].contains('!');
            let expected = (1..=40).filter(|&end| starts.iter().any(|&start| is_run(start, end)));
            prop_assert_eq!(ends, expected.collect::<Vec<_>>());
        }
    }

    #[test]
    fn this_machine_has_a_name() {
        assert!(!read_hostname().is_empty() && !read_hostname().contains('\n'));
    }

    #[test]
    fn an_invalid_host_name_is_replaced_by_localhost() {
        let longest = "a".repeat(255);
        for name in ["box-1.example.org", "my_box", &longest] {
            assert_eq!(hostname_or_localhost(name), name);
        }
        for name in ["", "\n", "(none)", "my box", "kästchen", "a\nb", "a:1", &format!("{longest}a")] {
            assert_eq!(hostname_or_localhost(name), "localhost", "{name:?}");
        }
    }
}
