//! Greeting templates: rendering, its bound, and matching.
//!
//! A template matches its own greetings, and no greeting with a foreign byte in it.

#![no_main]

use std::net::SocketAddr;
use std::time::SystemTime;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

use crate::text::bound_address::{Addresses, BOUND_ADDRESS_BYTES_MAX, BoundAddress};
use crate::text::protocol::Protocol;
use crate::text::template::placeholder::{Placeholder, PlaceholderValues};
use crate::text::template::{GREETING_BYTES_MAX, Template};

#[expect(dead_code, reason = "only what is tried here is called")]
#[path = "../../server/src/text/mod.rs"]
mod text;

/// The characters of a host name, and its greatest length (POSIX).
const HOSTNAME_BYTES: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._";
const HOSTNAME_BYTES_MAX: usize = 255;

/// The most placeholders of a template.
const PLACEHOLDERS_MAX: usize = 32;

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    is_udp: bool,
    peer: SocketAddr,
    local: SocketAddr,
    number: u64,
    hostname: &'a [u8],
    pieces: Vec<Piece<'a>>,
    text: &'a str,
    datagram: &'a [u8],
}

#[derive(Clone, Copy, PartialEq, Debug, Arbitrary)]
enum Piece<'a> {
    Literal(&'a str),
    Peer,
    PeerIp,
    PeerPort,
    Time,
    Local,
    Protocol,
    Number,
    Hostname,
}

impl Piece<'_> {
    /// The source in a template, the value in a greeting, and the greatest length of a value in bytes.
    fn source_value_and_bytes_max(self, values: PlaceholderValues<'_>) -> (String, String, usize) {
        let Addresses { protocol, peer, local } = values.addresses;
        let placeholder = |name: &str, value: String, bytes_max| (format!("{{{name}}}"), value, bytes_max);
        match self {
            Self::Literal(text) => (text.replace('{', "{{").replace('}', "}}"), text.to_owned(), text.len()),
            Self::Peer => placeholder("peer", peer.map(|peer| peer.to_string()).unwrap_or_default(), 58),
            Self::PeerIp => {
                placeholder("peer_ip", peer.map(|peer| peer.ip().to_canonical().to_string()).unwrap_or_default(), 39)
            }
            Self::PeerPort => placeholder("peer_port", peer.map(|peer| peer.port().to_string()).unwrap_or_default(), 5),
            Self::Time => placeholder("time", "1970-01-01T00:00:00.000Z".to_owned(), 24),
            Self::Local => placeholder(
                "local",
                local.as_ref().map(BoundAddress::to_string).unwrap_or_default(),
                BOUND_ADDRESS_BYTES_MAX,
            ),
            Self::Protocol => placeholder("protocol", protocol.to_string(), "unix".len()),
            Self::Number => placeholder("number", values.number.to_string(), 20),
            Self::Hostname => placeholder("hostname", values.hostname.to_owned(), HOSTNAME_BYTES_MAX),
        }
    }
}

fuzz_target!(|input: Input<'_>| {
    let hostname_char = |byte: &u8| char::from(HOSTNAME_BYTES[usize::from(*byte) % HOSTNAME_BYTES.len()]);
    let hostname: String = [0].iter().chain(input.hostname).take(HOSTNAME_BYTES_MAX).map(hostname_char).collect();
    let protocol = if input.is_udp { Protocol::Udp } else { Protocol::Tcp };
    let addresses = Addresses { protocol, peer: Some(input.peer), local: Some(BoundAddress::from(input.local)) };
    let values = PlaceholderValues {
        addresses: &addresses,
        number: input.number,
        hostname: &hostname,
        mode: "greet",
        time: SystemTime::UNIX_EPOCH,
        proxy: None,
        received: input.datagram,
    };

    let (mut text, mut greeting, mut bytes_max) = (String::new(), String::new(), 0);
    for piece in &input.pieces {
        let (source, value, value_bytes_max) = piece.source_value_and_bytes_max(values);
        text += &source;
        greeting += &value;
        bytes_max += value_bytes_max;
    }
    let template = text.parse::<Template>();
    let placeholders = input.pieces.iter().filter(|piece| !matches!(piece, Piece::Literal(_))).count();
    let is_valid = (1..=GREETING_BYTES_MAX).contains(&bytes_max) && placeholders <= PLACEHOLDERS_MAX;
    assert_eq!(template.is_ok(), is_valid, "{text:?}: {template:?}");
    if let Ok(template) = template {
        assert_matches_own_greeting(&template, &input, values, &greeting);
    }
    if let Ok(template) = input.text.parse::<Template>() {
        let greeting = render(&template, values);
        assert!(greeting.len() <= GREETING_BYTES_MAX);
        template.matches(input.datagram);
    }
});

fn assert_matches_own_greeting(template: &Template, input: &Input<'_>, values: PlaceholderValues<'_>, greeting: &str) {
    assert_eq!(render(template, values), greeting.as_bytes());
    assert_eq!(template.contains(Placeholder::Hostname), input.pieces.contains(&Piece::Hostname));
    let is_literal = |piece: &&Piece<'_>| matches!(piece, Piece::Literal(text) if !text.is_empty());
    let literals = input.pieces.iter().filter(is_literal).count();
    assert_eq!(template.matches(greeting.as_bytes()), literals > 0, "{greeting:?}");
    // A byte that is in no UTF-8 text, at a position that the input chooses.
    let position = usize::try_from(values.number % (greeting.len() as u64 + 1)).expect("a place in it");
    let (head, tail) = greeting.as_bytes().split_at(position);
    assert!(!template.matches(&[head, b"\xff", tail].concat()), "{greeting:?} with a byte at {position}");
    if input.pieces.iter().all(|piece| matches!(piece, Piece::Literal(_))) {
        assert_eq!(*template, Template::literal(greeting));
        assert_eq!(template.matches(input.datagram), input.datagram == greeting.as_bytes());
    } else {
        template.matches(input.datagram);
    }
}

fn render(template: &Template, values: PlaceholderValues<'_>) -> Vec<u8> {
    let mut greeting = Vec::new();
    template.render(values, &mut greeting);
    greeting
}
