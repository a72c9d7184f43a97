//! The kinds of faults, and the event of one.
//!
//! It names the client and the fault that it met.

use std::io::Write;
use std::time::{Duration, SystemTime};

use crate::text::bound_address::Addresses;
use crate::text::duration::{format_elapsed, format_json_millis};
use crate::text::escape;
use crate::text::greeting_event::{write_json_client, write_json_head, write_text_client, write_text_head};
use crate::text::protocol::Protocol;

/// Makes the enum and its words from one list.
macro_rules! fault_kinds {
    ($($(#[$docs:meta])* $kind:ident = $word:literal;)*) => {
        /// What the server does wrong on purpose. The words are stable, for events and metrics.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum FaultKind {
            $($(#[$docs])* $kind,)*
        }

        impl FaultKind {
            /// All kinds, in the order of the counters.
            pub(crate) const ALL: [Self; [$($word),*].len()] = [$(Self::$kind),*];

            /// One word, for events and metrics.
            pub(crate) const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => $word,)*
                }
            }
        }
    };
}

fault_kinds! {
    /// Each reply is sent later.
    Delay = "delay";
    /// An RST after some bytes of the reply.
    Reset = "reset";
    /// The first half of the first reply, then a FIN.
    Half = "half";
    /// The reply a few bytes at a time.
    Dribble = "dribble";
    /// No reply and no FIN.
    Silence = "silence";
    /// An RST instead of service.
    Refuse = "refuse";
    /// A datagram gets no reply.
    Drop = "drop";
    /// The reply is sent twice.
    Duplicate = "duplicate";
    /// The reply is sent after the next one.
    Reorder = "reorder";
    /// Only the first bytes of a datagram's reply are sent.
    Truncate = "truncate";
}

impl FaultKind {
    /// Whether clients over this protocol can meet it.
    pub(crate) const fn fits(self, protocol: Protocol) -> bool {
        match self {
            Self::Delay => true,
            Self::Reset | Self::Half | Self::Dribble | Self::Silence | Self::Refuse => {
                !matches!(protocol, Protocol::Udp)
            }
            Self::Drop | Self::Duplicate | Self::Reorder | Self::Truncate => matches!(protocol, Protocol::Udp),
        }
    }

    /// Whether it changes a reply, so that it has no effect where none is sent.
    pub(crate) const fn needs_reply(self) -> bool {
        !matches!(self, Self::Reset | Self::Silence | Self::Refuse)
    }
}

/// An event: the reply to a client was delayed, cut or dropped on purpose.
#[derive(Debug)]
pub(crate) struct FaultEvent {
    time: SystemTime,
    addresses: Addresses,
    fault: &'static str,
    rule: String,
    delay: Option<Duration>,
}

impl FaultEvent {
    /// An event of this moment; `rule` is the fault as it was given, and `delay` the time of a delay.
    pub(crate) fn new(addresses: Addresses, fault: &'static str, rule: String, delay: Option<Duration>) -> Self {
        Self { time: SystemTime::now(), addresses, fault, rule, delay }
    }

    /// Appends the time, `tcp 127.0.0.1:50514 fault=delay delay=120ms` and a newline.
    pub(crate) fn write_text(&self, buffer: &mut Vec<u8>) {
        write_text_head(buffer, self.time);
        write_text_client(buffer, &self.addresses);
        // Writing into a vector cannot fail, here and below.
        let _ = write!(buffer, "fault={}", self.fault);
        if let Some(delay) = self.delay {
            let _ = write!(buffer, " delay={}", format_elapsed(delay));
        }
        buffer.push(b'\n');
    }

    /// Appends one JSON object and a newline.
    pub(crate) fn write_json(&self, buffer: &mut Vec<u8>) {
        write_json_head(buffer, "fault", self.time);
        write_json_client(buffer, &self.addresses);
        let rule = escape::json(self.rule.as_bytes());
        let _ = write!(buffer, ",\"fault\":\"{}\",\"rule\":{rule}", self.fault);
        if let Some(delay) = self.delay {
            let _ = write!(buffer, ",\"delay_ms\":{}", format_json_millis(delay));
        }
        buffer.extend_from_slice(b"}\n");
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::path::Path;
    use std::time::Duration;

    use serde_json::Value;

    use super::FaultEvent;
    use crate::text::bound_address::{Addresses, BoundAddress};
    use crate::text::protocol::Protocol;

    fn lines(event: &FaultEvent) -> [String; 2] {
        let (mut text, mut json) = (Vec::new(), Vec::new());
        event.write_text(&mut text);
        event.write_json(&mut json);
        [text, json].map(|line| String::from_utf8(line).unwrap())
    }

    #[test]
    fn a_delay_is_printed_in_milliseconds() {
        let (peer, local): (SocketAddr, SocketAddr) = (([127, 0, 0, 1], 5).into(), ([127, 0, 0, 1], 80).into());
        let addresses = Addresses { protocol: Protocol::Tcp, peer: Some(peer), local: Some(local.into()) };
        let [text, json] = lines(&FaultEvent::new(
            addresses,
            "delay",
            "delay=100ms..150ms".to_owned(),
            Some(Duration::from_micros(120_045)),
        ));
        assert!(text.ends_with("tcp 127.0.0.1:5 fault=delay delay=120ms\n"), "{text}");
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&json["event"], &json["fault"]), (&"fault".into(), &"delay".into()));
        assert_eq!(json["rule"], "delay=100ms..150ms");
        assert_eq!((&json["peer"], &json["local"]), (&"127.0.0.1:5".into(), &"127.0.0.1:80".into()));
        assert_eq!(json["delay_ms"].as_f64(), Some(120.045));
    }

    #[test]
    fn another_fault_has_no_delay_and_a_unix_socket_its_path() {
        let local = Some(BoundAddress::from_path(Path::new("/run/a.sock")));
        let addresses = Addresses { protocol: Protocol::Unix, peer: None, local };
        let [text, json] = lines(&FaultEvent::new(addresses, "half", "half,share=1%".to_owned(), None));
        assert!(text.ends_with("unix /run/a.sock fault=half\n"), "{text}");
        assert!(
            json.ends_with("\"peer\":null,\"local\":\"/run/a.sock\",\"fault\":\"half\",\"rule\":\"half,share=1%\"}\n"),
            "{json}"
        );
    }
}
