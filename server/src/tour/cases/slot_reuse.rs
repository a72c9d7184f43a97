//! Case 9: slot reuse.

use std::io;
use std::time::{Duration, Instant};

use crate::cli::flags::tour_options::TourMode;
use crate::text::escape;
use crate::tour::case::{Case, Verdict};
use crate::tour::client::{
    Client, End, NO_SLOW_REQUEST, Regular, SECOND_CLIENT, SLOW_REPLY_MAX, SLOW_REPLY_MIN, Target,
};
use crate::tour::mio_server::connections::{Connection, Key};
use crate::tour::mio_server::rules::Rules;

pub(super) const CASE: Case = Case {
    number: 9,
    name: "slot-reuse",
    title: "slot reuse",
    mistake: "The server finds a connection by its slot alone, and so the next client there gets a late result.",
    explanation: [
        "The kernel gives the lowest free descriptor to the next client, and a slab reuses its slots likewise.",
        "The twin checks only that the slot is in use when the result of a slow request comes.",
        "The hostile client sent the slow request and reset the connection, and the next client got its reply.",
        "The right server keeps a generation with each slot, and drops a result whose key has an older one.",
        "In production one customer sees the page of another, once in a million requests and in no test.",
    ],
    reading: &[
        "open(2), section \"DESCRIPTION\", on the lowest-numbered file descriptor",
        "epoll(7), section \"Possible pitfalls and ways to avoid them\", on an event cache",
        "close(2), section \"Multithreaded processes and close()\"",
    ],
    descriptors_max: None,
    attack,
    twin: &Twin,
};

/// Clients that reset their connections, each followed by another client.
const PAIRS: usize = 4;

/// Bytes that a client sends without reading the replies, to a server without a slow request.
const UNREAD_BYTES: usize = 1 << 20;

/// The replies to earlier clients come within this time after they are due.
const LATE: Duration = Duration::from_millis(200);

/// The next clients must be left alone for at least this long.
const QUIET_MIN: Duration = Duration::from_millis(500);

/// Why there is no judgement on a server with a short idle timeout.
const ALL_ENDED: &str = "the server closed each new client after the reply to its own line: an idle timeout?";

fn attack(target: &Target) -> io::Result<Verdict> {
    if target.mode == TourMode::Greet {
        let reason = "a greeting does not show which client it is for; an echo or line mode shows more";
        return Ok(Verdict::cannot_be_judged("nothing", reason));
    }
    if let Some(came) = target.missing_reply_of_second_client()? {
        return Ok(Verdict::cannot_be_judged(SECOND_CLIENT, came));
    }
    let patient = target.with_patience(SLOW_REPLY_MAX);
    let mut kept = Regular::new(&patient)?;
    kept.exchange("hello")?;
    match kept.exchange(&target.slow_line()) {
        Ok(slow) if slow >= SLOW_REPLY_MIN => reset_slow_requests(&patient, &mut kept, slow),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(error),
        // The server does not take long for that line, or does not know it.
        Ok(_) | Err(_) => reset_unread_replies(target),
    }
}

/// Each client resets its connection while its slow request is worked on, and the next one gets its slot.
fn reset_slow_requests(target: &Target, kept: &mut Regular, slow: Duration) -> io::Result<Verdict> {
    let sent = format!(
        "{PAIRS} clients sent the slow request and reset their connections, and after each a new one sent a line"
    );
    let mut next_clients = Vec::new();
    for number in 0..PAIRS {
        let mut client = target.connect()?;
        client.exchange("hello")?;
        client.send(&target.slow_request)?;
        // After this reply the server has read the request, too.
        kept.exchange("hello")?;
        client.reset()?;
        // And now it has seen the reset.
        kept.exchange("hello")?;
        next_clients.push(connect_next(target, number)?);
    }
    let quiet_until = Instant::now() + (slow + LATE).max(QUIET_MIN);
    Ok(match unexpected(target, &mut next_clients, quiet_until)? {
        // The end of the server is the end of all its clients.
        Unexpected::Bytes(_) | Unexpected::AllEnded if target.is_gone() => {
            return Err(io::Error::other("the server is gone (connection refused)"));
        }
        Unexpected::Bytes(came) => Verdict::fail(sent, came),
        Unexpected::AllEnded => Verdict::cannot_be_judged(sent, ALL_ENDED),
        Unexpected::Nothing => Verdict::pass(sent, "each new client got the reply to its own line, and nothing else"),
    })
}

/// Each client resets its connection while replies to it wait, and the next one gets its slot.
fn reset_unread_replies(target: &Target) -> io::Result<Verdict> {
    let sent = format!(
        "{PAIRS} clients sent 1 MiB, read no reply and reset their connections, and after each a new one sent a line"
    );
    let lines = b"a line whose reply is not read\n".repeat(UNREAD_BYTES / 31);
    let hurried = target.with_patience(LATE);
    let mut next_clients = Vec::new();
    for number in 0..PAIRS {
        let mut client = hurried.connect()?;
        // A server that waits for its client to read accepts only a part of it.
        let _ = client.send(&lines);
        client.reset()?;
        next_clients.push(connect_next(target, number)?);
    }
    match unexpected(target, &mut next_clients, Instant::now() + QUIET_MIN)? {
        Unexpected::Bytes(came) => return Ok(Verdict::fail(sent, came)),
        Unexpected::AllEnded => return Ok(Verdict::cannot_be_judged(sent, ALL_ENDED)),
        Unexpected::Nothing => {}
    }
    let reason = "each new client got the reply to its own line, but no request of this server is slow";
    Ok(Verdict::cannot_be_judged(sent, format!("{reason}; {NO_SLOW_REQUEST}")))
}

/// Connects the client that comes after another one, and sends its line.
fn connect_next(target: &Target, number: usize) -> io::Result<Client> {
    let mut client = target.connect()?;
    client.exchange(&format!("new client {number}"))?;
    Ok(client)
}

/// What clients received that sent nothing more.
enum Unexpected {
    Nothing,
    /// Bytes, or an end that no idle timeout explains.
    Bytes(String),
    /// The server closed all of them.
    AllEnded,
}

/// Waits until then. Clients that the server closes do not count: that may be an idle timeout.
fn unexpected(target: &Target, clients: &mut [Client], quiet_until: Instant) -> io::Result<Unexpected> {
    let mut open: Option<&mut Client> = None;
    for client in clients {
        // A read timeout of zero is invalid.
        let wait = quiet_until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let received = client.receive_for(wait, &mut |bytes| !bytes.is_empty())?;
        let then = match received.end {
            End::Silence => {
                open = open.or(Some(client));
                continue;
            }
            End::Complete => {
                format!("{} bytes more: \"{}\"", received.bytes.len(), escape::text(&received.bytes))
            }
            // An idle timeout closes the client that has been idle for longer.
            End::Eof | End::Reset => {
                let Some(older) = &mut open else { continue };
                if older.receive_for(LATE, &mut |_| false)?.end != End::Silence {
                    continue;
                }
                let end = if received.end == End::Eof { "EOF" } else { "an RST" };
                format!("{end}, while an older client stayed connected")
            }
        };
        return Ok(Unexpected::Bytes(format!("a new client got the reply to its own line, and then {then}")));
    }
    if open.is_none() {
        return Ok(Unexpected::AllEnded);
    }
    target.connect()?.exchange("hello")?;
    Ok(Unexpected::Nothing)
}

/// The server with this mistake.
struct Twin;

impl Rules for Twin {
    fn is_current(&self, _: &Connection, _: Key) -> bool {
        // The slot is in use, so it is this connection.
        true
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpStream};
    use std::sync::{Mutex, PoisonError};
    use std::thread;

    use super::*;
    use crate::tour::case::Outcome;
    use crate::tour::client::tests::start_server;

    type Last = Mutex<Option<TcpStream>>;

    /// Sends each read back. The result of a slow request finds the connection that came last, right or wrong.
    fn serve(mut stream: TcpStream, last: &'static Last, on_wrong: fn(&TcpStream)) {
        let lock = || last.lock().unwrap_or_else(PoisonError::into_inner);
        *lock() = stream.try_clone().ok();
        let client = stream.peer_addr().ok();
        let mut buffer = [0; 2048];
        while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
            if &buffer[..bytes] != b"work 300\n" {
                let _ = stream.write_all(&buffer[..bytes]);
                continue;
            }
            thread::spawn(move || {
                thread::sleep(Duration::from_millis(300));
                match &mut *lock() {
                    Some(last) if last.peer_addr().ok() == client => drop(last.write_all(b"work 300\n")),
                    Some(last) => on_wrong(last),
                    None => {}
                }
            });
        }
    }

    #[test]
    fn a_reply_to_another_client_is_a_failure() {
        static LAST: Last = Mutex::new(None);
        let mut target = start_server(TourMode::Echo, |stream| {
            serve(stream, &LAST, |mut last| drop(last.write_all(b"work 300\n")));
        });
        target.slow_request = b"work 300\n".to_vec();
        let verdict = attack(&target).expect("a verdict");
        assert_eq!(verdict.outcome, Outcome::Fail);
        // The results of the other clients may come at the same time.
        assert!(verdict.came.starts_with("a new client got the reply to its own line, and then "), "{verdict:?}");
        assert!(verdict.came.contains("bytes more: \"work 300\\n"), "{verdict:?}");
    }

    #[test]
    fn the_end_of_another_client_is_a_failure() {
        static LAST: Last = Mutex::new(None);
        let mut target = start_server(TourMode::Echo, |stream| {
            serve(stream, &LAST, |last| drop(last.shutdown(Shutdown::Write)));
        });
        target.slow_request = b"work 300\n".to_vec();
        let verdict = attack(&target).expect("a verdict");
        let came = "a new client got the reply to its own line, and then EOF, while an older client stayed connected";
        assert_eq!((verdict.outcome, verdict.came.as_str()), (Outcome::Fail, came));
    }

    #[test]
    fn an_idle_timeout_is_not_the_mistake() {
        for slow_request in ["work 300\n", "work 1\n"] {
            static LAST: Last = Mutex::new(None);
            let mut target = start_server(TourMode::Echo, |stream| {
                let _ = stream.set_read_timeout(Some(Duration::from_millis(400)));
                serve(stream, &LAST, |_| {});
            });
            target.slow_request = slow_request.as_bytes().to_vec();
            let verdict = attack(&target).expect("a verdict");
            assert_ne!(verdict.outcome, Outcome::Fail, "{verdict:?}");
        }
    }

    #[test]
    fn a_server_without_a_slow_request_cannot_be_judged() {
        static LAST: Last = Mutex::new(None);
        let mut target = start_server(TourMode::Echo, |stream| serve(stream, &LAST, |_| {}));
        target.slow_request = b"work 1\n".to_vec();
        let verdict = attack(&target).expect("a verdict");
        assert_eq!(verdict.outcome, Outcome::CannotBeJudged);
        assert!(verdict.came.contains("no request of this server is slow") && verdict.came.contains("--slow"));
    }
}
