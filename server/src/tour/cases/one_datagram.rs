//! Case 2: one datagram per event.

use std::io;
use std::time::Duration;

use crate::tour::case::{Case, Verdict};
use crate::tour::client::Target;
use crate::tour::datagram_client::Datagrams;
use crate::tour::mio_server::rules::Rules;
use crate::tour::mio_server::server::Server;

pub(super) const CASE: Case = Case {
    number: 2,
    name: "one-datagram",
    title: "one datagram per event",
    mistake: "The server receives one datagram for each event of its UDP socket, although one event may stand for many.",
    explanation: [
        "Edge-triggered epoll reports that datagrams have arrived, once, and not how many wait in the receive buffer.",
        "The twin receives one datagram for each event, and leaves the rest in the receive buffer.",
        "The hostile client sent a burst, and the missing replies came only with later datagrams, one for each.",
        "The right server receives until EAGAIN; after a limit it goes on in its next turn without an event.",
        "In production, replies lag behind by a number of requests, and clients time out although the server is idle.",
    ],
    reading: &["epoll(7), section Questions and answers, Q9", "recv(2), on EAGAIN", "udp(7)"],
    descriptors_max: None,
    attack,
    twin: &Twin,
};

/// Datagrams that arrive at the same time: few enough for any receive buffer.
const DATAGRAMS: usize = 24;

/// Each of them.
const DATAGRAM: &[u8] = b"one of many\n";

/// Bursts, which a fast server may receive one by one. All together stay below 100 replies a second.
const BURSTS: usize = 3;

/// Bursts without all replies, after which there is no judgement.
const INCOMPLETE_MAX: usize = 3;

/// Bursts whose last replies came only with one more datagram: so many are no chance.
const LATE_MAX: usize = 2;

/// After this silence no more replies come by themselves.
const SILENCE: Duration = Duration::from_millis(500);

fn attack(target: &Target) -> io::Result<Verdict> {
    let sent = format!("{BURSTS} bursts of {DATAGRAMS} datagrams");
    if target.refuses_datagrams() {
        return Ok(Verdict::cannot_be_judged("a datagram", "an error: nothing serves UDP at this address"));
    }
    if target.open_datagrams()?.ask(b"hello\n")?.is_none() {
        return Ok(Verdict::cannot_be_judged("a datagram, and the same again", "no reply, so a burst proves nothing"));
    }
    let (mut complete, mut incomplete, mut lost, mut late_bursts) = (0, 0, 0, 0);
    while complete < BURSTS {
        // New ports, so that no late reply is taken for one to this burst.
        let (socket, other) = (target.open_datagrams()?, target.open_datagrams()?);
        let missing = DATAGRAMS - replies_to_burst(&socket)?;
        if missing == 0 {
            complete += 1;
            continue;
        }
        // A reply goes to the port that asked, so one to the first port belongs to an older datagram.
        other.send(b"one more\n")?;
        let older = count_replies(&socket, missing)?;
        let itself = usize::from(older > 0 && other.receive()?.is_some());
        late_bursts += usize::from(older > 0);
        // A machine that stood still delays replies once. Without a reply to the one more, they are late by a datagram.
        if older > 0 && (itself == 0 || late_bursts == LATE_MAX) {
            let sent = format!("a burst of {DATAGRAMS} datagrams, and one more from another port");
            let replies = DATAGRAMS - missing;
            let came = format!(
                "replies: {replies}, then none for {SILENCE:?}; with the one more came {older} to the burst and {itself} to \
                 itself"
            );
            return Ok(Verdict::fail(sent, came));
        }
        (incomplete, lost) = (incomplete + 1, lost + missing);
        if incomplete == INCOMPLETE_MAX {
            let reason =
                format!("{lost} datagrams got no reply, later ones did: a loss or a rate limit; try it nearby");
            return Ok(Verdict::cannot_be_judged(sent, reason));
        }
    }
    Ok(Verdict::pass(sent, "a reply to each datagram"))
}

/// Sends a burst, and counts the replies until all are there or none comes.
fn replies_to_burst(socket: &Datagrams) -> io::Result<usize> {
    socket.send_burst(DATAGRAM, DATAGRAMS)?;
    count_replies(socket, DATAGRAMS)
}

/// Counts replies until there are this many or no more come.
fn count_replies(socket: &Datagrams, replies_max: usize) -> io::Result<usize> {
    let mut replies = 0;
    while replies < replies_max && socket.receive_for(SILENCE)?.is_some() {
        replies += 1;
    }
    Ok(replies)
}

/// The server with this mistake.
struct Twin;

impl Rules for Twin {
    fn receive_datagrams(&self, server: &mut Server) {
        // One event, one datagram. Those that came with it are not reported again.
        let _ = server.receive_datagram();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::net::{Ipv4Addr, UdpSocket};
    use std::thread;

    use super::*;
    use crate::cli::flags::tour_options::TourMode;
    use crate::tour::case::Outcome;
    use crate::tour::datagram_client::tests::{start_udp_server, target_without_udp};

    fn outcome(target: &Target) -> Outcome {
        attack(target).expect("a verdict").outcome
    }

    #[test]
    fn replies_that_lag_behind_are_the_mistake_whatever_their_text() {
        let (mut waiting, mut count) = (VecDeque::new(), 0);
        let target = start_udp_server(TourMode::Greet, move |_, source| {
            // Eight datagrams without a reply of their own: from then on each brings the reply to an earlier one.
            waiting.push_back((b"Hello!".to_vec(), source));
            count += 1;
            if (10..18).contains(&count) { None } else { waiting.pop_front() }
        });
        assert_eq!(outcome(&target), Outcome::Fail);
    }

    #[test]
    fn the_rest_of_a_burst_that_comes_with_one_more_datagram_is_the_mistake() {
        let (mut waiting, mut burst) = (Vec::new(), 0);
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        let mut target = target_without_udp();
        target.udp = socket.local_addr().ok();
        thread::spawn(move || {
            let mut buffer = [0; 100];
            while let Ok((bytes, source)) = socket.recv_from(&mut buffer) {
                waiting.push((buffer[..bytes].to_vec(), source));
                burst = if &buffer[..bytes] == DATAGRAM { burst + 1 } else { 0 };
                // After 16 datagrams of a burst the rest waits for the next event.
                if burst <= 16 {
                    for (payload, to) in waiting.drain(..) {
                        let _ = socket.send_to(&payload, to);
                    }
                }
            }
        });
        let verdict = attack(&target).expect("a verdict");
        assert_eq!(verdict.outcome, Outcome::Fail, "{verdict:?}");
        assert!(verdict.came.ends_with("with the one more came 8 to the burst and 1 to itself"), "{verdict:?}");
    }

    #[test]
    fn datagrams_that_are_lost_are_no_mistake() {
        let mut count = 0;
        let target = start_udp_server(TourMode::Echo, move |payload, source| {
            count += 1;
            (count % 10 != 5).then(|| (payload.to_vec(), source))
        });
        assert_eq!(outcome(&target), Outcome::CannotBeJudged);
    }

    #[test]
    fn a_greeter_that_replies_to_each_datagram_passes() {
        let target = start_udp_server(TourMode::Greet, |_, source| Some((b"Hello!".to_vec(), source)));
        assert_eq!(outcome(&target), Outcome::Pass);
    }

    #[test]
    fn without_a_udp_server_there_is_no_judgement() {
        assert_eq!(outcome(&target_without_udp()), Outcome::CannotBeJudged);
        let silent = start_udp_server(TourMode::Echo, |_, _| None);
        let silent = Target { patience: Duration::from_millis(100), ..silent };
        assert_eq!(outcome(&silent), Outcome::CannotBeJudged);
    }
}
