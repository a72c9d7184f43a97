//! Case 7: half-close.

use std::io;
use std::thread;
use std::time::Duration;

use halloo::CloseReason;
use mio::event::Event;

use crate::cli::flags::tour_options::TourMode;
use crate::text::escape;
use crate::tour::case::{Case, Verdict};
use crate::tour::client::{Client, End, SLOW_REPLY_MAX, Target};
use crate::tour::mio_server::connections::Key;
use crate::tour::mio_server::rules::Rules;
use crate::tour::mio_server::server::Server;
use crate::tour::positions::{Replies, receive_replies};

pub(super) const CASE: Case = Case {
    number: 7,
    name: "half-close",
    title: "half-close",
    mistake: "The server takes the client's FIN for the end of the connection, and closes it before the reply is sent.",
    explanation: [
        "A FIN ends one direction only: the client sends nothing more, and still receives.",
        "The twin closes as soon as an event reports the FIN, and does not read the input before it.",
        "The hostile client sent its last line and its FIN in one segment, and got no reply.",
        "The right server reads to the EOF, sends all replies, and closes then.",
        "In production a script that pipes its request into nc gets no reply, but only sometimes.",
    ],
    reading: &[
        "shutdown(2), section \"DESCRIPTION\", SHUT_WR",
        "epoll_ctl(2), section \"DESCRIPTION\", EPOLLRDHUP",
        "RFC 9293, section 3.6, on CLOSE",
        "RFC 1122, section 4.2.2.13, on half-closed connections",
    ],
    descriptors_max: None,
    attack,
    twin: &Twin,
};

/// Clients that send a line and a FIN: half of them before the server may have accepted them.
const CLIENTS: usize = 8;

/// Within this time a server greets at connect, or has accepted the client.
const ACCEPT_TIME: Duration = Duration::from_millis(50);

/// A server has begun with the slow request after this time, and has not ended it.
const WORK_BEGINS: Duration = Duration::from_millis(50);

/// What a client sends without reading: more than the buffers on the way hold, if its own are small.
const SENT_BYTES_MAX: usize = 1 << 20;

fn attack(target: &Target) -> io::Result<Verdict> {
    let sent = format!("{CLIENTS} clients each sent a line with a FIN");
    for number in 0..CLIENTS {
        let mut client = target.connect()?;
        if number % 2 == 1 {
            wait_for_accept(target, &mut client)?;
        }
        if let Some(came) = last_reply(target, &mut client, b"the last line\n")? {
            return Ok(Verdict::fail(sent, format!("{number} clients got their reply, and the next one got {came}")));
        }
    }
    if target.mode == TourMode::Greet {
        return greeting_verdict(target, sent);
    }
    let sent = format!("{sent}, and one more the slow request with a FIN");
    let mut client = target.with_patience(SLOW_REPLY_MAX).connect()?;
    if let Some(came) = last_reply(target, &mut client, &target.slow_request)? {
        let came = format!("the {CLIENTS} clients got their replies, and the one with the slow request got {came}");
        return Ok(Verdict::fail(sent, came));
    }
    if let Some(came) = reply_to_fin_during_work(target)? {
        let sent = format!("the slow request, and {} ms later a FIN", WORK_BEGINS.as_millis());
        return Ok(Verdict::fail(sent, came));
    }
    let (bytes, replies) = replies_after_fin(target)?;
    if !replies.are_complete {
        let sent = format!("{bytes} bytes and a FIN, and then the client began to read");
        return Ok(Verdict::fail(sent, replies.description));
    }
    let sent = format!("{sent}, another one its FIN during the slow work, and a last one {bytes} bytes before it read");
    Ok(Verdict::pass(sent, "each of them got its whole reply"))
}

/// Sends the FIN while the server works on the slow request. What came, if it is not the whole reply.
fn reply_to_fin_during_work(target: &Target) -> io::Result<Option<String>> {
    let mut client = target.with_patience(SLOW_REPLY_MAX).connect()?;
    client.send(&target.slow_request)?;
    thread::sleep(WORK_BEGINS);
    client.finish_sending()?;
    receive_last_reply(target, &mut client, &target.slow_request)
}

/// Sends much and a FIN, and reads when the server has most likely come to the FIN, with replies that wait for this client:
/// the bytes sent, and the replies.
fn replies_after_fin(target: &Target) -> io::Result<(usize, Replies)> {
    let mut client = target.connect_with_small_buffers()?;
    let text = client.send_until_full(SENT_BYTES_MAX)?;
    client.finish_sending()?;
    thread::sleep(ACCEPT_TIME);
    Ok((text.len(), receive_replies(&mut client, &text)?))
}

/// Waits until the server has most likely accepted the client, so that the line and the FIN are one event.
fn wait_for_accept(target: &Target, client: &mut Client) -> io::Result<()> {
    match target.mode {
        TourMode::Echo | TourMode::Line => client.exchange("hello").map(drop),
        TourMode::Greet => {
            thread::sleep(ACCEPT_TIME);
            Ok(())
        }
    }
}

/// Sends the last line with a FIN. What came, if it is not the whole reply.
fn last_reply(target: &Target, client: &mut Client, line: &[u8]) -> io::Result<Option<String>> {
    client.send_last(line)?;
    receive_last_reply(target, client, line)
}

/// What came, if it is not the whole reply to this line.
fn receive_last_reply(target: &Target, client: &mut Client, line: &[u8]) -> io::Result<Option<String>> {
    let received = client.receive_reply_to(line)?;
    let end = match received.end {
        _ if target.mode == TourMode::Greet && !received.bytes.is_empty() => return Ok(None),
        End::Complete if target.mode == TourMode::Echo && received.bytes != line => "as the reply",
        End::Complete => return Ok(None),
        End::Eof => "and then EOF",
        End::Reset => "and then an RST",
        End::Silence => "and then nothing more",
    };
    Ok(Some(format!("{} {end}", bytes_text(&received.bytes))))
}

/// A number of bytes, with the bytes.
fn bytes_text(bytes: &[u8]) -> String {
    if bytes.is_empty() { "no byte".to_owned() } else { format!("{} bytes ({})", bytes.len(), escape::text(bytes)) }
}

/// A greeting that comes at connect does not depend on the input, nor on the FIN after it.
fn greeting_verdict(target: &Target, sent: String) -> io::Result<Verdict> {
    let mut client = target.connect()?;
    if client.receive_for(ACCEPT_TIME, &mut |bytes| !bytes.is_empty())?.bytes.is_empty() {
        return Ok(Verdict::pass(sent, "each of them got its greeting"));
    }
    Ok(Verdict::cannot_be_judged(
        sent,
        "each of them got its greeting, but that comes at connect, before the FIN; an echo or line mode shows more",
    ))
}

/// The server with this mistake.
struct Twin;

impl Rules for Twin {
    fn on_event(&self, server: &mut Server, key: Key, event: &Event) -> io::Result<()> {
        if event.is_read_closed() {
            // The client has closed: it needs nothing more.
            server.close(key, CloseReason::Eof);
            return Ok(());
        }
        server.serve(key)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;
    use crate::tour::case::Outcome;
    use crate::tour::client::tests::start_server;

    /// Sends each read back, as `reply` changes it.
    fn echo(mut stream: TcpStream, reply: fn(&[u8]) -> Vec<u8>) {
        let mut buffer = [0; 100];
        while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
            let _ = stream.write_all(&reply(&buffer[..bytes]));
        }
    }

    #[test]
    fn a_server_that_drops_a_slow_request_at_the_fin_fails() {
        let mut target = start_server(TourMode::Echo, |stream| {
            echo(stream, |input| if input == b"work 300\n" { Vec::new() } else { input.to_vec() });
        });
        target.slow_request = b"work 300\n".to_vec();
        let verdict = attack(&target).expect("a verdict");
        let came = "the 8 clients got their replies, and the one with the slow request got no byte and then EOF";
        assert_eq!((verdict.outcome, verdict.came.as_str()), (Outcome::Fail, came));
    }

    #[test]
    fn a_server_that_ends_the_slow_work_at_a_later_fin_fails() {
        fn has_fin(stream: &TcpStream) -> bool {
            let _ = stream.set_nonblocking(true);
            let has_fin = matches!(stream.peek(&mut [0]), Ok(0));
            let _ = stream.set_nonblocking(false);
            has_fin
        }
        let mut target = start_server(TourMode::Echo, |mut stream| {
            let mut buffer = [0; 100];
            while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
                // The FIN of the client that sends both at once is there already.
                thread::sleep(Duration::from_millis(20));
                let came_with_input = has_fin(&stream);
                thread::sleep(Duration::from_millis(if &buffer[..bytes] == b"work 300\n" { 280 } else { 0 }));
                if has_fin(&stream) && !came_with_input {
                    return;
                }
                let _ = stream.write_all(&buffer[..bytes]);
            }
        });
        target.slow_request = b"work 300\n".to_vec();
        let verdict = attack(&target).expect("a verdict");
        let expected = (Outcome::Fail, "the slow request, and 50 ms later a FIN", "no byte and then EOF");
        assert_eq!((verdict.outcome, verdict.sent.as_str(), verdict.came.as_str()), expected);
    }

    #[test]
    fn a_server_that_drops_the_replies_that_wait_at_the_fin_fails() {
        let mut target = start_server(TourMode::Echo, |mut stream| {
            let (mut buffer, mut output) = (vec![0; 4096], Vec::new());
            while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
                output.extend_from_slice(&buffer[..bytes]);
                let _ = stream.set_nonblocking(true);
                while let Ok(bytes @ 1..) = stream.write(&output) {
                    output.drain(..bytes);
                }
                let _ = stream.set_nonblocking(false);
            }
        });
        target.slow_request = b"work 300\n".to_vec();
        let verdict = attack(&target).expect("a verdict");
        assert_eq!(verdict.outcome, Outcome::Fail, "{verdict:?}");
        assert!(verdict.sent.ends_with(" and a FIN, and then the client began to read"), "{verdict:?}");
        assert!(verdict.came.ends_with(", then EOF"), "{verdict:?}");
    }

    #[test]
    fn another_text_as_the_last_reply_fails() {
        let target = start_server(TourMode::Echo, |stream| {
            echo(stream, |input| if input == b"hello\n" { input.to_vec() } else { input.to_ascii_uppercase() });
        });
        let verdict = attack(&target).expect("a verdict");
        let came = "0 clients got their reply, and the next one got 14 bytes (THE LAST LINE\\n) as the reply";
        assert_eq!((verdict.outcome, verdict.came.as_str()), (Outcome::Fail, came));
    }

    #[test]
    fn a_greeting_is_judged_only_if_it_waits_for_input() {
        let at_once = start_server(TourMode::Greet, |mut stream| {
            let _ = stream.write_all(b"hello\n");
            echo(stream, |_| Vec::new());
        });
        assert_eq!(attack(&at_once).expect("a verdict").outcome, Outcome::CannotBeJudged);
        let after_input = start_server(TourMode::Greet, |stream| echo(stream, |_| b"hello\n".to_vec()));
        assert_eq!(attack(&after_input).expect("a verdict").outcome, Outcome::Pass);
        let at_fin = start_server(TourMode::Greet, |stream| echo(stream, |_| Vec::new()));
        let verdict = attack(&at_fin).expect("a verdict");
        let came = "0 clients got their reply, and the next one got no byte and then EOF";
        assert_eq!((verdict.outcome, verdict.came.as_str()), (Outcome::Fail, came));
    }
}
