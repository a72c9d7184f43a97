//! The placeholders of greeting templates: how they render and match.
//!
//! A placeholder renders at most its `bytes_max`. The values of addresses and numbers are not allocated.

use std::io::Write;
use std::net::SocketAddr;
use std::time::SystemTime;

use clap::ValueEnum;

use crate::text::bound_address::{Addresses, BOUND_ADDRESS_BYTES_MAX};
use crate::text::escape::whole_characters;
use crate::text::greeting_event::format_timestamp;
use crate::text::protocol::Protocol;
use crate::text::template::client_json::{self, JSON_BYTES_MAX};

/// The longest address, in bytes: [IPv6 address % zone]:port
const ADDRESS_BYTES_MAX: usize = 1 + 39 + 1 + 10 + 2 + 5;

/// The longest IP address, in bytes: eight groups of four digits.
const IP_BYTES_MAX: usize = 8 * 4 + 7;

/// The digits of the highest port.
const PORT_BYTES_MAX: usize = 5;

/// The most that a greeting repeats of what the client has sent, in bytes.
pub(crate) const RECEIVED_BYTES_MAX: usize = 1024;

/// The form of a time, in which 0 is any digit.
const TIME_FORM: &[u8] = b"0000-00-00T00:00:00.000Z";

/// A placeholder of greeting templates, with its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Placeholder {
    Peer,
    #[value(name = "peer_ip")]
    PeerIp,
    #[value(name = "peer_port")]
    PeerPort,
    Local,
    Protocol,
    Number,
    Time,
    Hostname,
    /// What the client has sent. Over UDP it makes a greeting shorter than the datagram that it answers.
    Received,
    /// All that the server knows of the client.
    Json,
}

/// The values of the placeholders in one greeting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlaceholderValues<'a> {
    pub(crate) addresses: &'a Addresses,
    pub(crate) number: u64,
    /// A name that [`is_hostname`] accepts, if the template contains the placeholder.
    pub(crate) hostname: &'a str,
    pub(crate) mode: &'a str,
    pub(crate) time: SystemTime,
    /// The sender of the PROXY header that contained the client's address.
    pub(crate) proxy: Option<SocketAddr>,
    pub(crate) received: &'a [u8],
}

#[cfg(test)]
impl<'a> PlaceholderValues<'a> {
    /// Values of one client without input.
    pub(crate) fn for_test(addresses: &'a Addresses) -> Self {
        let hostname = "box-1.example.org";
        Self { addresses, number: 7, hostname, mode: "greet", time: SystemTime::UNIX_EPOCH, proxy: None, received: b"" }
    }
}

impl Placeholder {
    /// The length of the longest value, in bytes.
    pub(crate) const fn bytes_max(self) -> usize {
        match self {
            Self::Peer => ADDRESS_BYTES_MAX,
            Self::PeerIp => IP_BYTES_MAX,
            Self::PeerPort => PORT_BYTES_MAX,
            Self::Time => TIME_FORM.len(),
            Self::Received => RECEIVED_BYTES_MAX,
            Self::Json => JSON_BYTES_MAX,
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
            Self::PeerIp => match values.addresses.peer {
                Some(peer) => write!(buffer, "{}", peer.ip().to_canonical()),
                None => write!(buffer, "{}", Protocol::Unix),
            },
            Self::PeerPort => match values.addresses.peer {
                Some(peer) => write!(buffer, "{}", peer.port()),
                None => write!(buffer, "-"),
            },
            Self::Time => write!(buffer, "{}", format_timestamp(values.time)),
            Self::Received => buffer.write_all(whole_characters(values.received, RECEIVED_BYTES_MAX)),
            Self::Json => client_json::write(values, buffer),
            Self::Local => match &values.addresses.local {
                Some(local) => write!(buffer, "{local}"),
                None => write!(buffer, "-"),
            },
            Self::Protocol => write!(buffer, "{}", values.addresses.protocol),
            Self::Number => write!(buffer, "{}", values.number),
            Self::Hostname => write!(buffer, "{}", values.hostname),
        };
    }

    /// Whether a value in a datagram can begin with all these bytes. Any beginning of a value is found; other text of the
    /// same characters is, too.
    pub(crate) fn can_begin_with(self, bytes: &[u8]) -> bool {
        let is_address_byte = |byte: &u8| byte.is_ascii_hexdigit() || b".:[]%".contains(byte);
        bytes.len() <= self.bytes_max()
            && match self {
                Self::Peer | Self::Local | Self::PeerIp => bytes.iter().all(is_address_byte),
                Self::PeerPort | Self::Number => bytes.iter().all(u8::is_ascii_digit),
                Self::Time => bytes.iter().zip(TIME_FORM).all(is_of_form),
                Self::Json => client_json::can_begin_in_datagram(bytes),
                Self::Protocol => b"tcp".starts_with(bytes) || b"udp".starts_with(bytes),
                Self::Hostname => bytes.iter().all(|byte| is_hostname_byte(*byte)),
                Self::Received => false,
            }
    }

    /// Adds every position where the placeholder can end if it begins at `start`. Only datagrams are matched: their
    /// greetings contain addresses and no paths.
    pub(crate) fn push_match_ends(self, rest: &[u8], start: usize, ends: &mut Vec<usize>) {
        match self {
            Self::Peer | Self::Local => push_address_ends(rest, start, ends),
            Self::PeerIp => push_ip_ends(rest, start, ends),
            Self::PeerPort => push_run_ends(PORT_BYTES_MAX, rest, start, ends, |byte| byte.is_ascii_digit()),
            Self::Time => ends.extend(is_time(rest).then_some(start + TIME_FORM.len())),
            Self::Json => ends.extend(client_json::end_in_datagram(rest).map(|end| start + end)),
            Self::Protocol if rest.starts_with(b"tcp") || rest.starts_with(b"udp") => ends.push(start + 3),
            // Any text could be what a client has sent: it is never matched.
            Self::Received | Self::Protocol => {}
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

/// Adds every position where an address can end: after one to five digits of its port. The address is parsed once.
fn push_address_ends(rest: &[u8], start: usize, ends: &mut Vec<usize>) {
    let rest = &rest[..rest.len().min(ADDRESS_BYTES_MAX)];
    let colon = match rest.first() {
        Some(b'[') => rest.windows(2).position(|pair| pair == b"]:").map(|bracket| bracket + 1),
        Some(b'0'..=b'9') => rest.iter().position(|&byte| byte == b':'),
        _ => None,
    };
    let Some(port_start) = colon.map(|colon| colon + 1) else { return };
    let digits = rest[port_start..].iter().take(PORT_BYTES_MAX).take_while(|byte| byte.is_ascii_digit()).count();
    // With the first digit of its port it is a whole address.
    let shortest = rest.get(..=port_start).map(std::str::from_utf8);
    if digits == 0 || !matches!(shortest, Some(Ok(text)) if text.parse::<SocketAddr>().is_ok()) {
        return;
    }
    let mut port = 0;
    for (index, digit) in rest[port_start..port_start + digits].iter().enumerate() {
        port = port * 10 + u32::from(digit - b'0');
        if u16::try_from(port).is_ok() {
            ends.push(start + port_start + index + 1);
        }
    }
}

/// Whether the bytes begin with a time.
fn is_time(bytes: &[u8]) -> bool {
    bytes.len() >= TIME_FORM.len() && bytes.iter().zip(TIME_FORM).all(is_of_form)
}

/// Whether a byte has its place in the form of a time.
fn is_of_form((byte, form): (&u8, &u8)) -> bool {
    byte == form || *form == b'0' && byte.is_ascii_digit()
}

/// Adds every position where an IP address can end. It takes one pass: the bytes of a run are hexadecimal digits, and
/// either dots or colons. An IPv4 address has three dots; in an IPv6 address at least two colons are found.
fn push_ip_ends(rest: &[u8], start: usize, ends: &mut Vec<usize>) {
    let (mut dots, mut colons, mut digits) = (0, 0, 0);
    for (index, byte) in rest.iter().take(IP_BYTES_MAX).enumerate() {
        match byte {
            b'.' if colons == 0 && digits > 0 => (dots, digits) = (dots + 1, 0),
            b':' if dots == 0 => (colons, digits) = (colons + 1, 0),
            byte if byte.is_ascii_hexdigit() => digits += 1,
            _ => return,
        }
        // Three digits between dots, four between colons.
        if digits > if dots > 0 { 3 } else { 4 } || dots > 3 || colons > 7 {
            return;
        }
        if dots == 3 && digits > 0 || colons >= 2 {
            ends.push(start + index + 1);
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
    use super::{Addresses, BOUND_ADDRESS_BYTES_MAX, Placeholder, PlaceholderValues, push_ip_ends, push_run_ends};
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
            placeholder.render(PlaceholderValues::for_test(&addresses), &mut buffer);
            String::from_utf8(buffer).unwrap()
        };
        assert_eq!(render(Placeholder::Peer, "/a"), "unix");
        assert_eq!(
            (render(Placeholder::PeerIp, "/a"), render(Placeholder::PeerPort, "/a")),
            ("unix".into(), "-".into())
        );
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

    proptest! {
        #[test]
        fn an_ip_address_is_found_before_any_text(ip in any::<std::net::IpAddr>(), after in "[0-9a-f:.x]{0,4}") {
            let ip = ip.to_canonical().to_string();
            let mut ends = Vec::new();
            push_ip_ends(format!("{ip}{after}").as_bytes(), 3, &mut ends);
            prop_assert!(ends.contains(&(3 + ip.len())), "{ends:?}");
            prop_assert!(ends.is_sorted());
        }
    }

    #[test]
    fn a_word_or_a_number_is_no_ip_address() {
        for text in ["face", "12", "1.2.3", "1.2.3.", "dead.beef", "a:b", "1234567", "", ".1.2.3", "12345::"] {
            let mut ends = Vec::new();
            push_ip_ends(text.as_bytes(), 0, &mut ends);
            assert_eq!(ends, [0; 0], "{text}");
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
