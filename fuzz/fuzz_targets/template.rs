//! Greeting templates: each renders what its pieces say, within its bound, and knows its own greetings again.

#![no_main]

use std::net::SocketAddr;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

use crate::text::address::plain;
use crate::text::bound_address::{SITE_BYTES_MAX, Site};
use crate::text::placeholder::{Facts, Field};
use crate::text::protocol::Protocol;
use crate::text::template::{GREETING_BYTES_MAX, Template};

#[expect(dead_code, reason = "only what is tried here is called")]
#[path = "../../server/src/text/mod.rs"]
mod text;

/// Of what the name of a host is made, and how long it is at most (POSIX).
const HOST_NAME_BYTES: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._";
const HOST_NAME_BYTES_MAX: usize = 255;

#[derive(Debug, Arbitrary)]
struct Case<'a> {
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
    Fixed(&'a str),
    Peer,
    Local,
    Protocol,
    Number,
    Hostname,
}

impl Piece<'_> {
    /// As it stands in a template, as a greeting has it, and the longest that can be, in bytes.
    fn forms(self, facts: Facts<'_>) -> (String, String, usize) {
        let address = |address: Option<SocketAddr>| address.map(|address| plain(address).to_string());
        let field = |name: &str, value: String, bytes_max| (format!("{{{name}}}"), value, bytes_max);
        match self {
            Self::Fixed(text) => (text.replace('{', "{{").replace('}', "}}"), text.to_owned(), text.len()),
            Self::Peer => field("peer", address(facts.peer).unwrap_or_default(), 58),
            Self::Local => field("local", facts.local.map(Site::to_string).unwrap_or_default(), SITE_BYTES_MAX),
            Self::Protocol => field("protocol", facts.protocol.to_string(), "unix".len()),
            Self::Number => field("number", facts.number.to_string(), 20),
            Self::Hostname => field("hostname", facts.hostname.to_owned(), HOST_NAME_BYTES_MAX),
        }
    }
}

fuzz_target!(|case: Case<'_>| {
    let letter = |byte: &u8| char::from(HOST_NAME_BYTES[usize::from(*byte) % HOST_NAME_BYTES.len()]);
    let hostname: String = [0].iter().chain(case.hostname).take(HOST_NAME_BYTES_MAX).map(letter).collect();
    let protocol = if case.is_udp { Protocol::Udp } else { Protocol::Tcp };
    let (peer, local) = (Some(case.peer), Site::from(case.local));
    let facts = Facts { peer, local: Some(&local), protocol, number: case.number, hostname: &hostname };

    let (mut text, mut greeting, mut bytes_max) = (String::new(), String::new(), 0);
    for piece in &case.pieces {
        let (source, value, most) = piece.forms(facts);
        text += &source;
        greeting += &value;
        bytes_max += most;
    }
    let template = text.parse::<Template>();
    assert_eq!(template.is_ok(), (1..=GREETING_BYTES_MAX).contains(&bytes_max), "{text:?}: {template:?}");
    if let Ok(template) = template {
        assert_knows_its_own(&template, &case, facts, &greeting);
    }
    if let Ok(template) = case.text.parse::<Template>() {
        let greeting = rendered(&template, facts);
        assert!(greeting.len() <= GREETING_BYTES_MAX);
        template.matches(case.datagram);
    }
});

fn assert_knows_its_own(template: &Template, case: &Case<'_>, facts: Facts<'_>, greeting: &str) {
    assert_eq!(rendered(template, facts), greeting.as_bytes());
    assert_eq!(template.names(Field::Hostname), case.pieces.contains(&Piece::Hostname));
    let is_fixed = |piece: &&Piece<'_>| matches!(piece, Piece::Fixed(text) if !text.is_empty());
    let fixed = case.pieces.iter().filter(is_fixed).count();
    assert_eq!(template.matches(greeting.as_bytes()), fixed > 0, "{greeting:?}");
    // A byte that stands in no text, at a place that the case chooses.
    let at = usize::try_from(facts.number % (greeting.len() as u64 + 1)).expect("a place in it");
    let (head, tail) = greeting.as_bytes().split_at(at);
    assert!(!template.matches(&[head, b"\xff", tail].concat()), "{greeting:?} with a byte at {at}");
    if case.pieces.iter().all(|piece| matches!(piece, Piece::Fixed(_))) {
        assert_eq!(*template, Template::fixed(greeting));
        assert_eq!(template.matches(case.datagram), case.datagram == greeting.as_bytes());
    } else {
        template.matches(case.datagram);
    }
}

fn rendered(template: &Template, facts: Facts<'_>) -> Vec<u8> {
    let mut greeting = Vec::new();
    template.render(facts, &mut greeting);
    greeting
}
