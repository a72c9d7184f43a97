//! A DNS server for one small zone, over UDP and TCP.
//!
//! `cargo run --release -p protocols --bin dns_stub`, then `dig @127.0.0.1 -p 5353 www.halloo.test`, also with `+tcp`.
//! An argument sets another listen address.
//!
//! Both transports use the same zone. An answer too long for UDP is sent empty with the TC bit. The client then asks
//! again over TCP.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use domain::base::iana::{Opcode, OptRcode, Rcode, Rtype};
use domain::base::message_builder::{AdditionalBuilder, StaticCompressor};
use domain::base::{Message, MessageBuilder, Name, Serial, ToName, Ttl};
use domain::rdata::{A, Aaaa, Soa};
use halloo::framing::{self, ByteOrder, Format};
use halloo::{Bind, EventLoop, Listen, datagrams};

/// A query over TCP: one question and some options. A connection that announces a longer one is closed.
const QUERY_BYTES_MAX: usize = 4096;

/// An answer over TCP, with its length prefix.
const ANSWER_BYTES_MAX: usize = 2 + u16::MAX as usize;

/// Over TCP each message has a length prefix (RFC 1035 section 4.2.2).
const FORMAT: Format = Format::LengthU16(ByteOrder::BigEndian);

/// The payload that passes on every path (DNS flag day 2020), and the one without EDNS (RFC 1035 section 4.2.1).
const DATAGRAM_BYTES_MAX: u16 = 1232;
const DATAGRAM_BYTES_MIN: u16 = 512;

/// The bytes that EDNS adds to an answer: an OPT record without options (RFC 6891 section 6.1.2).
const OPT_BYTES: usize = 11;

const TTL: Ttl = Ttl::from_secs(300);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address: SocketAddr = std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:5353").parse()?;
    let zone = Zone::new()?;
    let mut events = EventLoop::new()?;
    // A query is delivered while half of the outbox is free, so its answer always fits.
    let at = Listen::from(address).outbox_bytes_max(2 * ANSWER_BYTES_MAX);
    let answer_frame = framing::frames(FORMAT, QUERY_BYTES_MAX, |connection, query| {
        let answer = zone.answer(query, false);
        if answer.is_none_or(|answer| FORMAT.send(connection, &answer).is_err()) {
            connection.close();
        }
    });
    let listener = events.listen(at, answer_frame)?;
    let address = events.local_addr(listener)?;
    // The source of a datagram may be forged. The rate limit protects the victim from a flood of answers.
    let at = Bind::from(address).replies_per_source_per_second_max(1000);
    let answer_datagram = datagrams(|datagram, query| {
        if let Some(answer) = zone.answer(query, true) {
            let _ = datagram.reply(&answer);
        }
    });
    events.bind(at, answer_datagram)?;
    println!("Listening on {address}");
    events.run()?;
    Ok(())
}

// ---- the zone -------------------------------------------------------------------------------------------------------

/// Names are compared without regard to case, by `domain`.
type OwnName = Name<Vec<u8>>;
type Target = StaticCompressor<Vec<u8>>;

/// The addresses of the names in the zone.
struct Zone {
    apex: OwnName,
    addresses: HashMap<OwnName, Vec<IpAddr>>,
}

impl Zone {
    fn new() -> Result<Self, Box<dyn std::error::Error>> {
        let (v4, v6) = (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST));
        let addresses = HashMap::from([
            ("halloo.test.".parse()?, vec![v4, v6]),
            ("www.halloo.test.".parse()?, vec![v4, v6]),
            ("v4.halloo.test.".parse()?, vec![v4]),
            // More addresses than a datagram has room for.
            ("many.halloo.test.".parse()?, (0..100).map(|host| Ipv4Addr::new(192, 0, 2, host).into()).collect()),
        ]);
        Ok(Self { apex: "halloo.test.".parse()?, addresses })
    }

    /// Returns the answer, or `None` to anything but a query. Two servers must not answer each other.
    fn answer(&self, query: &[u8], is_datagram: bool) -> Option<Vec<u8>> {
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
        // The SOA record sets for how long resolvers cache a negative answer (RFC 2308).
        if is_empty && rcode != Rcode::REFUSED {
            authority.push((&self.apex, TTL, &soa)).ok()?;
        }
        Some(authority.additional())
    }
}
