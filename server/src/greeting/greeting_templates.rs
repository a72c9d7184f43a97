//! The greeting templates of the server, and which socket has which.
//!
//! They are read and checked at the start, and do not change.

use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use clap::ValueEnum;

use crate::cli::flags::serve_options::ReplyOptions;
use crate::cli::usage_error::usage_error;
use crate::exit::{ExitError, ExitStatus, cause_and_hint};
use crate::text::escape;
use crate::text::protocol::Protocol;
use crate::text::served_socket::ServedSocket;
use crate::text::template::greeting_for::GreetingFor;
use crate::text::template::placeholder::{Placeholder, PlaceholderValues, read_hostname};
use crate::text::template::{GREETING_BYTES_MAX, Template};

/// What a server sends over UDP without a greeting of its own.
const UDP_GREETING: &str = "Hello, UDP Client!";

/// The templates, and the host name that they may contain.
#[derive(Clone, Debug)]
pub(crate) struct GreetingTemplates {
    /// For TCP and unix sockets: a client of a unix socket may be a proxy that passes on the bytes of a TCP client.
    tcp: Template,
    udp: Template,
    /// Those of single sockets.
    of_sockets: Vec<GreetingFor>,
    hostname: String,
    mode: String,
}

/// The template of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TemplateId {
    Tcp,
    Udp,
    /// The greeting of single sockets at this position.
    Socket(usize),
}

impl GreetingTemplates {
    /// The templates of the command line, or the default ones. Reads the file of `--greeting-file`.
    pub(crate) fn new(replies: &ReplyOptions) -> Result<Self, ExitError> {
        let common = match &replies.greeting_file {
            Some(path) => Some(read_template(path)?),
            None => replies.greeting.clone(),
        };
        let template_or_default = |specific: &Option<Template>, default| {
            specific.as_ref().or(common.as_ref()).cloned().unwrap_or_else(|| Template::literal(default))
        };
        let tcp = template_or_default(&replies.tcp_greeting, "Hello, TCP Client!");
        let udp = template_or_default(&replies.udp_greeting, UDP_GREETING);
        let mode = replies.mode.to_possible_value().map(|mode| mode.get_name().to_owned()).unwrap_or_default();
        let mut templates = Self { tcp, udp, of_sockets: replies.greetings_for(), hostname: String::new(), mode };
        if templates.contains(Placeholder::Hostname) || templates.contains(Placeholder::Json) {
            templates.hostname = read_hostname();
        }
        Ok(templates)
    }

    /// Whether a greeting contains its number, which then must be unique.
    pub(crate) fn has_number(&self) -> bool {
        self.contains(Placeholder::Number) || self.contains(Placeholder::Json)
    }

    /// Whether a greeting contains the address of a proxy.
    pub(crate) fn has_proxy(&self) -> bool {
        self.contains(Placeholder::Json)
    }

    pub(crate) fn are_constant(&self) -> bool {
        self.all().all(|template| template.constant().is_some())
    }

    fn contains(&self, placeholder: Placeholder) -> bool {
        self.all().any(|template| template.contains(placeholder))
    }

    fn all(&self) -> impl Iterator<Item = &Template> {
        [&self.tcp, &self.udp].into_iter().chain(self.of_sockets.iter().map(|one| &one.greeting))
    }

    /// Returns an error if the name of a greeting belongs to no socket, or a socket has two.
    pub(crate) fn check_sockets<'s>(
        &self,
        sockets: impl Iterator<Item = &'s ServedSocket> + Clone,
    ) -> Result<(), String> {
        GreetingFor::check_all(&self.of_sockets, sockets)
    }

    /// The template of a socket.
    pub(crate) fn id_for(&self, socket: &ServedSocket) -> TemplateId {
        match (GreetingFor::position_for(&self.of_sockets, socket), socket.protocol) {
            (Some(position), _) => TemplateId::Socket(position),
            (None, Protocol::Tcp | Protocol::Unix) => TemplateId::Tcp,
            (None, Protocol::Udp) => TemplateId::Udp,
        }
    }

    /// A warning if a UDP socket has a greeting with `{received}` that leaves little room for it.
    pub(crate) fn warning<'s>(&self, mut sockets: impl Iterator<Item = &'s ServedSocket>) -> Option<String> {
        let bytes = sockets.find_map(|socket| {
            let template = self.get(self.id_for(socket));
            let is_long = template.contains(Placeholder::Received) && template.literal_bytes() > FIXED_TEXT_BYTES_MAX;
            (socket.protocol == Protocol::Udp && is_long).then(|| template.literal_bytes())
        })?;
        Some(format!(
            "over UDP the greeting with {{received}} is cut: it is shorter than the datagram that it answers, and its own \
             text has {bytes} bytes; set another one with --udp-greeting TEXT or --greeting-for udp:PORT=TEXT"
        ))
    }

    /// The greeting of a template, if it is the same for every client.
    pub(crate) fn constant(&self, id: TemplateId) -> Option<&[u8]> {
        self.get(id).constant()
    }

    fn get(&self, id: TemplateId) -> &Template {
        match id {
            TemplateId::Tcp => &self.tcp,
            TemplateId::Udp => &self.udp,
            TemplateId::Socket(position) => &self.of_sockets[position].greeting,
        }
    }

    /// Appends the greeting of a template, with the values for a host name and a mode.
    ///
    /// Over UDP a greeting with `{received}` is shorter than the datagram that it answers. Otherwise two servers would
    /// answer each other for ever: such greetings cannot be recognized.
    pub(crate) fn render<'a>(
        &'a self,
        id: TemplateId,
        buffer: &mut Vec<u8>,
        values: impl FnOnce(&'a str, &'a str) -> PlaceholderValues<'a>,
    ) {
        let (template, values) = (self.get(id), values(&self.hostname, &self.mode));
        if values.addresses.protocol == Protocol::Udp && template.contains(Placeholder::Received) {
            template.render_within(values.received.len().saturating_sub(1), values, buffer);
        } else {
            template.render(values, buffer);
        }
    }

    /// Whether a UDP socket of this server, or of one without a greeting of its own, can have sent a datagram, if a
    /// socket with this template receives it. An empty datagram can be the last one that `{received}` has shortened. If
    /// `is_cut`, greetings of this length may be cut ones.
    pub(crate) fn can_have_sent(&self, id: TemplateId, datagram: &[u8], is_cut: bool) -> bool {
        let matches = |greeting: &Template| {
            if is_cut { greeting.matches_beginning(datagram) } else { greeting.matches(datagram) }
        };
        let default = UDP_GREETING.as_bytes();
        datagram.is_empty() && self.get(id).contains(Placeholder::Received)
            || datagram == default
            || is_cut && default.starts_with(datagram)
            || self.all_udp().any(matches)
    }

    /// All greetings that a UDP socket of this server, or of one without a greeting of its own, can send; `None` if one
    /// has a placeholder.
    pub(crate) fn constant_udp_greetings(&self) -> Option<Vec<Vec<u8>>> {
        let constants = self.all_udp().map(|greeting| greeting.constant().map(<[u8]>::to_vec));
        let mut greetings: Vec<Vec<u8>> = constants.collect::<Option<_>>()?;
        greetings.push(UDP_GREETING.into());
        greetings.sort_unstable();
        greetings.dedup();
        Some(greetings)
    }

    /// The templates of UDP sockets.
    fn all_udp(&self) -> impl Iterator<Item = &Template> {
        let of_sockets = self.of_sockets.iter().filter(|one| one.socket.is_possible_for(Protocol::Udp));
        [&self.udp].into_iter().chain(of_sockets.map(|one| &one.greeting))
    }
}

/// Fixed text over UDP that leaves no room for what was received in reply to most short datagrams.
const FIXED_TEXT_BYTES_MAX: usize = 18;

/// The longest file of a template, in bytes: each byte of the longest greeting as an escape such as `\\u{00000a}`.
const FILE_BYTES_MAX: u64 = 12 * GREETING_BYTES_MAX as u64;

/// Reads a template from a file. The newline at the end of the last line is not part of it.
fn read_template(path: &Path) -> Result<Template, ExitError> {
    let shown = escape::path(path.as_os_str().as_bytes());
    let mut bytes = Vec::new();
    let result = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    result.map_err(|error| {
        let cause = cause_and_hint(&error, "name a readable file with --greeting-file");
        ExitError::new(ExitStatus::Unavailable, format!("cannot read {shown}: {cause}"))
    })?;
    parse_template(&bytes).map_err(|error| usage_error(&format!("{shown}, the file of the greeting: {error}")))
}

fn parse_template(bytes: &[u8]) -> Result<Template, String> {
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("it is too long; a greeting has at most {GREETING_BYTES_MAX} bytes"));
    }
    let text = str::from_utf8(bytes).map_err(|error| {
        format!("the byte after the first {} is not valid UTF-8; write other bytes as \\xNN", error.valid_up_to())
    })?;
    let text = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    if text.is_empty() {
        return Err("it is empty; write a greeting into it".to_owned());
    }
    text.parse()
}

#[cfg(test)]
mod tests {
    use super::{GREETING_BYTES_MAX, GreetingTemplates, ReplyOptions, TemplateId, parse_template};
    use proptest::prelude::*;

    use crate::cli::flags::serve_options::Mode;
    use crate::text::bound_address::Addresses;
    use crate::text::protocol::Protocol;
    use crate::text::template::placeholder::{PlaceholderValues, RECEIVED_BYTES_MAX};

    fn reply_options(mode: Mode, common: Option<&str>, udp: Option<&str>) -> ReplyOptions {
        let template = |text: Option<&str>| text.map(|text| text.parse().unwrap());
        let of_test = ReplyOptions::for_test(mode);
        ReplyOptions { greeting: template(common), udp_greeting: template(udp), ..of_test }
    }

    #[test]
    fn the_default_greetings_are_those_of_the_first_programs() {
        let templates = GreetingTemplates::new(&reply_options(Mode::Greet, None, None)).unwrap();
        assert!(templates.get(TemplateId::Tcp).matches(b"Hello, TCP Client!"));
        assert!(templates.get(TemplateId::Udp).matches(b"Hello, UDP Client!"));
    }

    #[test]
    fn the_greeting_of_one_protocol_replaces_the_common_one() {
        let templates = GreetingTemplates::new(&reply_options(Mode::Line, Some("both"), Some("datagram"))).unwrap();
        assert!(templates.get(TemplateId::Tcp).matches(b"both"));
        assert!(templates.get(TemplateId::Udp).matches(b"datagram"));
    }

    #[test]
    fn the_last_newline_of_a_file_is_no_part_of_the_greeting() {
        for (text, greeting) in [
            ("hello\n", "hello"),
            ("hello\r\n", "hello"),
            ("hello", "hello"),
            ("one\ntwo\n\n", "one\ntwo\n"),
            ("hello\\n\n", "hello\n"),
        ] {
            assert!(parse_template(text.as_bytes()).unwrap().matches(greeting.as_bytes()), "{text:?}");
        }
    }

    #[test]
    fn a_mistake_in_a_file_is_reported() {
        let long = "\\u{000000000a}".repeat(GREETING_BYTES_MAX);
        for (bytes, expected) in [
            (&b""[..], "it is empty"),
            (b"\n", "it is empty"),
            (b"ab\xff", "after the first 2 is not valid UTF-8"),
            (b"{name}", "{name} is unknown"),
            (long.as_bytes(), "too long"),
            ("a".repeat(GREETING_BYTES_MAX + 1).as_bytes(), "too long"),
        ] {
            let error = parse_template(bytes).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn the_constant_udp_greetings_are_those_of_all_sockets_and_the_default_one() {
        let constants = |udp, of_sockets: &[&str]| {
            let mut options = reply_options(Mode::Greet, None, Some(udp));
            options.greeting_for = of_sockets.iter().map(|text| text.parse().unwrap()).collect();
            GreetingTemplates::new(&options).unwrap().constant_udp_greetings()
        };
        let default = b"Hello, UDP Client!".to_vec();
        assert_eq!(constants("Hello, UDP Client!", &[]), Some(vec![default.clone()]));
        let of_sockets = ["9000=nine", "udp:9001=hi", "tcp:9002={peer}"];
        assert_eq!(constants("hi", &of_sockets), Some(vec![default, b"hi".to_vec(), b"nine".to_vec()]));
        assert_eq!(constants("hi {peer}", &[]), None);
        assert_eq!(constants("hi", &["9000={peer}"]), None);
    }

    fn question<'a>(addresses: &'a Addresses, received: &'a [u8]) -> PlaceholderValues<'a> {
        PlaceholderValues { received, ..PlaceholderValues::for_test(addresses) }
    }

    /// The reply of a UDP socket with this greeting.
    fn reply(greeting: &str, received: &[u8]) -> Option<Vec<u8>> {
        let templates = GreetingTemplates::new(&reply_options(Mode::Greet, None, Some(greeting))).unwrap();
        let peer = "192.0.2.7:4711".parse().ok();
        let addresses = Addresses { protocol: Protocol::Udp, peer, local: None };
        let mut buffer = Vec::new();
        templates.render(TemplateId::Udp, &mut buffer, |_, _| question(&addresses, received));
        (!templates.can_have_sent(TemplateId::Udp, received, false)).then_some(buffer)
    }

    #[test]
    fn over_udp_the_received_text_is_cut_before_the_end_of_the_greeting() {
        for (greeting, received, expected) in [
            ("{received}", "hello\n", "hello"),
            ("<{received}>", "0123456789", "<0123456>"),
            ("<{received}|{received}>", "0123456789", "<012|012>"),
            ("you said {received}", "hello", "you "),
            ("{received}", "\u{fc}\u{fc}", "\u{fc}"),
            ("\u{fc}{received}", "abc", "\u{fc}"),
            ("\u{fc}{received}", "ab", ""),
            ("{peer_ip}", "a", "192.0.2.7"),
        ] {
            assert_eq!(reply(greeting, received.as_bytes()).as_deref(), Some(expected.as_bytes()), "{greeting}");
        }
        assert_eq!(reply("{received}", b""), None);
        let longest = reply("{received}", &vec![b'a'; 65_507]).unwrap();
        assert_eq!(longest.len(), RECEIVED_BYTES_MAX);
    }

    proptest! {
        /// Two servers that reply to each other end, whatever their greetings with `{received}` are.
        #[test]
        fn over_udp_a_greeting_with_received_is_shorter_than_its_question(
            greeting in "([a-z{]|\u{fc}|\\{received\\}|\\{peer\\}|\\{json\\}){0,4}", received in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let greeting = greeting.replace('{', "{{").replace('}', "}}");
            let greeting = ["received", "peer", "json"].iter().fold(greeting, |text, name| {
                text.replace(&format!("{{{{{name}}}}}"), &format!("{{{name}}}"))
            });
            let greeting = format!("{greeting}{{received}}");
            match reply(&greeting, &received) {
                Some(reply) => prop_assert!(reply.len() < received.len()),
                None => prop_assert!(received.is_empty()),
            }
        }
    }
}
