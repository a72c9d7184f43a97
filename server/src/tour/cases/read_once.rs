//! Case 3: read without draining.

use std::io::{self, Read};
use std::thread;
use std::time::Duration;

use crate::cli::flags::tour_options::TourMode;
use crate::tour::case::{Case, Verdict};
use crate::tour::client::{Client, End, SLOW_REPLY_MAX, Target};
use crate::tour::mio_server::connections::Key;
use crate::tour::mio_server::rules::Rules;
use crate::tour::mio_server::server::Server;
use crate::tour::positions::{LINE_BYTES, Replies, extend_text, receive_replies};

pub(super) const CASE: Case = Case {
    number: 3,
    name: "read-once",
    title: "read without draining",
    mistake: "The server makes one read for each event, and leaves what did not fit its buffer.",
    explanation: [
        "An edge-triggered poll reports that input has arrived, once, and not that input is still there.",
        "The twin makes one read of at most 512 bytes for each event, and then waits for the next one.",
        "The hostile client sent 256 KiB in one go, got a part of it back, and then nothing.",
        "The right server reads until the kernel returns EAGAIN, or remembers that there is more to read.",
        "In production every short request works, and a long one hangs until its client gives up.",
    ],
    reading: &[
        "epoll(7), section \"Level-triggered and edge-triggered\"",
        "epoll(7), section \"Questions and answers\", on EAGAIN and EPOLLET",
        "recv(2), section \"ERRORS\", EAGAIN",
    ],
    descriptors_max: None,
    attack,
    twin: &Twin,
};

/// What the client sends at once, in KiB, each time after the reply to what came before: far more than one read takes, more
/// than what many reads take, and little enough for the send buffer of a server.
const BURSTS: [usize; 5] = [256, 96, 300, 1000, 700];

/// A server does not read on during its slow request, or holds what follows it: then all of it waits.
const WAITING_KIB: [usize; 2] = [300, 700];

/// A server has begun with the slow request after this time, and has not ended it.
const WORK_BEGINS: Duration = Duration::from_millis(50);

fn attack(target: &Target) -> io::Result<Verdict> {
    if target.mode == TourMode::Greet {
        return attack_greeting(target, &text_of(BURSTS[0]));
    }
    let mut client = target.connect()?;
    for (bursts_before, kib) in BURSTS.into_iter().enumerate() {
        let text = text_of(kib);
        let replies = client.send_while(&text, |client| receive_replies(client, &text))?;
        if !replies.are_complete {
            let lines = text.len() / LINE_BYTES;
            let burst = match target.mode {
                TourMode::Line => format!("{lines} lines of {LINE_BYTES} bytes"),
                TourMode::Echo | TourMode::Greet => format!("{kib} KiB"),
            };
            let before = if bursts_before == 0 { "" } else { ", after the replies to smaller and larger bursts" };
            return Ok(Verdict::fail(format!("{burst} in one go, while reading{before}"), replies.description));
        }
    }
    for kib in WAITING_KIB {
        let Some(replies) = replies_after_work(target, &mut client, kib)? else { break };
        if !replies.are_complete {
            let sent = format!("the slow request, and during its work {kib} KiB in one go, while reading");
            return Ok(Verdict::fail(sent, replies.description));
        }
    }
    let (last, bursts) = (BURSTS[BURSTS.len() - 1], &BURSTS[..BURSTS.len() - 1]);
    let bursts = bursts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let came = if target.mode == TourMode::Line { "a reply to each line" } else { "all bytes, in order" };
    Ok(Verdict::pass(format!("bursts of {bursts} and {last} KiB, each in one go, while reading"), came))
}

/// The replies to what was sent during the slow request. `None` without the reply to that: other cases are about it.
fn replies_after_work(target: &Target, client: &mut Client, kib: usize) -> io::Result<Option<Replies>> {
    if target.mode != TourMode::Echo {
        return Ok(None);
    }
    client.send(&target.slow_request)?;
    thread::sleep(WORK_BEGINS);
    let text = text_of(kib);
    client.send_while(&text, |client| {
        let mut slow_reply = vec![0; target.slow_request.len()];
        client.stream.set_read_timeout(Some(SLOW_REPLY_MAX))?;
        match client.stream.read_exact(&mut slow_reply) {
            Ok(()) if slow_reply == target.slow_request => receive_replies(client, &text).map(Some),
            _ => Ok(None),
        }
    })
}

/// A text of so many KiB.
fn text_of(kib: usize) -> Vec<u8> {
    let mut text = Vec::new();
    extend_text(&mut text, kib * 1024);
    text
}

/// A server that has greeted still has to read until the FIN.
fn attack_greeting(target: &Target, text: &[u8]) -> io::Result<Verdict> {
    let mut client = target.connect()?;
    if client.exchange_to_end("hello")? != End::Silence {
        let reason = "the server closes after its greeting and reads no long input; an echo or line mode shows more";
        return Ok(Verdict::cannot_be_judged("a line", reason));
    }
    let sent = "a line and, after the greeting, a FIN";
    client.finish_sending()?;
    if client.receive_to_eof()?.end == End::Silence {
        let reason = "the connection stays open after the FIN: case 4 has to pass first";
        return Ok(Verdict::cannot_be_judged(sent, reason));
    }
    let sent = "a line and, after the greeting, 256 KiB and a FIN";
    let mut client = target.connect()?;
    client.exchange("hello")?;
    // The server may have closed, as after each greeting; then the end of the connection shows that.
    let _ = client.send(text).and_then(|()| client.finish_sending());
    Ok(match client.receive_to_eof()?.end {
        End::Silence => Verdict::fail(sent, format!("no EOF within {:?}: input was left unread", target.patience)),
        End::Reset => Verdict::cannot_be_judged(sent, "a reset: the server closed before it had read everything"),
        End::Eof | End::Complete => Verdict::pass(sent, "EOF: the server has read everything"),
    })
}

/// The server with this mistake.
struct Twin;

impl Rules for Twin {
    fn read_input(&self, server: &mut Server, key: Key) -> io::Result<()> {
        // One event, one read. What it leaves is not reported again.
        self.read_once(server, key).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpStream;

    use super::*;
    use crate::tour::case::Outcome;
    use crate::tour::client::tests::start_server;

    fn outcome_of(mode: TourMode, serve: fn(TcpStream)) -> Outcome {
        attack(&start_server(mode, serve)).expect("a verdict").outcome
    }

    #[test]
    fn a_greeter_passes_if_it_reads_to_the_fin() {
        let reads_all = |mut stream: TcpStream| {
            let _ = stream.write_all(b"hello");
            let _ = io::copy(&mut stream, &mut io::sink());
        };
        assert_eq!(outcome_of(TourMode::Greet, reads_all), Outcome::Pass);
        let closes = |mut stream: TcpStream| drop(stream.write_all(b"hello"));
        assert_eq!(outcome_of(TourMode::Greet, closes), Outcome::CannotBeJudged);
    }

    #[test]
    fn a_server_that_forgets_what_waits_after_slow_work_fails() {
        let mut target = start_server(TourMode::Echo, |mut stream| {
            let mut buffer = vec![0; 4096];
            while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
                let _ = stream.write_all(&buffer[..bytes]);
                if buffer.starts_with(b"work 300\n") {
                    thread::park_timeout(Duration::from_secs(60));
                }
            }
        });
        target.slow_request = b"work 300\n".to_vec();
        target.patience = Duration::from_secs(2);
        let verdict = attack(&target).expect("a verdict");
        let expected = "the slow request, and during its work 300 KiB in one go, while reading";
        assert_eq!((verdict.outcome, verdict.sent.as_str()), (Outcome::Fail, expected), "{verdict:?}");
    }

    #[test]
    fn a_server_of_lines_fails_if_it_reads_once() {
        let reads_once = |mut stream: TcpStream| {
            let bytes = stream.read(&mut [0; 2048]).unwrap_or_default();
            let _ = stream.write_all(&b"ok\n".repeat(bytes / LINE_BYTES));
            loop {
                std::thread::park();
            }
        };
        let mut target = start_server(TourMode::Line, reads_once);
        target.patience = std::time::Duration::from_millis(100);
        let verdict = attack(&target).expect("a verdict");
        assert_eq!(verdict.outcome, Outcome::Fail);
        assert!(verdict.came.ends_with("of 1024 lines, then nothing for 100ms"), "{verdict:?}");
    }
}
