//! Case 3: read without draining.

use std::io;

use crate::cli::flags::TourMode;
use crate::tour::case::{Case, Verdict};
use crate::tour::client::{End, Target};
use crate::tour::mio_server::connections::Key;
use crate::tour::mio_server::rules::Rules;
use crate::tour::mio_server::server::Server;
use crate::tour::positions::{extend_text, receive_replies};

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

/// What the client sends: far more than one read takes, and little enough for the send buffer of a server.
const BYTES: usize = 256 * 1024;

fn attack(target: &Target) -> io::Result<Verdict> {
    let mut text = Vec::new();
    extend_text(&mut text, BYTES);
    let sent = match target.mode {
        TourMode::Echo => "256 KiB in one go, while reading",
        TourMode::Line => "1024 lines of 256 bytes in one go, while reading",
        TourMode::Greet => return attack_greeting(target, &text),
    };
    let mut client = target.connect()?;
    let replies = client.send_while(&text, |client| receive_replies(client, &text))?;
    Ok(if replies.are_complete {
        Verdict::pass(sent, replies.description)
    } else {
        Verdict::fail(sent, replies.description)
    })
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
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;
    use crate::tour::case::Outcome;
    use crate::tour::client::tests::start_server;
    use crate::tour::positions::LINE_BYTES;

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
