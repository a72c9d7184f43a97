//! Case 11: a slow handler.

use std::io;
use std::thread;
use std::time::Duration;

use crate::cli::flags::tour_options::TourMode;
use crate::text::escape;
use crate::tour::case::{Case, Verdict};
use crate::tour::client::{End, NO_SLOW_REQUEST, Regular, SECOND_CLIENT, SLOW_REPLY_MAX, SLOW_REPLY_MIN, Target};
use crate::tour::mio_server::connections::Key;
use crate::tour::mio_server::rules::Rules;
use crate::tour::mio_server::server::{SLOW_REQUEST, SLOW_REQUEST_TIME, Server};

pub(super) const CASE: Case = Case {
    number: 11,
    name: "slow-handler",
    title: "a slow handler",
    mistake: "The server does slow work on the thread of its loop, and serves no other client meanwhile.",
    explanation: [
        "The kernel reports events only to a thread that calls epoll_wait(2), and a thread in a callback does not.",
        "The twin waits 300 ms for the result in the callback, as a server with a thread for each client may.",
        "The hostile client sent the slow request, and the line of another client got no reply until that was done.",
        "The right server gives the work to another thread, whose result is a message that wakes the poll.",
        "In production one slow query or name lookup stops all clients, while the processor is idle.",
    ],
    reading: &[
        "epoll(7), section \"Example for suggested usage\"",
        "eventfd(2), section \"NOTES\", on epoll",
        "getaddrinfo_a(3), a name lookup that does not wait",
    ],
    descriptors_max: None,
    attack,
    twin: &Twin,
};

/// A busy machine may delay any reply once. So the shortest slow request and the shortest wait count.
const ROUNDS: usize = 3;

/// The other client waits this long between two lines.
const PAUSE: Duration = Duration::from_millis(10);

/// A server has begun with the slow request after this time, and has not ended it.
const WORK_BEGINS: Duration = Duration::from_millis(50);

/// What a client sends during the work.
const MEANWHILE: &[u8] = b"meanwhile\n";

fn attack(target: &Target) -> io::Result<Verdict> {
    if let Some(came) = target.missing_reply_of_second_client()? {
        return Ok(Verdict::fail(SECOND_CLIENT, came));
    }
    let line = target.slow_line();
    let sent = format!("a client sent the slow request \"{line}\", and meanwhile another client a line every 10 ms");
    let (mut shortest_slow, mut shortest_wait) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        let round = try_round(target)?;
        let slow = match round.slow {
            Ok(slow) if slow >= SLOW_REPLY_MIN => slow,
            Ok(slow) => {
                let came = format!(
                    "no request of this server is slow, the reply came within {} ms; {NO_SLOW_REQUEST}",
                    slow.as_millis()
                );
                return Ok(Verdict::cannot_be_judged(sent, came));
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Ok(Verdict::fail(sent, format!("for the slow request, {error}")));
            }
            Err(error) => {
                let came = format!("this server has no slow request ({error}); {NO_SLOW_REQUEST}");
                return Ok(Verdict::cannot_be_judged(sent, came));
            }
        };
        shortest_slow = shortest_slow.min(slow);
        shortest_wait = shortest_wait.min(round.longest_wait);
        if round.longest_wait <= slow / 4 {
            break;
        }
    }
    let (slow, wait) = (shortest_slow.as_millis(), shortest_wait.as_millis());
    let came = format!("the slow request got its reply after {slow} ms, and the other client waited up to {wait} ms");
    if shortest_wait > shortest_slow / 2 {
        return Ok(Verdict::fail(sent, format!("{came}, in each of {ROUNDS} tries")));
    }
    if let Some(missing) = missing_reply_after_work(target)? {
        let sent =
            format!("the slow request \"{line}\", {} ms later a line, and a line after that", WORK_BEGINS.as_millis());
        return Ok(Verdict::fail(sent, missing));
    }
    Ok(Verdict::pass(sent, came))
}

/// A line that came during the work is answered after it, and so is the next one. What is wrong, if one is not.
fn missing_reply_after_work(target: &Target) -> io::Result<Option<String>> {
    if target.mode == TourMode::Greet {
        return Ok(None);
    }
    let mut client = target.connect()?;
    client.exchange("hello")?;
    client.send(&target.slow_request)?;
    thread::sleep(WORK_BEGINS);
    client.send(MEANWHILE)?;
    let expected = [&target.slow_request, MEANWHILE].concat();
    let lines = |bytes: &[u8]| bytes.split(|byte| *byte == b'\n').count() - 1;
    let mut received = client.receive_for(SLOW_REPLY_MAX, &mut |bytes| lines(bytes) >= 1)?;
    if received.end == End::Complete {
        received = client.receive_more(received.bytes, target.patience, &mut |bytes| lines(bytes) >= 2)?;
    }
    let count = lines(&received.bytes);
    if received.end != End::Complete {
        let error = client.missing_reply(&received);
        return Ok(Some(format!("replies to {count} of the first 2 lines; then {error}")));
    }
    if target.mode == TourMode::Echo && received.bytes != expected {
        return Ok(Some(format!("another text as the replies: \"{}\"", escape::text(&received.bytes))));
    }
    Ok(client
        .exchange("hello again")
        .err()
        .map(|error| format!("replies to the first 2 lines; to the last one, {error}")))
}

struct Round {
    /// The time of the slow request.
    slow: io::Result<Duration>,
    /// The longest that the other client waited for a reply meanwhile.
    longest_wait: Duration,
}

fn try_round(target: &Target) -> io::Result<Round> {
    let patient = target.with_patience(SLOW_REPLY_MAX);
    let mut other = Regular::new(&patient)?;
    other.exchange("hello")?;
    let mut slow = Regular::new(&patient)?;
    if target.mode != TourMode::Greet {
        slow.exchange("hello")?;
    }
    thread::scope(|scope| {
        let work = scope.spawn(|| slow.exchange(&target.slow_line()));
        let mut longest_wait = Duration::ZERO;
        while !work.is_finished() {
            longest_wait = longest_wait.max(other.exchange("hello")?);
            thread::sleep(PAUSE);
        }
        let slow = work.join().unwrap_or_else(|_| Err(io::Error::other("the client has panicked")));
        Ok(Round { slow, longest_wait })
    })
}

/// The server with this mistake.
struct Twin;

impl Rules for Twin {
    fn slow_request(&self, server: &mut Server, key: Key) {
        // The client waits for it, so the server does, too.
        thread::sleep(SLOW_REQUEST_TIME);
        if let Some(connection) = server.connections.find(key) {
            connection.output.extend_from_slice(SLOW_REQUEST);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;
    use crate::tour::case::Outcome;
    use crate::tour::client::tests::start_server;

    /// Replies to each read.
    fn serve(mut stream: TcpStream, reply: fn(&[u8]) -> Option<Vec<u8>>) {
        let mut buffer = [0; 100];
        while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
            let Some(reply) = reply(&buffer[..bytes]) else { return };
            let _ = stream.write_all(&reply);
        }
    }

    fn attack_server(mode: TourMode, server: fn(TcpStream)) -> Verdict {
        let mut target = start_server(mode, server);
        target.slow_request = b"work 300\n".to_vec();
        attack(&target).expect("a verdict")
    }

    #[test]
    fn without_a_slow_request_there_is_no_verdict() {
        let same_speed = attack_server(TourMode::Echo, |stream| serve(stream, |input| Some(input.to_vec())));
        let unknown = attack_server(TourMode::Line, |stream| {
            serve(stream, |input| (input == b"hello\n").then(|| b"ok\n".to_vec()));
        });
        let greeting = attack_server(TourMode::Greet, |mut stream| drop(stream.write_all(b"hello\n")));
        for verdict in [same_speed, unknown, greeting] {
            assert_eq!(verdict.outcome, Outcome::CannotBeJudged);
            assert!(verdict.came.ends_with(NO_SLOW_REQUEST), "{verdict:?}");
        }
    }

    #[test]
    fn a_slow_request_with_a_wrong_reply_is_a_failure() {
        let verdict = attack_server(TourMode::Echo, |stream| {
            serve(stream, |input| Some(if input == b"hello\n" { input.to_vec() } else { b"done 300\n".to_vec() }));
        });
        let came = "for the slow request, the reply was another text";
        assert_eq!((verdict.outcome, verdict.came.as_str()), (Outcome::Fail, came));
    }

    #[test]
    fn a_server_that_forgets_what_came_during_the_work_fails() {
        let verdict = attack_server(TourMode::Echo, |mut stream| {
            let mut buffer = [0; 100];
            while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
                if &buffer[..bytes] == b"work 300\n" {
                    thread::sleep(Duration::from_millis(300));
                    let _ = stream.set_nonblocking(true);
                    let _ = stream.read(&mut [0; 100]);
                    let _ = stream.set_nonblocking(false);
                }
                let _ = stream.write_all(&buffer[..bytes]);
            }
        });
        let came = "replies to 1 of the first 2 lines; then no reply within 10s";
        assert_eq!((verdict.outcome, verdict.came.as_str()), (Outcome::Fail, came));
    }

    #[test]
    fn slow_work_on_a_thread_of_its_own_passes_in_each_mode() {
        for mode in [TourMode::Echo, TourMode::Line, TourMode::Greet] {
            let verdict = attack_server(mode, |stream| {
                serve(stream, |input| {
                    if input == b"work 300\n" {
                        thread::sleep(Duration::from_millis(300));
                    }
                    Some(input.to_vec())
                });
            });
            assert_eq!(verdict.outcome, Outcome::Pass, "{mode:?} {verdict:?}");
        }
    }
}
