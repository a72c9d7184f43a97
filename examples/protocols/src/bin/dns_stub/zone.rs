//! One small zone, and the answers to queries about it. Pure: a message in, a message out.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use domain::base::iana::{Opcode, OptRcode, Rcode, Rtype};
use domain::base::message_builder::{AdditionalBuilder, StaticCompressor};
use domain::base::{Message, MessageBuilder, Name, Serial, ToName, Ttl};
use domain::rdata::{A, Aaaa, Soa};

/// What fits a datagram on every path (DNS flag day 2020), and what fits without EDNS (RFC 1035 section 4.2.1).
const DATAGRAM_BYTES_MAX: u16 = 1232;
const DATAGRAM_BYTES_MIN: u16 = 512;

/// What EDNS adds to an answer: an OPT record without options (RFC 6891 section 6.1.2).
const OPT_BYTES: usize = 11;

const TTL: Ttl = Ttl::from_secs(300);

/// Names are compared without regard to case, by `domain`.
type OwnName = Name<Vec<u8>>;
type Target = StaticCompressor<Vec<u8>>;

pub(crate) struct Zone {
    apex: OwnName,
    addresses: HashMap<OwnName, Vec<IpAddr>>,
}

impl Zone {
    pub(crate) fn new() -> Result<Self, Box<dyn std::error::Error>> {
        let (v4, v6) = (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST));
        let addresses = HashMap::from([
            ("halloo.test.".parse()?, vec![v4, v6]),
            ("www.halloo.test.".parse()?, vec![v4, v6]),
            ("v4.halloo.test.".parse()?, vec![v4]),
            // More than a datagram has room for.
            ("many.halloo.test.".parse()?, (0..100).map(|host| Ipv4Addr::new(192, 0, 2, host).into()).collect()),
        ]);
        Ok(Self { apex: "halloo.test.".parse()?, addresses })
    }

    /// The answer to a query; `None` to what is none, an answer above all: two servers shall not answer each other.
    pub(crate) fn answer(&self, query: &[u8], is_datagram: bool) -> Option<Vec<u8>> {
        let query = Message::from_octets(query).ok().filter(|query| !query.header().qr())?;
        let edns = query.opt();
        let room = match &edns {
            _ if !is_datagram => u16::MAX,
            Some(edns) => edns.udp_payload_size().clamp(DATAGRAM_BYTES_MIN, DATAGRAM_BYTES_MAX),
            None => DATAGRAM_BYTES_MIN,
        };
        let mut builder = MessageBuilder::from_target(StaticCompressor::new(Vec::with_capacity(512))).ok()?;
        builder.set_push_limit(usize::from(room) - OPT_BYTES);
        let is_too_new = edns.as_ref().is_some_and(|edns| edns.version() > 0);
        let mut answer = match query.header().opcode() {
            _ if is_too_new => builder.start_error(&query, Rcode::NOERROR).additional(),
            Opcode::QUERY => self.look_up(&query, builder)?,
            _ => builder.start_error(&query, Rcode::NOTIMP).additional(),
        };
        if edns.is_some() {
            answer.clear_push_limit();
            let opt = answer.opt(|opt| {
                opt.set_udp_payload_size(DATAGRAM_BYTES_MAX);
                if is_too_new {
                    opt.set_rcode(OptRcode::BADVERS);
                }
                Ok(())
            });
            opt.ok()?;
        }
        Some(answer.finish().into_target())
    }

    fn look_up(&self, query: &Message<&[u8]>, builder: MessageBuilder<Target>) -> Option<AdditionalBuilder<Target>> {
        let Ok(question) = query.sole_question() else {
            return Some(builder.start_error(query, Rcode::FORMERR).additional());
        };
        let (name, rtype): (OwnName, _) = (question.qname().to_name(), question.qtype());
        let addresses = self.addresses.get(&name);
        let rcode = match addresses {
            _ if !name.ends_with(&self.apex) => Rcode::REFUSED,
            Some(_) => Rcode::NOERROR,
            None => Rcode::NXDOMAIN,
        };
        let mut answer = builder.start_answer(query, rcode).ok()?;
        answer.header_mut().set_aa(rcode != Rcode::REFUSED);
        for address in addresses.into_iter().flatten() {
            let pushed = match *address {
                IpAddr::V4(v4) if matches!(rtype, Rtype::A | Rtype::ANY) => answer.push((&name, TTL, A::new(v4))),
                IpAddr::V6(v6) if matches!(rtype, Rtype::AAAA | Rtype::ANY) => answer.push((&name, TTL, Aaaa::new(v6))),
                _ => Ok(()),
            };
            if pushed.is_err() {
                return Some(answer.tc_rewind_into().additional());
            }
        }
        let soa = Soa::new(&self.apex, &self.apex, Serial(1), TTL, TTL, TTL, TTL);
        if rtype == Rtype::SOA && name == self.apex {
            answer.push((&self.apex, TTL, &soa)).ok()?;
        }
        let is_empty = answer.counts().ancount() == 0;
        let mut authority = answer.authority();
        // It tells resolvers for how long to remember that there is nothing (RFC 2308).
        if is_empty && rcode != Rcode::REFUSED {
            authority.push((&self.apex, TTL, &soa)).ok()?;
        }
        Some(authority.additional())
    }
}
