//! Greeting templates: fixed text with placeholders, `Hello, {peer}!`.
//!
//! Beside the flow: the command line reads them, the greeting desk renders them, and over UDP asks whether what came is
//! itself such a greeting, since two servers that greet each other's greetings would never stop.
//! It promises a bounded greeting, no allocation while rendering into a buffer that has grown, and an answer about a
//! datagram in bounded time, whatever it contains. It never answers for a template that is nothing but placeholders.

use std::str::FromStr;

use crate::text::placeholder::{Facts, Field};

/// The most a greeting may come to, in bytes: a datagram carries it, and an outbox has room for several.
pub(crate) const GREETING_BYTES_MAX: usize = 16 * 1024;

const KNOWN: &str = "known are {peer}, {local}, {protocol}, {number} and {hostname}; write {{ and }} for a brace";

/// A greeting with places to fill in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Fixed(Vec<u8>),
    Field(Field),
}

impl Template {
    /// Fixed text, taken as it is.
    pub(crate) fn fixed(text: &str) -> Self {
        Self { parts: vec![Part::Fixed(text.as_bytes().to_vec())] }
    }

    /// Appends the greeting.
    pub(crate) fn render(&self, facts: Facts<'_>, into: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Fixed(bytes) => into.extend_from_slice(bytes),
                Part::Field(field) => field.render(facts, into),
            }
        }
    }

    /// Whether some greeting of this template has exactly these bytes.
    pub(crate) fn matches(&self, bytes: &[u8]) -> bool {
        let has_fixed = self.parts.iter().any(|part| matches!(part, Part::Fixed(_)));
        if !has_fixed || bytes.len() > self.bytes_max() {
            return false;
        }
        let (parts, start) = match self.parts.split_first() {
            Some((Part::Fixed(first), rest)) if bytes.starts_with(first) => (rest, first.len()),
            Some((Part::Fixed(_), _)) => return false,
            _ => (self.parts.as_slice(), 0),
        };
        if parts.is_empty() {
            return start == bytes.len();
        }
        // Where a placeholder can end at several places, all of them are followed at once: no backtracking.
        let mut ends = vec![start];
        for part in parts {
            let mut next = Vec::new();
            for &end in &ends {
                part.follow(bytes, end, &mut next);
            }
            next.sort_unstable();
            next.dedup();
            ends = next;
        }
        ends.contains(&bytes.len())
    }

    /// Whether all greetings of this template are the same.
    pub(crate) fn is_fixed(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Fixed(_)))
    }

    /// Whether rendering asks for that.
    pub(crate) fn names(&self, field: Field) -> bool {
        self.parts.contains(&Part::Field(field))
    }

    fn bytes_max(&self) -> usize {
        let each = self.parts.iter().map(|part| match part {
            Part::Fixed(bytes) => bytes.len(),
            Part::Field(field) => field.bytes_max(),
        });
        each.sum()
    }
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut fixed = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            fixed.extend_from_slice(&rest.as_bytes()[..at]);
            let (brace, after) = rest[at..].split_at(1);
            if let Some(behind) = after.strip_prefix(brace) {
                fixed.extend_from_slice(brace.as_bytes());
                rest = behind;
                continue;
            }
            let (field, behind) = parse_field(brace, after)?;
            push_fixed(&mut parts, &mut fixed);
            parts.push(Part::Field(field));
            rest = behind;
        }
        fixed.extend_from_slice(rest.as_bytes());
        push_fixed(&mut parts, &mut fixed);
        let template = Self { parts };
        match template.bytes_max() {
            0 => Err("a greeting cannot be empty; leave the flag out for the usual one".to_owned()),
            1..=GREETING_BYTES_MAX => Ok(template),
            _ => Err(format!("a greeting can have {GREETING_BYTES_MAX} bytes at most, placeholders filled in")),
        }
    }
}

fn push_fixed(parts: &mut Vec<Part>, fixed: &mut Vec<u8>) {
    if !fixed.is_empty() {
        parts.push(Part::Fixed(std::mem::take(fixed)));
    }
}

/// Reads what stands behind an opening brace, and gives back what is left.
fn parse_field<'a>(brace: &str, after: &'a str) -> Result<(Field, &'a str), String> {
    if brace == "}" {
        return Err(format!("there is a }} without its {{; {KNOWN}"));
    }
    let (name, behind) = after.split_once('}').ok_or_else(|| format!("there is a {{ without its }}; {KNOWN}"))?;
    let field = Field::named(name).ok_or_else(|| format!("the placeholder {{{name}}} is unknown; {KNOWN}"))?;
    Ok((field, behind))
}

impl Part {
    /// Adds every place where this part can end if it begins at `start`.
    fn follow(&self, bytes: &[u8], start: usize, ends: &mut Vec<usize>) {
        let rest = &bytes[start..];
        match self {
            Self::Fixed(fixed) if rest.starts_with(fixed) => ends.push(start + fixed.len()),
            Self::Fixed(_) => {}
            Self::Field(field) => field.follow(rest, start, ends),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::{Facts, GREETING_BYTES_MAX, Template};
    use crate::text::bound_address::Site;
    use crate::text::protocol::Protocol;

    fn template(text: &str) -> Template {
        text.parse().unwrap()
    }

    fn facts(local: &Site) -> Facts<'_> {
        Facts {
            peer: "127.0.0.1:50514".parse().ok(),
            local: Some(local),
            protocol: Protocol::Udp,
            number: 7,
            hostname: "box-1.example.org",
        }
    }

    fn rendered(text: &str) -> String {
        let mut into = Vec::new();
        let local: SocketAddr = "[::1]:8888".parse().unwrap();
        template(text).render(facts(&local.into()), &mut into);
        String::from_utf8(into).unwrap()
    }

    #[test]
    fn placeholders_are_filled_in() {
        assert_eq!(rendered("Hello, UDP Client!"), "Hello, UDP Client!");
        assert_eq!(rendered("{number}: {peer} on {local}"), "7: 127.0.0.1:50514 on [::1]:8888");
        assert_eq!(rendered("{protocol}@{hostname}"), "udp@box-1.example.org");
        assert_eq!(rendered("{{{number}}} {{}}"), "{7} {}");
    }

    #[test]
    fn a_slip_in_a_template_is_named() {
        for (text, clue) in [
            ("", "empty"),
            ("{name}", "{name} is unknown"),
            ("{}", "{} is unknown"),
            ("{ peer}", "{ peer} is unknown"),
            ("{peer", "without its }"),
            ("peer}", "without its {"),
            ("{{peer}", "without its {"),
            ("{peer}}", "without its {"),
        ] {
            let error = text.parse::<Template>().unwrap_err();
            assert!(error.contains(clue) && !error.contains('\n'), "{text}: {error}");
        }
        let long = "a".repeat(GREETING_BYTES_MAX);
        assert!(long.parse::<Template>().is_ok());
        assert!(format!("{long}{{number}}").parse::<Template>().is_err());
    }

    #[test]
    fn a_greeting_of_ours_is_known_and_a_question_is_not() {
        let plain = template("Hello, UDP Client!");
        assert!(plain.matches(b"Hello, UDP Client!"));
        assert!(!plain.matches(b"Hello, UDP Client!!"));
        assert!(!plain.matches(b"Hello, UDP Server!"));
        assert!(!plain.matches(b""));
        let full = template("#{number} {protocol} {peer}>{local} {hostname}.");
        assert!(full.matches(b"#12 tcp 10.0.0.1:9>[fe80::1%3]:65535 a-b.c."));
        assert!(!full.matches(b"# tcp 10.0.0.1:9>[::1]:65535 a."));
        assert!(!full.matches(b"#1 sctp 10.0.0.1:9>[::1]:65535 a."));
        assert!(!full.matches(b"#1 tcp 10.0.0.1>[::1]:65535 a."));
        assert!(!full.matches(b"#1 tcp 10.0.0.1:9>[::1]:65536 a."));
        assert!(!full.matches(b"#1 tcp 10.0.0.1:9>[::1]:65535 a b."));
    }

    #[test]
    fn a_template_without_fixed_text_matches_nothing() {
        assert!(!template("{peer}").matches(b"127.0.0.1:1"));
        assert!(!template("{number}{hostname}").matches(b"1a"));
    }

    #[test]
    fn placeholders_side_by_side_are_told_apart() {
        assert!(template("{number}{number}x").matches(b"12x"));
        assert!(!template("{number}{number}x").matches(b"1x"));
        assert!(template("{peer}{number}!").matches(b"127.0.0.1:6553512!"));
        assert!(template("{hostname}{hostname}-x").matches(b"a-x-x"));
    }

    #[test]
    fn a_hostile_datagram_is_judged_in_bounded_time() {
        let many = template(&"{hostname}".repeat(30).replace("}{", "}a{"));
        assert!(!many.matches("a".repeat(many.bytes_max()).replace("aaa", "aa!").as_bytes()));
        assert!(!many.matches("a".repeat(65_507).as_bytes()));
        let begun = Instant::now();
        assert!(!template(&("{hostname}".repeat(64) + "x")).matches(&[b'a'; 16_000]));
        // Milliseconds, and seconds if each start is followed without regard to the others.
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    }

    proptest! {
        #[test]
        fn every_greeting_is_known_again(
            text in "([a-z :>]|\\{peer\\}|\\{local\\}|\\{protocol\\}|\\{number\\}|\\{hostname\\}){0,8}[!-/]",
            peer in any::<SocketAddr>(), local in any::<SocketAddr>(), number in any::<u64>(),
        ) {
            let template = template(&text);
            let mut greeting = Vec::new();
            let local = local.into();
            let facts = Facts { peer: Some(peer), number, ..facts(&local) };
            template.render(facts, &mut greeting);
            prop_assert!(greeting.len() <= template.bytes_max());
            prop_assert!(template.matches(&greeting));
        }

        #[test]
        fn fixed_text_survives_the_braces(text in "\\PC{1,40}") {
            let doubled = text.replace('{', "{{").replace('}', "}}");
            prop_assert_eq!(template(&doubled), Template::fixed(&text));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}", bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(template) = text.parse::<Template>() {
                template.matches(&bytes);
            }
        }
    }
}
