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
        "A UDP socket at 0.0.0.0 serves all addresses of the host, and the kernel chooses one for a reply.",
        "The twin replies with sendto, so the address that was asked is lost, and it has no limit on replies.",
        "The hostile client asked 127.0.0.2 and got the reply from 127.0.0.1; sent back, each reply brought a new reply.",
        "The right server reads the asked address from IP_PKTINFO, replies from it, and limits its replies to a source.",
        "In production, connected clients and firewalls drop such replies, and two servers answer each other without end.",
    ],
    reading: &[
        "ip(7), on IP_PKTINFO",
        "RFC 1122, section 3.3.4.2, on the source of a response",
        "CVE-2024-2169, on UDP servers that answer each other",
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
    let (loop_outcome, loop_text) = feed_back(&target.open_datagrams()?, LOOP_TIME)?;
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
fn feed_back(datagrams: &Datagrams, time_max: Duration) -> io::Result<(Outcome, String)> {
    let started = Instant::now();
    let (mut replies, mut payload) = (0, b"hello\n".to_vec());
    while replies < REPLIES_MAX && started.elapsed() < time_max {
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

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::thread;

    use super::*;
    use crate::cli::flags::TourMode;
    use crate::tour::datagram_client::tests::{start_udp_server, target_without_udp};

    fn verdict(target: &Target) -> Verdict {
        attack(target).expect("a verdict")
    }

    #[test]
    fn a_server_that_replies_to_each_reply_fails() {
        let verdict = verdict(&start_udp_server(TourMode::Echo, |payload, source| Some((payload.to_vec(), source))));
        // A busy machine may be too slow for so many replies.
        let is_slow = !verdict.came.contains(" 5000 in ");
        assert_eq!(verdict.outcome, if is_slow { Outcome::CannotBeJudged } else { Outcome::Fail }, "{verdict:?}");
    }

    #[test]
    fn a_greeter_that_answers_no_greeting_passes_also_at_one_address() {
        let target = start_udp_server(TourMode::Greet, |payload, source| {
            (payload != b"Hello!").then(|| (b"Hello!".to_vec(), source))
        });
        let verdict = verdict(&target);
        assert_eq!(verdict.outcome, Outcome::Pass, "{verdict:?}");
        assert!(verdict.came.ends_with("then replies to replies: 1, and no more"), "{verdict:?}");
    }

    #[test]
    fn a_reply_from_another_port_is_a_wrong_source() {
        let other = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        let other_address = other.local_addr().expect("an address");
        let target = start_udp_server(TourMode::Greet, move |payload, source| {
            let _ = other.send_to(payload, source);
            None
        });
        let verdict = verdict(&target);
        assert_eq!(verdict.outcome, Outcome::Fail, "{verdict:?}");
        assert!(verdict.came.contains(&format!("came from {other_address}")), "{verdict:?}");
    }

    #[test]
    fn a_loop_at_a_harmless_rate_passes() {
        let target = start_udp_server(TourMode::Echo, |payload, source| {
            thread::park_timeout(Duration::from_millis(20));
            Some((payload.to_vec(), source))
        });
        let datagrams = target.open_datagrams().expect("a client");
        let (outcome, text) = feed_back(&datagrams, Duration::from_millis(300)).expect("no error");
        assert_eq!(outcome, Outcome::Pass, "{text}");
    }

    #[test]
    fn without_a_udp_server_there_is_no_judgement() {
        assert_eq!(verdict(&target_without_udp()).outcome, Outcome::CannotBeJudged);
        let silent = Target { patience: Duration::from_millis(100), ..start_udp_server(TourMode::Echo, |_, _| None) };
        assert_eq!(verdict(&silent).outcome, Outcome::CannotBeJudged);
    }
}
