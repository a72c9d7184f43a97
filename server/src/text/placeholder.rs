//! Placeholders: what stands for each in a greeting, and how it is known again in a datagram.
//!
//! Beside the flow: greeting templates are made of them and of fixed text. It promises that none stands for more bytes
//! than it says, and no allocation while rendering into a buffer that has grown.

use std::io::Write;
use std::net::SocketAddr;

use crate::text::address::plain;
use crate::text::bound_address::{SITE_BYTES_MAX, Site};
use crate::text::protocol::Protocol;

/// The longest address, in bytes: [IPv6 address % zone]:port
const ADDRESS_BYTES_MAX: usize = 1 + 39 + 1 + 10 + 2 + 5;

/// One of those that templates know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Peer,
    Local,
    Protocol,
    Number,
    Hostname,
}

/// What the placeholders stand for in one greeting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) local: Option<&'a Site>,
    pub(crate) protocol: Protocol,
    pub(crate) number: u64,
    /// One that [`is_host_name`] accepts, where the template asks for it.
    pub(crate) hostname: &'a str,
}

impl Field {
    /// The placeholder of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "peer" => Self::Peer,
            "local" => Self::Local,
            "protocol" => Self::Protocol,
            "number" => Self::Number,
            "hostname" => Self::Hostname,
            _ => return None,
        })
    }

    /// The longest text it can stand for, in bytes.
    pub(crate) const fn bytes_max(self) -> usize {
        match self {
            Self::Peer => ADDRESS_BYTES_MAX,
            Self::Local => SITE_BYTES_MAX,
            Self::Protocol => 4,
            // u64::MAX
            Self::Number => 20,
            Self::Hostname => HOST_NAME_BYTES_MAX,
        }
    }

    /// Appends what it stands for.
    pub(crate) fn render(self, facts: Facts<'_>, into: &mut Vec<u8>) {
        debug_assert!(self != Self::Hostname || is_host_name(facts.hostname), "such a greeting is not known again");
        // Writing into a vector cannot fail.
        let _ = match self {
            Self::Peer => match facts.peer {
                Some(address) => write!(into, "{}", plain(address)),
                // A client without an address is one of a unix socket.
                None => write!(into, "{}", Protocol::Unix),
            },
            Self::Local => match facts.local {
                Some(site) => write!(into, "{site}"),
                None => write!(into, "-"),
            },
            Self::Protocol => write!(into, "{}", facts.protocol),
            Self::Number => write!(into, "{}", facts.number),
            Self::Hostname => write!(into, "{}", facts.hostname),
        };
    }

    /// Adds every place where it can end that begins at `start`, over UDP: there are addresses and no paths.
    pub(crate) fn follow(self, rest: &[u8], start: usize, ends: &mut Vec<usize>) {
        match self {
            Self::Peer | Self::Local => follow_address(rest, start, ends),
            Self::Protocol if rest.starts_with(b"tcp") || rest.starts_with(b"udp") => ends.push(start + 3),
            Self::Protocol => {}
            Self::Number => follow_run(self.bytes_max(), rest, start, ends, |byte| byte.is_ascii_digit()),
            Self::Hostname => follow_run(self.bytes_max(), rest, start, ends, is_host_name_byte),
        }
    }
}

/// A run can end behind each of its bytes. Starts come in order, and what an earlier one has reached is not looked at
/// again: all of them together take one look at each byte, and one more each where the run stops.
fn follow_run(bytes_max: usize, rest: &[u8], start: usize, ends: &mut Vec<usize>, belongs: fn(u8) -> bool) {
    let known = ends.last().map_or(0, |last| last.saturating_sub(start));
    let fresh = rest.iter().take(bytes_max).skip(known).take_while(|&&byte| belongs(byte)).count();
    ends.extend((1..=fresh).map(|length| start + known + length));
}

/// An address ends behind one to five digits of its port: the only choice there is.
fn follow_address(rest: &[u8], start: usize, ends: &mut Vec<usize>) {
    let rest = &rest[..rest.len().min(ADDRESS_BYTES_MAX)];
    let colon = if rest.first() == Some(&b'[') {
        rest.windows(2).position(|pair| pair == b"]:").map(|at| at + 1)
    } else {
        rest.iter().position(|&byte| byte == b':')
    };
    let Some(port) = colon.map(|at| at + 1) else { return };
    let digits = rest[port..].iter().take(5).take_while(|byte| byte.is_ascii_digit()).count();
    for end in (1..=digits).map(|length| port + length) {
        let text = std::str::from_utf8(&rest[..end]);
        if text.is_ok_and(|text| text.parse::<SocketAddr>().is_ok()) {
            ends.push(start + end);
        }
    }
}

/// The longest name of a host, in bytes (POSIX).
pub(crate) const HOST_NAME_BYTES_MAX: usize = 255;

/// The name of this machine.
pub(crate) fn hostname() -> String {
    let told =
        std::fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| std::fs::read_to_string("/etc/hostname"));
    usable_name(&told.unwrap_or_default()).to_owned()
}

/// The name as told; what a machine takes itself for if it tells none, or one that no greeting is known again by.
fn usable_name(told: &str) -> &str {
    Some(told.trim()).filter(|name| is_host_name(name)).unwrap_or("localhost")
}

/// Whether a greeting with this name of a host is known again.
pub(crate) fn is_host_name(name: &str) -> bool {
    (1..=HOST_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_host_name_byte)
}

pub(crate) fn is_host_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')
}

#[cfg(test)]
mod tests {
    use super::{Facts, Field, SITE_BYTES_MAX, follow_run};
    use super::{hostname, usable_name};
    use crate::text::bound_address::Site;
    use crate::text::placeholder::is_host_name_byte;
    use crate::text::protocol::Protocol;
    use proptest::prelude::*;
    use std::path::Path;

    #[test]
    fn a_client_of_a_unix_socket_is_called_unix_and_its_path_stands_for_the_address_asked() {
        let rendered = |field: Field, path: &str| {
            let (site, mut into) = (Site::path(Path::new(path)), Vec::new());
            field.render(
                Facts { peer: None, local: Some(&site), protocol: Protocol::Unix, number: 7, hostname: "a" },
                &mut into,
            );
            String::from_utf8(into).unwrap()
        };
        assert_eq!(rendered(Field::Peer, "/a"), "unix");
        assert_eq!(rendered(Field::Protocol, "/a").len(), Field::Protocol.bytes_max());
        assert_eq!(rendered(Field::Local, "/run/halloo.sock"), "/run/halloo.sock");
        assert_eq!(rendered(Field::Local, "/run/\n"), r"/run/\n");
        assert!(rendered(Field::Local, &"\n".repeat(200)).len() <= SITE_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn runs_from_many_starts_give_each_end_once_and_in_order(
            text in "[a.!]{40}", bytes_max in 1..20_usize, starts in prop::collection::btree_set(0..=40_usize, 0..20),
        ) {
            let mut ends = Vec::new();
            for &start in &starts {
                follow_run(bytes_max, &text.as_bytes()[start..], start, &mut ends, is_host_name_byte);
            }
            let reaches = |start, end| start < end && end - start <= bytes_max && !text[start..end].contains('!');
            let model = (1..=40).filter(|&end| starts.iter().any(|&start| reaches(start, end)));
            prop_assert_eq!(ends, model.collect::<Vec<_>>());
        }
    }

    #[test]
    fn this_machine_has_a_name() {
        assert!(!hostname().is_empty() && !hostname().contains('\n'));
    }

    #[test]
    fn a_name_that_no_greeting_is_known_again_by_is_not_used() {
        let longest = "a".repeat(255);
        for name in ["box-1.example.org", "my_box", &longest] {
            assert_eq!(usable_name(&format!("{name}\n")), name);
        }
        for name in ["", "\n", "(none)", "my box", "kästchen", "a\nb", "a:1", &format!("{longest}a")] {
            assert_eq!(usable_name(name), "localhost", "{name:?}");
        }
    }
}
