//! Case 4: EOF taken for "nothing now".

use std::io;

use crate::cli::flags::tour_options::TourMode;
use crate::tour::case::{Case, Verdict};
use crate::tour::client::{End, Received, SILENCE, Target};
use crate::tour::mio_server::connections::Key;
use crate::tour::mio_server::rules::{Flow, Rules};
use crate::tour::mio_server::server::Server;

pub(super) const CASE: Case = Case {
    number: 4,
    name: "ignored-eof",
    title: "EOF taken for \"nothing now\"",
    mistake: "The server takes a read of 0 bytes for \"nothing now\", and keeps the connection.",
    explanation: [
        "A read of 0 bytes means that the client has sent a FIN: no input comes any more.",
        "The twin takes it for \"nothing now\", which is EAGAIN, and waits for an event that never comes.",
        "The hostile client sent a FIN and got none back: at the server its connection stays open.",
        "The right server sends what is left, closes the connection, and so frees its descriptor.",
        "In production connections in state CLOSE_WAIT pile up, until accept fails with EMFILE.",
    ],
    reading: &[
        "read(2), section \"RETURN VALUE\"",
        "recv(2), section \"RETURN VALUE\"",
        "RFC 9293, section 3.6, \"Closing a Connection\"",
    ],
    descriptors_max: None,
    attack,
    twin: &Twin,
};

/// What a client receives of a server that waits for input.
const NOTHING: Received = Received { bytes: Vec::new(), end: End::Silence };

fn attack(target: &Target) -> io::Result<Verdict> {
    let sent = "a line and, after its reply, a FIN";
    let mut client = target.connect()?;
    let reply_end = client.exchange_to_end("hello")?;
    client.finish_sending()?;
    let first_end = client.receive_to_eof()?.end;
    if first_end == End::Silence {
        return Ok(Verdict::fail(sent, describe_leak(target)));
    }
    let mut silent = target.connect()?;
    // A greeting at connect, and the end after it, owe nothing to a FIN.
    let waits = target.mode != TourMode::Greet || silent.receive_for(SILENCE, &mut |_| false)? == NOTHING;
    silent.finish_sending()?;
    let second_end = silent.receive_to_eof()?.end;
    if second_end == End::Silence {
        return Ok(Verdict::fail("a FIN, and nothing before it", describe_leak(target)));
    }
    let sent = format!("{sent}; from another client only a FIN");
    if waits || reply_end == End::Silence {
        return Ok(Verdict::pass(sent, describe_ends(first_end, second_end)));
    }
    let reason = "the server closes before it can see a FIN; an echo or line mode shows more";
    Ok(Verdict::cannot_be_judged(sent, reason))
}

/// A reset frees the descriptor, too.
fn describe_ends(first: End, second: End) -> &'static str {
    match (first == End::Reset, second == End::Reset) {
        (false, false) => "EOF to both",
        (true, true) => "a reset to both",
        (true, false) => "a reset to the first, EOF to the second",
        (false, true) => "EOF to the first, a reset to the second",
    }
}

fn describe_leak(target: &Target) -> String {
    let patience = target.patience;
    format!("no EOF within {patience:?}: each such client costs the server a descriptor until it ends")
}

/// The server with this mistake.
struct Twin;

impl Rules for Twin {
    fn at_eof(&self, _: &mut Server, _: Key) -> Flow {
        // Nothing was read, so there is nothing now.
        Flow::Stop
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::time::Duration;

    use socket2::SockRef;

    use super::*;
    use crate::tour::case::Outcome;
    use crate::tour::client::tests::start_server;

    #[test]
    fn a_greeter_that_closes_by_itself_is_judged_only_if_it_waits_for_input() {
        let at_once = start_server(TourMode::Greet, |mut stream: TcpStream| drop(stream.write_all(b"hello")));
        assert_eq!(attack(&at_once).expect("a verdict").outcome, Outcome::CannotBeJudged);
        let after_input = start_server(TourMode::Greet, |mut stream: TcpStream| {
            // Also after a FIN.
            let _ = stream.read(&mut [0; 100]);
            let _ = stream.write_all(b"hello");
        });
        assert_eq!(attack(&after_input).expect("a verdict").outcome, Outcome::Pass);
    }

    #[test]
    fn a_reset_after_the_fin_passes_and_is_named() {
        let target = start_server(TourMode::Echo, |mut stream: TcpStream| {
            let mut buffer = [0; 100];
            while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
                let _ = stream.write_all(&buffer[..bytes]);
            }
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        });
        let verdict = attack(&target).expect("a verdict");
        assert_eq!((verdict.outcome, verdict.came.as_str()), (Outcome::Pass, "a reset to both"));
    }

    /// Replies to each read with a line. After so many of them the connection stays open.
    fn keep_open_after(mut reads: u32, mut stream: TcpStream) {
        while reads > 0 && stream.read(&mut [0; 100]).is_ok_and(|bytes| bytes > 0) {
            let _ = stream.write_all(b"ok\n");
            reads -= 1;
        }
        if reads == 0 {
            loop {
                std::thread::park();
            }
        }
    }

    #[test]
    fn a_server_of_lines_that_keeps_a_connection_fails() {
        let mut after_a_line = start_server(TourMode::Line, |stream| keep_open_after(1, stream));
        let mut before_it = start_server(TourMode::Line, |stream| {
            let bytes = stream.peek(&mut [0]).unwrap_or_default();
            keep_open_after(if bytes == 0 { 0 } else { 9 }, stream);
        });
        for (target, sent) in [
            (&mut after_a_line, "a line and, after its reply, a FIN"),
            (&mut before_it, "a FIN, and nothing before it"),
        ] {
            target.patience = Duration::from_millis(500);
            let verdict = attack(target).expect("a verdict");
            assert_eq!((verdict.outcome, verdict.sent.as_str()), (Outcome::Fail, sent));
            assert!(verdict.came.starts_with("no EOF within 500ms"), "{verdict:?}");
        }
    }
}
