//! Case 12: wrong UDP source address, and UDP loops.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use crate::tour::case::{Case, Outcome, Verdict};
use crate::tour::client::Target;
use crate::tour::datagram_client::Datagrams;
use crate::tour::mio_server::datagrams::Received;
use crate::tour::mio_server::rules::Rules;
use crate::tour::mio_server::server::Server;

pub(super) const CASE: Case = Case {
    number: 12,
    name: "udp-source",
    title: "wrong UDP source address, and UDP loops",
    mistake: "The server replies from an address that was not asked, and replies to everything, at any rate.",
    explanation: [
        "A UDP socket at 0.0.0.0 receives from all addresses of the host, and for a reply the kernel chooses one of them.",
        "The twin replies with sendto, so the address that was asked is lost, and it has no limit on replies.",
        "The hostile client asked 127.0.0.2 and got the reply from 127.0.0.1; sent back, each reply brought a new reply.",
        "The right server reads the asked address from IP_PKTINFO, replies from it, and limits its replies to a source.",
        "In production, connected clients and firewalls drop such replies, and two servers answer each other without end.",
    ],
    reading: &[
        "ip(7), on IP_PKTINFO",
        "RFC 1123, section 6.1.3.2, and RFC 1122, section 4.1.3.5",
        "RFC 8085, section 3.1, on rate limits; CVE-2024-2169, on loops",
    ],
    descriptors_max: None,
    attack,
    twin: &Twin,
};

/// Replies in a row, which no limit has stopped.
const REPLIES_MAX: u32 = 5_000;

/// The most time for them.
const LOOP_TIME: Duration = Duration::from_secs(5);

/// A loop that is not faster harms no host, in replies per second.
const HARMLESS_RATE: f64 = 200.0;

/// After this silence a loop has ended.
const SILENCE: Duration = Duration::from_secs(1);

fn attack(target: &Target) -> io::Result<Verdict> {
    if target.refuses_datagrams() {
        return Ok(Verdict::cannot_be_judged("a datagram", "an error: nothing serves UDP at this address"));
    }
    let asked = asked_addresses(target);
    let mut sources = Vec::new();
    for &server in &asked {
        let datagrams = Target { udp: Some(server), ..target.clone() }.open_datagrams()?;
        // Without a reply the server may be bound to the other address.
        sources.extend(datagrams.ask(b"hello\n")?.map(|(_, source)| (server, source)));
    }
    let names = asked.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and to ");
    if sources.is_empty() {
        return Ok(Verdict::cannot_be_judged(format!("a datagram to {names}"), "no reply"));
    }
    let is_right = |(server, source): &(SocketAddr, SocketAddr)| {
        // An IPv6 address may have a scope, too.
        (server.ip(), server.port()) == (source.ip(), source.port())
    };
    let wrong = sources.into_iter().find(|pair| !is_right(pair));
    let source_text = match wrong {
        None => "each reply came from the address that was asked".to_owned(),
        Some((server, source)) => format!("the reply to the datagram for {server} came from {source}"),
    };
    let (loop_outcome, loop_text) = feed_back(&target.open_datagrams()?)?;
    let sent = format!("a datagram to {names}; then each reply was sent back to the server");
    let came = format!("{source_text}; {loop_text}");
    Ok(Verdict { outcome: if wrong.is_some() { Outcome::Fail } else { loop_outcome }, sent, came })
}

/// The address of the target, and a second one that the same socket may serve. On Linux the loopback device has all
/// addresses 127.0.0.0/8; elsewhere the second one is refused.
fn asked_addresses(target: &Target) -> Vec<SocketAddr> {
    let mut asked: Vec<SocketAddr> = target.udp.into_iter().collect();
    if let Some(&first) = asked.first().filter(|first| first.is_ipv4() && first.ip().is_loopback()) {
        let other = if first.ip() == ipv4(2) { ipv4(1) } else { ipv4(2) };
        let second = SocketAddr::new(other, first.port());
        if !(Target { udp: Some(second), ..target.clone() }.refuses_datagrams()) {
            asked.push(second);
        }
    }
    asked
}

/// An address of the loopback device.
fn ipv4(number: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, number).into()
}

/// Sends each reply back, as another server does that replies to everything.
fn feed_back(datagrams: &Datagrams) -> io::Result<(Outcome, String)> {
    let started = Instant::now();
    let (mut replies, mut payload) = (0, b"hello\n".to_vec());
    while replies < REPLIES_MAX && started.elapsed() < LOOP_TIME {
        datagrams.send(&payload)?;
        match datagrams.receive_for(SILENCE)? {
            Some((reply, _)) => payload = reply,
            None => return Ok((Outcome::Pass, format!("then replies to replies: {replies}, and no more"))),
        }
        replies += 1;
    }
    let took = started.elapsed();
    let text = format!("then replies to replies: {replies} in {took:.0?}, and no end");
    Ok(if replies == REPLIES_MAX {
        (Outcome::Fail, text)
    } else if f64::from(replies) < took.as_secs_f64() * HARMLESS_RATE {
        (Outcome::Pass, text + ", but at a harmless rate")
    } else {
        (Outcome::CannotBeJudged, text + ": too slow to reach its limit")
    })
}

/// The server with this mistake.
struct Twin;

impl Rules for Twin {
    fn reply(&self, server: &mut Server, datagram: &Received) {
        // Back to where it came from.
        server.udp.send_to(&datagram.payload, datagram.source);
    }
}
