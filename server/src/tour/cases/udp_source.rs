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

/// Replies without a limit that would have stopped them.
const REPLIES_MAX: u32 = 5_000;

/// The most time for them.
const LOOP_TIME: Duration = Duration::from_secs(5);

/// Datagrams on the way at the same time: with a single one, a round trip of 5 ms keeps a loop below every limit.
const IN_FLIGHT: usize = 16;

/// A loop that is not faster harms no host, in replies per second.
const HARMLESS_RATE: f64 = 200.0;

/// After this silence, or two round trips, a loop has ended: by a limit, or because its datagrams were lost.
const SILENCE: Duration = Duration::from_millis(200);

/// A loop that has ended is started again this often, for this long. A limit brings few replies more.
const RESTARTS: u32 = 2;
const RESTART_TIME: Duration = Duration::from_millis(1500);

/// A limit may let through this many times the first replies in each later second: it may count by the second.
const BURSTS_PER_SECOND: f64 = 1.5;

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
    Ok(match (wrong, loop_outcome) {
        (Some(_), _) => Verdict::fail(sent, came),
        (None, Outcome::Pass) if !has_second_address(target) => {
            let reason = "only one address could be asked; the tour asks a second one at 127.0.0.1";
            Verdict::cannot_be_judged(sent, format!("{came}; {reason}"))
        }
        (None, outcome) => Verdict { outcome, sent, came },
    })
}

/// Whether a second address is known, which the server may serve or refuse.
fn has_second_address(target: &Target) -> bool {
    target.udp.is_some_and(|first| first.is_ipv4() && first.ip().is_loopback())
}

/// The address of the target, and a second one that the same socket may serve. On Linux the loopback device has all
/// addresses 127.0.0.0/8; elsewhere the second one is refused.
fn asked_addresses(target: &Target) -> Vec<SocketAddr> {
    let mut asked: Vec<SocketAddr> = target.udp.into_iter().collect();
    if let Some(&first) = asked.first().filter(|_| has_second_address(target)) {
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
    let asked = Instant::now();
    let Some((mut payload, _)) = datagrams.ask(b"hello\n")? else {
        return Ok((Outcome::CannotBeJudged, "then no reply that could be sent back".to_owned()));
    };
    let silence = SILENCE.max(asked.elapsed() * 2);
    send_several(datagrams, &payload)?;
    let (mut replies, started) = (0, Instant::now());
    let mut stop: Option<Stop> = None;
    while replies < REPLIES_MAX && started.elapsed() < time_max {
        if let Some((reply, _)) = datagrams.receive_for(silence)? {
            replies += 1;
            payload = reply;
            datagrams.send(&payload)?;
            continue;
        }
        let stop = stop.get_or_insert(Stop { at: Instant::now(), replies, restarts: 0 });
        if stop.restarts >= RESTARTS && stop.at.elapsed() >= RESTART_TIME && stop.is_by_a_limit(replies) {
            return Ok((Outcome::Pass, stop.describe(replies)));
        }
        stop.restarts += 1;
        send_several(datagrams, &payload)?;
    }
    let text = format!("then replies to replies: {replies} in {:.0?}", started.elapsed());
    Ok(match stop {
        // A limit of thousands in a second is one, too.
        Some(stop) if stop.is_by_a_limit(replies) => (Outcome::Pass, stop.describe(replies)),
        _ if replies >= REPLIES_MAX => (Outcome::Fail, text + ", and no end"),
        Some(_) => (Outcome::CannotBeJudged, text + ": datagrams were lost, so no limit shows"),
        None => (Outcome::CannotBeJudged, text + ", and no end: too slow to reach a limit"),
    })
}

/// Sends so many datagrams that the loop does not wait for a round trip.
fn send_several(datagrams: &Datagrams, payload: &[u8]) -> io::Result<()> {
    (0..IN_FLIGHT).try_for_each(|_| datagrams.send(payload))
}

/// The first end of a loop.
struct Stop {
    at: Instant,
    /// Those before it.
    replies: u32,
    restarts: u32,
}

impl Stop {
    /// Whether the replies after it are so few that a limit explains them. After a loss, each restart brings as many.
    fn is_by_a_limit(&self, replies: u32) -> bool {
        let rate = f64::from(replies - self.replies) / self.at.elapsed().as_secs_f64();
        rate <= HARMLESS_RATE.max(f64::from(self.replies) * BURSTS_PER_SECOND)
    }

    fn describe(&self, replies: u32) -> String {
        let (first, more) = (self.replies, replies - self.replies);
        match more {
            0 => format!("then replies to replies: {first}, and no more"),
            _ => format!("then replies to replies: {first}, and {more} more in {:.1?}", self.at.elapsed()),
        }
    }
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
    use crate::cli::flags::tour_options::TourMode;
    use crate::tour::datagram_client::tests::{start_udp_server, target_without_udp};

    fn verdict(target: &Target) -> Verdict {
        attack(target).expect("a verdict")
    }

    #[test]
    fn a_server_that_replies_to_each_reply_fails() {
        let verdict = verdict(&start_udp_server(TourMode::Echo, |payload, source| Some((payload.to_vec(), source))));
        assert_eq!(verdict.outcome, Outcome::Fail, "{verdict:?}");
        assert!(verdict.came.contains("then replies to replies: 5000 in "), "{verdict:?}");
    }

    #[test]
    fn a_server_that_replies_to_each_reply_fails_also_when_some_datagrams_are_lost() {
        let mut count = 0;
        let target = start_udp_server(TourMode::Echo, move |payload, source| {
            count += 1;
            (count % 50 > 0).then(|| (payload.to_vec(), source))
        });
        let verdict = verdict(&target);
        assert_eq!(verdict.outcome, Outcome::Fail, "{verdict:?}");
    }

    #[test]
    fn a_server_with_a_limit_by_the_second_passes() {
        for limit in [100, 400] {
            let (started, mut second, mut count) = (Instant::now(), 0, 0);
            let target = start_udp_server(TourMode::Echo, move |payload, source| {
                let now = started.elapsed().as_secs();
                (second, count) = if now == second { (second, count + 1) } else { (now, 1) };
                (count <= limit).then(|| (payload.to_vec(), source))
            });
            let verdict = verdict(&target);
            assert_eq!(verdict.outcome, Outcome::Pass, "{verdict:?}");
        }
    }

    #[test]
    fn a_server_with_a_long_round_trip_is_not_taken_for_one_with_a_limit() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        let target = Target { udp: socket.local_addr().ok(), ..target_without_udp() };
        thread::spawn(move || {
            let mut buffer = [0; 100];
            while let Ok((bytes, source)) = socket.recv_from(&mut buffer) {
                let (socket, payload) = (socket.try_clone().expect("a socket"), buffer[..bytes].to_vec());
                thread::spawn(move || {
                    thread::sleep(Duration::from_millis(5));
                    socket.send_to(&payload, source)
                });
            }
        });
        let (outcome, text) = feed_back(&target.open_datagrams().expect("a client"), LOOP_TIME).expect("no error");
        // A busy machine may be too slow for so many replies.
        assert_ne!(outcome, Outcome::Pass, "{text}");
    }

    #[test]
    #[ignore = "needs IPv6"]
    fn a_right_server_at_an_address_without_a_second_one_cannot_be_judged() {
        let socket = UdpSocket::bind((std::net::Ipv6Addr::LOCALHOST, 0)).expect("a socket");
        let target = Target { udp: socket.local_addr().ok(), ..target_without_udp() };
        thread::spawn(move || {
            let mut buffer = [0; 100];
            for _ in 0..50 {
                let Ok((bytes, source)) = socket.recv_from(&mut buffer) else { return };
                let _ = socket.send_to(&buffer[..bytes], source);
            }
            loop {
                thread::park();
            }
        });
        let verdict = verdict(&target);
        assert_eq!(verdict.outcome, Outcome::CannotBeJudged, "{verdict:?}");
        assert!(verdict.came.contains("only one address could be asked"), "{verdict:?}");
    }

    #[test]
    fn a_greeter_that_answers_no_greeting_passes_also_at_one_address() {
        let target = start_udp_server(TourMode::Greet, |payload, source| {
            (payload != b"Hello!").then(|| (b"Hello!".to_vec(), source))
        });
        let verdict = verdict(&target);
        assert_eq!(verdict.outcome, Outcome::Pass, "{verdict:?}");
        assert!(verdict.came.ends_with("then replies to replies: 0, and no more"), "{verdict:?}");
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
    fn a_loop_at_a_low_rate_cannot_be_judged() {
        let target = start_udp_server(TourMode::Echo, |payload, source| {
            thread::park_timeout(Duration::from_millis(20));
            Some((payload.to_vec(), source))
        });
        let datagrams = target.open_datagrams().expect("a client");
        let (outcome, text) = feed_back(&datagrams, Duration::from_millis(300)).expect("no error");
        assert_eq!(outcome, Outcome::CannotBeJudged, "{text}");
    }

    #[test]
    fn without_a_udp_server_there_is_no_judgement() {
        assert_eq!(verdict(&target_without_udp()).outcome, Outcome::CannotBeJudged);
        let silent = Target { patience: Duration::from_millis(100), ..start_udp_server(TourMode::Echo, |_, _| None) };
        assert_eq!(verdict(&silent).outcome, Outcome::CannotBeJudged);
    }
}
