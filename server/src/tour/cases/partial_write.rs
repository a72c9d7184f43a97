//! Case 5: partial write lost.

use std::io::{self, ErrorKind, Write};

use crate::cli::flags::tour_options::TourMode;
use crate::tour::case::{Case, Verdict};
use crate::tour::client::Target;
use crate::tour::mio_server::connections::Connection;
use crate::tour::mio_server::rules::Rules;
use crate::tour::positions::receive_replies_with_one_more;

pub(super) const CASE: Case = Case {
    number: 5,
    name: "partial-write",
    title: "partial write lost",
    mistake: "The server takes a write for complete, and drops what the kernel did not accept.",
    explanation: [
        "A write to a non-blocking socket accepts what fits into the send buffer, and returns how much that was.",
        "The twin ignores this number and clears its output, so the rest is never sent.",
        "The hostile client sent without reading, then read, and found bytes missing in the middle.",
        "The right server keeps the rest, writes it when the socket is writable, and reads no more meanwhile.",
        "In production long replies arrive damaged or too short, and only at clients that read slowly.",
    ],
    reading: &[
        "write(2), section \"RETURN VALUE\"",
        "send(2), section \"DESCRIPTION\", nonblocking I/O mode",
        "epoll(7), section \"Questions and answers\", on EAGAIN and EPOLLET",
    ],
    descriptors_max: None,
    attack,
    twin: &Twin,
};

/// What clients send without reading, one after the other, until the buffers on the way do not hold it.
const SENT_BYTES_MAX: [usize; 3] = [1 << 20, 4 << 20, 16 << 20];

/// More than the send buffer of a server holds, as kernels are set up.
const REPLY_BYTES_MIN: usize = 8 << 20;

/// Why there is no judgement on a server that ends the connection: no byte is missing before its end.
const CLOSES_UNREAD: &str = "the server closes clients that do not read";

fn attack(target: &Target) -> io::Result<Verdict> {
    if target.mode == TourMode::Greet {
        let reason = "a greeting is too short to fill the send buffer of a server; an echo or line mode shows more";
        return Ok(Verdict::cannot_be_judged("nothing", reason));
    }
    let (mut sent, mut came, mut bytes) = (String::new(), String::new(), 0);
    for bytes_max in SENT_BYTES_MAX {
        let mut client = target.connect_with_small_buffers()?;
        let text = match client.send_until_full(bytes_max) {
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                let sent = format!("up to {bytes_max} bytes without reading");
                return Ok(Verdict::cannot_be_judged(sent, CLOSES_UNREAD));
            }
            result => result?,
        };
        let is_full = text.len() < bytes_max;
        let until = if is_full { ", until the server took no more" } else { "" };
        sent = format!("{} bytes without reading{until}", text.len());
        let replies = receive_replies_with_one_more(&mut client, text)?;
        if replies.was_closed {
            return Ok(Verdict::cannot_be_judged(sent, format!("{}: {CLOSES_UNREAD}", replies.description)));
        }
        if !replies.are_complete {
            return Ok(Verdict::fail(sent, replies.description));
        }
        (came, bytes) = (replies.description, replies.bytes);
        if is_full {
            return Ok(Verdict::pass(sent, came));
        }
    }
    if bytes >= REPLY_BYTES_MIN {
        return Ok(Verdict::pass(sent, came));
    }
    let reason = format!("{came}, which are {bytes} bytes; only longer replies fill the send buffer of a server");
    Ok(Verdict::cannot_be_judged(sent, reason))
}

/// The server with this mistake.
struct Twin;

impl Rules for Twin {
    fn write_output(&self, connection: &mut Connection) -> io::Result<()> {
        // The kernel has it now: whatever it accepted of it.
        let _ = connection.stream.write(&connection.output);
        connection.output.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read};
    use std::net::{Shutdown, TcpStream};
    use std::thread;
    use std::time::Duration;

    use socket2::SockRef;

    use super::*;
    use crate::tour::case::Outcome;
    use crate::tour::client::tests::start_server;

    #[test]
    fn short_replies_to_lines_give_no_evidence() {
        let target = start_server(TourMode::Line, |stream| {
            let reader = BufReader::new(&stream);
            for _ in reader.lines().map_while(Result::ok) {
                let _ = (&stream).write_all(b"ok\n");
            }
        });
        let verdict = attack(&target).expect("a verdict");
        assert_eq!(verdict.outcome, Outcome::CannotBeJudged, "{verdict:?}");
    }

    /// Sends back the first 256 KiB.
    fn echo_a_part(stream: &TcpStream) {
        let _ = io::copy(&mut stream.take(256 << 10), &mut &*stream);
    }

    #[test]
    fn only_a_server_that_keeps_the_connection_has_lost_the_rest() {
        let with_rst = start_server(TourMode::Echo, |stream| {
            echo_a_part(&stream);
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        });
        let with_fin = start_server(TourMode::Echo, |stream| {
            echo_a_part(&stream);
            let _ = stream.shutdown(Shutdown::Write);
            let _ = io::copy(&mut &stream, &mut io::sink());
        });
        let mut silent = start_server(TourMode::Echo, |stream| {
            echo_a_part(&stream);
            loop {
                thread::park();
            }
        });
        silent.patience = Duration::from_millis(500);
        let cut = Outcome::CannotBeJudged;
        for (target, outcome) in [(with_rst, cut), (with_fin, cut), (silent, Outcome::Fail)] {
            let verdict = attack(&target).expect("a verdict");
            assert_eq!(verdict.outcome, outcome, "{verdict:?}");
        }
    }

    #[test]
    fn a_greeting_gives_no_evidence() {
        let target = start_server(TourMode::Greet, |mut stream| drop(stream.write_all(b"hello")));
        assert_eq!(attack(&target).expect("a verdict").outcome, Outcome::CannotBeJudged);
    }
}
