//! Greeting templates: literal text with escapes and placeholders, `Hello, {peer}!\n`.
//!
//! A greeting has at most `GREETING_BYTES_MAX` bytes, and matching any datagram takes bounded time. A template without
//! literal text matches nothing.

pub(crate) mod client_json;
pub(crate) mod greeting_for;
pub(crate) mod placeholder;

use std::str::FromStr;

use clap::ValueEnum;

use crate::text::LEAVE_FLAG_OUT;
use crate::text::escape::{self, whole_characters};
use crate::text::template::placeholder::{Placeholder, PlaceholderValues};
use crate::text::unescape::push_escape;

/// The longest greeting, in bytes: it fits in a datagram, and several fit in an outbox.
pub(crate) const GREETING_BYTES_MAX: usize = 16 * 1024;

/// The most placeholders of a template. Matching a datagram takes time for each.
const PLACEHOLDERS_MAX: usize = 32;

/// A greeting with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(Vec<u8>),
    Placeholder(Placeholder),
}

impl Template {
    /// A template of literal text, without escapes and placeholders.
    pub(crate) fn literal(text: &str) -> Self {
        Self { parts: vec![Part::Literal(text.as_bytes().to_vec())] }
    }

    /// Appends the greeting.
    pub(crate) fn render(&self, values: PlaceholderValues<'_>, buffer: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Literal(bytes) => buffer.extend_from_slice(bytes),
                Part::Placeholder(placeholder) => placeholder.render(values, buffer),
            }
        }
    }

    /// Appends the greeting, shortened to at most this many bytes: what the client has sent first, then the end. No
    /// character is split.
    pub(crate) fn render_within(&self, bytes_max: usize, values: PlaceholderValues<'_>, buffer: &mut Vec<u8>) {
        let (start, repeats) = (buffer.len(), self.parts.iter().filter(|part| part.is_received()).count());
        self.render(PlaceholderValues { received: b"", ..values }, buffer);
        let room = bytes_max.saturating_sub(buffer.len() - start) / repeats.max(1);
        buffer.truncate(start);
        self.render(PlaceholderValues { received: whole_characters(values.received, room), ..values }, buffer);
        let length = whole_characters(&buffer[start..], bytes_max).len();
        buffer.truncate(start + length);
    }

    /// Whether this template can render to exactly these bytes. One with `{received}` never does: it could render to
    /// what any client sends.
    pub(crate) fn matches(&self, bytes: &[u8]) -> bool {
        self.matches_to(bytes, false)
    }

    /// Whether a greeting of this template can begin with these bytes.
    pub(crate) fn matches_beginning(&self, bytes: &[u8]) -> bool {
        self.matches_to(bytes, true)
    }

    /// If the greeting may be cut, a part of which only the beginning is there is the last one.
    fn matches_to(&self, bytes: &[u8], may_be_cut: bool) -> bool {
        let is_distinct = |part: &Part| matches!(part, Part::Literal(_) | Part::Placeholder(Placeholder::Json));
        if !self.parts.iter().any(is_distinct) || bytes.len() > self.bytes_max() {
            return false;
        }
        let (parts, start) = match self.parts.split_first() {
            Some((Part::Literal(first), rest)) if bytes.starts_with(first) => (rest, first.len()),
            Some((Part::Literal(first), _)) => return may_be_cut && first.starts_with(bytes),
            _ => (self.parts.as_slice(), 0),
        };
        if parts.is_empty() {
            return start == bytes.len();
        }
        // If a placeholder can end at several positions, all are followed at once, without backtracking.
        let mut ends = vec![start];
        for part in parts {
            let mut next = Vec::new();
            for &end in &ends {
                if may_be_cut && part.can_begin_with(&bytes[end..]) {
                    return true;
                }
                part.push_match_ends(bytes, end, &mut next);
            }
            next.sort_unstable();
            next.dedup();
            ends = next;
        }
        ends.contains(&bytes.len())
    }

    /// The greeting, if all greetings of this template are the same. Text without a placeholder is a single part.
    pub(crate) fn constant(&self) -> Option<&[u8]> {
        match self.parts.as_slice() {
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// Whether a part is this placeholder.
    pub(crate) fn contains(&self, placeholder: Placeholder) -> bool {
        self.parts.contains(&Part::Placeholder(placeholder))
    }

    /// The number of bytes that are the same in all greetings.
    pub(crate) fn literal_bytes(&self) -> usize {
        let literals = self.parts.iter().map(|part| if let Part::Literal(bytes) = part { bytes.len() } else { 0 });
        literals.sum()
    }

    fn placeholder_count(&self) -> usize {
        self.parts.iter().filter(|part| matches!(part, Part::Placeholder(_))).count()
    }

    fn bytes_max(&self) -> usize {
        let part_maxima = self.parts.iter().map(|part| match part {
            Part::Literal(bytes) => bytes.len(),
            Part::Placeholder(placeholder) => placeholder.bytes_max(),
        });
        part_maxima.sum()
    }
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = Vec::new();
        let mut rest = text;
        while let Some(position) = rest.find(['{', '}', '\\']) {
            literal.extend_from_slice(&rest.as_bytes()[..position]);
            let (brace, tail) = rest[position..].split_at(1);
            if brace == "\\" {
                // An escaped character is always text, even a brace.
                rest = push_escape(tail, &mut literal)?;
                continue;
            }
            if let Some(unescaped) = tail.strip_prefix(brace) {
                literal.extend_from_slice(brace.as_bytes());
                rest = unescaped;
                continue;
            }
            let (placeholder, remaining) = parse_placeholder(brace, tail)?;
            push_literal(&mut parts, &mut literal);
            parts.push(Part::Placeholder(placeholder));
            rest = remaining;
        }
        literal.extend_from_slice(rest.as_bytes());
        push_literal(&mut parts, &mut literal);
        let template = Self { parts };
        if template.placeholder_count() > PLACEHOLDERS_MAX {
            return Err(format!("the greeting has too many placeholders: at most {PLACEHOLDERS_MAX}; leave some out"));
        }
        match template.bytes_max() {
            0 => Err(format!("a greeting cannot be empty; {LEAVE_FLAG_OUT} for the default one")),
            1..=GREETING_BYTES_MAX => Ok(template),
            _ => Err(format!(
                "the greeting is too long: at most {GREETING_BYTES_MAX} bytes with filled placeholders; shorten it"
            )),
        }
    }
}

fn push_literal(parts: &mut Vec<Part>, literal: &mut Vec<u8>) {
    if !literal.is_empty() {
        parts.push(Part::Literal(std::mem::take(literal)));
    }
}

/// The hint of each error about braces: all placeholders, and how a brace is written.
fn placeholder_hint() -> String {
    let possible = Placeholder::value_variants().iter().filter_map(ValueEnum::to_possible_value);
    let mut names: Vec<String> = possible.map(|value| format!("{{{}}}", value.get_name())).collect();
    let last = names.pop().unwrap_or_default();
    format!("placeholders are {} and {last}; write {{{{ and }}}} for a brace", names.join(", "))
}

/// Parses what follows an opening brace, and returns the remaining text.
fn parse_placeholder<'a>(brace: &str, tail: &'a str) -> Result<(Placeholder, &'a str), String> {
    if brace == "}" {
        return Err(format!("there is a }} without its {{; {}", placeholder_hint()));
    }
    let (name, remaining) =
        tail.split_once('}').ok_or_else(|| format!("there is a {{ without its }}; {}", placeholder_hint()))?;
    let placeholder = Placeholder::from_str(name, false)
        .map_err(|_| format!("the placeholder {{{}}} is unknown; {}", escape::excerpt(name), placeholder_hint()))?;
    Ok((placeholder, remaining))
}

impl Part {
    fn is_received(&self) -> bool {
        *self == Self::Placeholder(Placeholder::Received)
    }

    /// Whether this part can begin with all these bytes.
    fn can_begin_with(&self, bytes: &[u8]) -> bool {
        match self {
            Self::Literal(literal) => literal.starts_with(bytes),
            Self::Placeholder(placeholder) => placeholder.can_begin_with(bytes),
        }
    }

    /// Adds every position where this part can end if it begins at `start`.
    fn push_match_ends(&self, bytes: &[u8], start: usize, ends: &mut Vec<usize>) {
        let rest = &bytes[start..];
        match self {
            Self::Literal(literal) if rest.starts_with(literal) => ends.push(start + literal.len()),
            Self::Literal(_) => {}
            Self::Placeholder(placeholder) => placeholder.push_match_ends(rest, start, ends),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use clap::ValueEnum;
    use proptest::prelude::*;
    use support::measurement::fastest_of;

    use super::{GREETING_BYTES_MAX, PLACEHOLDERS_MAX, Placeholder, PlaceholderValues, Template};
    use crate::text::bound_address::Addresses;
    use crate::text::protocol::Protocol;

    fn template_error(text: &str) -> String {
        text.parse::<Template>().unwrap_err()
    }

    fn template(text: &str) -> Template {
        text.parse().unwrap()
    }

    fn addresses(peer: SocketAddr, local: SocketAddr) -> Addresses {
        Addresses { protocol: Protocol::Udp, peer: Some(peer), local: Some(local.into()) }
    }

    fn values(addresses: &Addresses) -> PlaceholderValues<'_> {
        PlaceholderValues::for_test(addresses)
    }

    fn render(text: &str) -> String {
        let mut buffer = Vec::new();
        let addresses = addresses("127.0.0.1:50514".parse().unwrap(), "[::1]:8888".parse().unwrap());
        template(text).render(values(&addresses), &mut buffer);
        String::from_utf8(buffer).unwrap()
    }

    #[test]
    fn placeholders_are_filled_in() {
        assert_eq!(render("Hello, UDP Client!"), "Hello, UDP Client!");
        assert_eq!(render("{number}: {peer} on {local}"), "7: 127.0.0.1:50514 on [::1]:8888");
        assert_eq!(render("{protocol}@{hostname}"), "udp@box-1.example.org");
        assert_eq!(render("{peer_ip} {peer_port} {time}"), "127.0.0.1 50514 1970-01-01T00:00:00.000Z");
        assert_eq!(render("{{{number}}} {{}}"), "{7} {}");
        assert_eq!(render(r"\u{41}\x7bpeer\x7d{number}\\\n\0"), "A{peer}7\\\n\0");
    }

    #[test]
    fn text_without_a_placeholder_is_the_same_greeting_for_every_client() {
        for (text, greeting) in [("Hello!", "Hello!"), ("{{}}", "{}"), (r"a\n{{\x7b", "a\n{{"), (" ", " ")] {
            assert_eq!(template(text).constant(), Some(greeting.as_bytes()), "{text}");
        }
        for text in ["{number}", "Hello, {peer}!", "{{}} {time}"] {
            assert_eq!(template(text).constant(), None, "{text}");
        }
    }

    #[test]
    fn a_mistake_in_a_template_is_reported() {
        for (text, expected) in [
            ("", "empty"),
            ("{name}", "{name} is unknown"),
            ("{}", "{} is unknown"),
            ("{ peer}", "{ peer} is unknown"),
            ("{Peer}", "{Peer} is unknown"),
            ("{peer", "without its }"),
            ("peer}", "without its {"),
            ("{{peer}", "without its {"),
            ("{peer}}", "without its {"),
            (r"\d", r"\d is not an escape"),
            ("a\\", "write it double"),
            (r"{pe\x65r}", r"{pe\x65r} is unknown"),
        ] {
            let error = text.parse::<Template>().unwrap_err();
            assert!(error.contains(expected) && !error.contains('\n'), "{text}: {error}");
        }
        let long = "a".repeat(GREETING_BYTES_MAX);
        assert!(long.parse::<Template>().is_ok());
        assert!(format!("{long}{{number}}").parse::<Template>().is_err());
    }

    #[test]
    fn a_template_matches_its_greetings_and_no_other_text() {
        let literal = template("Hello, UDP Client!");
        assert!(literal.matches(b"Hello, UDP Client!"));
        assert!(!literal.matches(b"Hello, UDP Client!!"));
        assert!(!literal.matches(b"Hello, UDP Server!"));
        assert!(!literal.matches(b""));
        let all_placeholders = template("#{number} {protocol} {peer}>{local} {hostname}.");
        assert!(all_placeholders.matches(b"#12 tcp 10.0.0.1:9>[fe80::1%3]:65535 a-b.c."));
        assert!(!all_placeholders.matches(b"# tcp 10.0.0.1:9>[::1]:65535 a."));
        assert!(!all_placeholders.matches(b"#1 sctp 10.0.0.1:9>[::1]:65535 a."));
        assert!(!all_placeholders.matches(b"#1 tcp 10.0.0.1>[::1]:65535 a."));
        assert!(!all_placeholders.matches(b"#1 tcp 10.0.0.1:9>[::1]:65536 a."));
        assert!(!all_placeholders.matches(b"#1 tcp 10.0.0.1:9>[::1]:65535 a b."));
    }

    #[test]
    fn a_beginning_matches_only_the_same_beginning() {
        let literal = template("Hello, UDP Client!");
        assert!(literal.matches_beginning(b"Hello") && literal.matches_beginning(b""));
        assert!(!literal.matches_beginning(b"hello") && !literal.matches_beginning(b"Hello, UDP Client!!"));
        let numbered = template("#{number} {protocol} {time}.");
        for beginning in ["#", "#12", "#12 ", "#12 u", "#12 tcp 19", "#12 udp 1970-01-01T00:00:00.000Z"] {
            assert!(numbered.matches_beginning(beginning.as_bytes()), "{beginning}");
        }
        for other in ["1", "#a", "#12 s", "#12 udp a", "#12 udp 1970x"] {
            assert!(!numbered.matches_beginning(other.as_bytes()), "{other}");
        }
        assert!(template("{json}").matches_beginning(b"{\"host"));
        assert!(!template("{json}").matches_beginning(b"{\"name"));
        assert!(!template("{received}!").matches_beginning(b"hello"));
    }

    #[test]
    fn a_template_without_literal_text_matches_nothing() {
        assert!(!template("{peer}").matches(b"127.0.0.1:1"));
        assert!(!template("{number}{hostname}").matches(b"1a"));
    }

    #[test]
    fn a_template_with_received_matches_nothing() {
        // Any client could have sent the text.
        assert!(!template("{received}\\n").matches(b"hello\n"));
        assert!(!template("Hello, {received}!").matches(b"Hello, UDP Server!"));
    }

    #[test]
    fn adjacent_placeholders_are_matched() {
        assert!(template("{number}{number}x").matches(b"12x"));
        assert!(!template("{number}{number}x").matches(b"1x"));
        assert!(template("{peer}{number}!").matches(b"127.0.0.1:6553512!"));
        assert!(template("{hostname}{hostname}-x").matches(b"a-x-x"));
    }

    #[test]
    fn each_error_about_braces_has_all_placeholders() {
        let error = template_error("{name}");
        for placeholder in Placeholder::value_variants() {
            let value = placeholder.to_possible_value().unwrap();
            assert!(error.contains(&format!("{{{}}}", value.get_name())), "{placeholder:?}: {error}");
        }
        assert!(error.ends_with("{received} and {json}; write {{ and }} for a brace"), "{error}");
    }

    #[test]
    fn a_template_has_a_limited_number_of_placeholders() {
        assert!("{number}".repeat(PLACEHOLDERS_MAX).parse::<Template>().is_ok());
        let error = template_error(&"{number}".repeat(PLACEHOLDERS_MAX + 1));
        assert!(error.contains("too many placeholders: at most 32"), "{error}");
    }

    #[test]
    fn a_hostile_datagram_is_matched_in_bounded_time() {
        let repeated = template(&"{hostname}".repeat(30).replace("}{", "}a{"));
        assert!(!repeated.matches("a".repeat(repeated.bytes_max()).replace("aaa", "aa!").as_bytes()));
        assert!(!repeated.matches("a".repeat(65_507).as_bytes()));
        // Host names make each position of the datagram a possible start of the placeholders after them.
        let after_hostnames = |placeholder: &str| {
            template(&format!("{}{}!", "{hostname}".repeat(16), placeholder.repeat(PLACEHOLDERS_MAX - 16)))
        };
        let hostile = [
            (template(&("{hostname}".repeat(PLACEHOLDERS_MAX) + "x")), "a".repeat(8_000)),
            (after_hostnames("{peer_ip}"), "1.1.1.1".repeat(600)),
            (template(&("{hostname}{peer}".repeat(PLACEHOLDERS_MAX / 2) + "!")), "1.1.1.1:1".repeat(500)),
            (template(&("{peer_ip}".repeat(PLACEHOLDERS_MAX) + "!")), "::".repeat(500)),
            (after_hostnames("{number}"), "1".repeat(4_000)),
        ];
        for (template, datagram) in &hostile {
            let elapsed = fastest_of(3, || assert!(!template.matches(datagram.as_bytes())));
            // In a release build it takes at most milliseconds.
            assert!(elapsed < Duration::from_millis(500), "{elapsed:?}");
        }
    }

    proptest! {
        #[test]
        fn every_rendered_greeting_matches_its_template(
            text in "([a-z :>]|\\{peer\\}|\\{peer_ip\\}|\\{peer_port\\}|\\{time\\}|\\{local\\}|\\{protocol\\}|\\{number\\}|\\{hostname\\}){0,8}(\\{json\\})?[!-/]",
            peer in any::<SocketAddr>(), local in any::<SocketAddr>(), number in any::<u64>(),
        ) {
            let template = template(&text);
            let mut greeting = Vec::new();
            let addresses = addresses(peer, local);
            let values = PlaceholderValues { number, ..values(&addresses) };
            template.render(values, &mut greeting);
            prop_assert!(greeting.len() <= template.bytes_max());
            prop_assert!(template.matches(&greeting));
            for length in 0..=greeting.len() {
                prop_assert!(template.matches_beginning(&greeting[..length]), "{length}");
            }
        }

        #[test]
        fn literal_text_with_escaped_braces_is_unchanged(text in "\\PC{1,40}") {
            let doubled = text.replace('\\', "\\\\").replace('{', "{{").replace('}', "}}");
            prop_assert_eq!(template(&doubled), Template::literal(&text));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}", bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(template) = text.parse::<Template>() {
                template.matches(&bytes);
            }
        }
    }
}
