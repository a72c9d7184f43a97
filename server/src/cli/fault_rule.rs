//! `--fault`: a fault, its share of the clients, and its listeners.
//!
//! A rule is printed as it was written, and parsed back unchanged.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::text::duration::{parse_duration, parse_positive_duration};
use crate::text::escape::excerpt;
use crate::text::fault_event::FaultKind;
use crate::text::served_socket::{ServedSocket, SocketName};

/// The whole of all clients, in parts per million.
pub(crate) const WHOLE_SHARE: u32 = 1_000_000;

const KINDS_HINT: &str = "the faults are delay=TIME, reset=BYTES, half, dribble=TIME, silence and refuse for connections, \
                          and delay=TIME, drop, duplicate, reorder and truncate=BYTES for datagrams";

/// A fault with its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A time of this range, each as likely.
    Delay {
        min: Duration,
        max: Duration,
    },
    /// After this many bytes of the connection's replies, or at its end.
    Reset {
        bytes: usize,
    },
    Half,
    /// This many bytes after each interval.
    Dribble {
        interval: Duration,
        bytes: usize,
    },
    Silence,
    Refuse,
    Drop,
    Duplicate,
    Reorder,
    Truncate {
        bytes: usize,
    },
}

impl Fault {
    pub(crate) const fn kind(self) -> FaultKind {
        match self {
            Self::Delay { .. } => FaultKind::Delay,
            Self::Reset { .. } => FaultKind::Reset,
            Self::Half => FaultKind::Half,
            Self::Dribble { .. } => FaultKind::Dribble,
            Self::Silence => FaultKind::Silence,
            Self::Refuse => FaultKind::Refuse,
            Self::Drop => FaultKind::Drop,
            Self::Duplicate => FaultKind::Duplicate,
            Self::Reorder => FaultKind::Reorder,
            Self::Truncate { .. } => FaultKind::Truncate,
        }
    }
}

/// A fault, and the clients that meet it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FaultRule {
    text: String,
    pub(crate) fault: Fault,
    /// Of all connections or datagrams of a listener, in parts per million.
    pub(crate) share: u32,
    /// `None` for all listeners.
    listener: Option<SocketName>,
}

impl FaultRule {
    /// Whether it is for the clients of this socket, which has this name or the name of the bound one.
    pub(crate) fn applies_to(&self, wanted: &ServedSocket, bound: &ServedSocket) -> bool {
        let is_named = self.listener.as_ref().is_none_or(|name| name.matches(wanted) || name.matches(bound));
        is_named && self.fault.kind().fits(wanted.protocol)
    }
}

/// A value of `--fault`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FaultSetting {
    /// `none`: faults may be set later.
    None,
    Rule(FaultRule),
}

impl FaultSetting {
    /// Returns the rules; an error if there are some beside `none`.
    pub(crate) fn rules(settings: &[Self]) -> Result<Vec<FaultRule>, String> {
        let rules = settings.iter().filter_map(|setting| match setting {
            Self::None => None,
            Self::Rule(rule) => Some(rule.clone()),
        });
        let rules: Vec<FaultRule> = rules.collect();
        if !rules.is_empty() && settings.contains(&Self::None) {
            return Err(format!("none stands alone, but there is also {}; leave none or the faults out", rules[0]));
        }
        Ok(rules)
    }
}

impl FromStr for FaultSetting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "none" { Ok(Self::None) } else { text.parse().map(Self::Rule) }
    }
}

/// The rule as given.
impl fmt::Display for FaultRule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl FromStr for FaultRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let mut parts = text.split(',').map(str::trim);
        let (word, value) = split_value(parts.next().unwrap_or_default());
        let mut settings = Settings::default();
        for part in parts {
            settings.add(part)?;
        }
        let Settings { share, listener, bytes } = settings;
        let kind = FaultKind::ALL.into_iter().find(|kind| kind.as_str() == word);
        let kind = kind.ok_or_else(|| match word {
            "" => format!("the fault is missing; {KINDS_HINT}"),
            "none" => "none stands alone, without a share or a listener".to_owned(),
            word => format!("not a fault: {}; {KINDS_HINT}", excerpt(word)),
        })?;
        let fault = match (kind, value) {
            (FaultKind::Delay, Some(value)) => parse_delay(value)?,
            (FaultKind::Dribble, Some(value)) => {
                let interval = parse_positive_duration(value).map_err(|error| named("dribble", value, &error))?;
                Fault::Dribble { interval, bytes: bytes.unwrap_or(1) }
            }
            (FaultKind::Reset, Some(value)) => Fault::Reset { bytes: parse_bytes("reset", value)? },
            (FaultKind::Truncate, Some(value)) => Fault::Truncate { bytes: parse_bytes("truncate", value)? },
            (FaultKind::Delay | FaultKind::Dribble, None) => {
                return Err(format!("{word} has no time; write {word}=100ms"));
            }
            (FaultKind::Reset | FaultKind::Truncate, None) => {
                return Err(format!("{word} has no number of bytes; write {word}=0"));
            }
            (_, Some(value)) => return Err(format!("{word} takes no value, but has {}", excerpt(value))),
            (FaultKind::Half, None) => Fault::Half,
            (FaultKind::Silence, None) => Fault::Silence,
            (FaultKind::Refuse, None) => Fault::Refuse,
            (FaultKind::Drop, None) => Fault::Drop,
            (FaultKind::Duplicate, None) => Fault::Duplicate,
            (FaultKind::Reorder, None) => Fault::Reorder,
        };
        if bytes.is_some() && kind != FaultKind::Dribble {
            return Err(format!("bytes= is for dribble, not for {word}"));
        }
        Ok(Self { text: text.to_owned(), fault, share: share.unwrap_or(WHOLE_SHARE), listener })
    }
}

/// What follows the fault.
#[derive(Default)]
struct Settings {
    share: Option<u32>,
    listener: Option<SocketName>,
    bytes: Option<usize>,
}

impl Settings {
    fn add(&mut self, part: &str) -> Result<(), String> {
        let (name, value) = split_value(part);
        let value = value.unwrap_or_default();
        let is_new = match name {
            "share" => self.share.replace(parse_share(value)?).is_none(),
            "listener" => {
                let listener = value.parse::<SocketName>();
                let listener = listener.map_err(|error| named("listener", value, &error))?;
                self.listener.replace(listener).is_none()
            }
            "bytes" => {
                let bytes = match parse_bytes("bytes", value)? {
                    0 => return Err("bytes=0 sends nothing; write at least 1".to_owned()),
                    bytes => bytes,
                };
                self.bytes.replace(bytes).is_none()
            }
            _ => {
                let hint = "after a fault follow share=PERCENT%, listener=ADDRESS, and bytes=N for dribble";
                return Err(format!("not a part of a fault: {}; {hint}", excerpt(part)));
            }
        };
        if is_new { Ok(()) } else { Err(format!("{name}= is there twice")) }
    }
}

fn split_value(part: &str) -> (&str, Option<&str>) {
    match part.split_once('=') {
        Some((name, value)) => (name.trim(), Some(value.trim())),
        None => (part, None),
    }
}

/// An error of a value, with the word that it follows.
fn named(word: &str, value: &str, error: &str) -> String {
    format!("{word}={}: {error}", excerpt(value))
}

/// Parses `100ms`, or `50ms..150ms`.
fn parse_delay(value: &str) -> Result<Fault, String> {
    let parse = |text: &str| parse_duration(text).map_err(|error| named("delay", value, &error));
    let (min, max) = match value.split_once("..") {
        Some((min, max)) => (parse(min)?, parse(max)?),
        None => (parse(value)?, parse(value)?),
    };
    if max.is_zero() {
        return Err("delay=0 delays nothing; write delay=100ms, or delay=50ms..150ms".to_owned());
    }
    if min > max {
        return Err(named("delay", value, "the first time is the longer one; write delay=50ms..150ms"));
    }
    Ok(Fault::Delay { min, max })
}

fn parse_bytes(word: &str, value: &str) -> Result<usize, String> {
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let bytes = value.parse().ok().filter(|_| is_number);
    bytes.ok_or_else(|| named(word, value, &format!("not a number of bytes; write {word}=10")))
}

/// Parses `10%` or `0.5%` into parts per million.
fn parse_share(value: &str) -> Result<u32, String> {
    const DECIMALS_MAX: usize = 4;
    let Some(number) = value.strip_suffix('%') else {
        return Err(named("share", value, "write it in per cent: share=10%"));
    };
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_number = !whole.is_empty() && whole.len() <= 3 && are_digits(whole) && are_digits(decimals);
    let parts = format!("{whole}{decimals:0<DECIMALS_MAX$}").parse().ok();
    match parts.filter(|_| is_number && decimals.len() <= DECIMALS_MAX) {
        Some(parts @ 1..=WHOLE_SHARE) => Ok(parts),
        _ => Err(named("share", value, "write a share above 0% and up to 100%, with at most 4 decimals")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{Fault, FaultKind, FaultRule, FaultSetting, WHOLE_SHARE};
    use crate::text::protocol::Protocol;
    use crate::text::served_socket::ServedSocket;

    fn rule(text: &str) -> FaultRule {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn error(text: &str) -> String {
        text.parse::<FaultRule>().unwrap_err()
    }

    #[test]
    fn every_fault_is_parsed_with_its_values() {
        let millis = Duration::from_millis;
        for (text, fault) in [
            ("delay=100ms", Fault::Delay { min: millis(100), max: millis(100) }),
            ("delay=50ms..150ms", Fault::Delay { min: millis(50), max: millis(150) }),
            ("delay=0..1s", Fault::Delay { min: millis(0), max: millis(1000) }),
            ("reset=0", Fault::Reset { bytes: 0 }),
            ("half", Fault::Half),
            ("dribble=20ms", Fault::Dribble { interval: millis(20), bytes: 1 }),
            ("dribble=20ms,bytes=16", Fault::Dribble { interval: millis(20), bytes: 16 }),
            ("silence", Fault::Silence),
            ("refuse", Fault::Refuse),
            ("drop", Fault::Drop),
            ("duplicate", Fault::Duplicate),
            ("reorder", Fault::Reorder),
            ("truncate=5", Fault::Truncate { bytes: 5 }),
        ] {
            assert_eq!((rule(text).fault, rule(text).share, rule(text).to_string()), (fault, WHOLE_SHARE, text.into()));
            assert_eq!(fault.kind().as_str(), text.split([',', '=']).next().unwrap());
        }
        assert_eq!("none".parse(), Ok(FaultSetting::None));
    }

    #[test]
    fn a_share_is_in_per_cent_with_up_to_four_decimals() {
        for (text, parts) in
            [("10%", 100_000), ("0.5%", 5_000), ("0.0001%", 1), ("100%", 1_000_000), ("99.9999%", 999_999)]
        {
            assert_eq!(rule(&format!("half, share={text}")).share, parts, "{text}");
        }
        for text in ["10", "0.1", "0%", "101%", "1000%", "-1%", "%", ".5%", "1e1%", "0.00001%", "", "+5%"] {
            assert!(error(&format!("half,share={text}")).contains("share"), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_the_way_to_write_it() {
        for (text, parts) in [
            ("", ["missing", "silence"]),
            ("explode", ["not a fault: explode", "truncate=BYTES"]),
            ("delay", ["no time", "delay=100ms"]),
            ("delay=5", ["delay=5", "unit"]),
            ("delay=0", ["delays nothing", "50ms..150ms"]),
            ("delay=2s..1s", ["longer", "50ms..150ms"]),
            ("delay=..", ["delay=..", "500ms"]),
            ("dribble=0", ["dribble=0", "more than zero"]),
            ("dribble=1s,bytes=0", ["bytes=0", "at least 1"]),
            ("reset", ["no number of bytes", "reset=0"]),
            ("reset=-1", ["reset=-1", "number of bytes"]),
            ("reset=0,bytes=3", ["bytes=", "dribble"]),
            ("truncate=x", ["truncate=x", "number of bytes"]),
            ("half=1", ["half", "no value"]),
            ("half,share", ["share", "10%"]),
            ("half,share=1%,share=2%", ["share=", "twice"]),
            ("half,port=9", ["port=9", "listener=ADDRESS"]),
            ("half,listener=70000", ["listener=70000", ""]),
            ("none,share=1%", ["none", "alone"]),
        ] {
            let error = error(text);
            assert!(parts.iter().all(|part| error.contains(part)), "{text}: {error}");
        }
    }

    #[test]
    fn a_rule_applies_to_the_named_listeners_whose_protocol_it_fits() {
        let tcp = ServedSocket::for_test();
        let udp = ServedSocket { protocol: Protocol::Udp, ..(*tcp).clone() };
        for (text, expected) in [
            ("delay=1s", [true, true]),
            ("half", [true, false]),
            ("drop", [false, true]),
            ("delay=1s,listener=udp:127.0.0.1:0", [false, true]),
            ("delay=1s,listener=127.0.0.1:0", [true, true]),
            ("delay=1s,listener=9000", [false, false]),
        ] {
            let rule = rule(text);
            assert_eq!([rule.applies_to(&tcp, &tcp), rule.applies_to(&udp, &udp)], expected, "{text}");
        }
    }

    #[test]
    fn each_kind_has_its_index_and_a_word_of_its_own() {
        for (index, kind) in FaultKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
            let same = FaultKind::ALL.into_iter().filter(|other| other.as_str() == kind.as_str());
            assert_eq!(same.count(), 1);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_rule_or_one_line_of_error(text in "(delay|half|reset|share|=|,|\\.|%|[0-9]|ms|\\PC){0,12}") {
            if let Err(error) = text.parse::<FaultRule>() {
                prop_assert!(!error.is_empty() && !error.contains(char::is_control), "{error:?}");
            }
        }
    }
}
