//! Case 6: a reset that ends the server.

use std::time::{Duration, Instant};
use std::{io, thread};

use crate::cli::flags::tour_options::TourMode;
use crate::tour::case::{Case, Verdict};
use crate::tour::client::{Client, End, SLOW_REPLY_MAX, Target};
use crate::tour::mio_server::connections::Key;
use crate::tour::mio_server::rules::{Flow, Rules};
use crate::tour::mio_server::server::Server;

pub(super) const CASE: Case = Case {
    number: 6,
    name: "fatal-reset",
    title: "a reset that ends the server",
    mistake: "The server takes the error of one connection for its own, and ends.",
    explanation: [
        "A client can end its connection with an RST at any time: the next read or write fails with ECONNRESET.",
        "The twin returns this error from its loop, and so the server ends, with all its clients.",
        "The hostile client reset a connection, and after that no client was served.",
        "The right server closes this one connection, and goes on with the next event.",
        "In production one port scan or health check that closes with an RST ends the service for all clients.",
    ],
    reading: &[
        "POSIX.1-2017, recv(), section \"ERRORS\", ECONNRESET",
        "send(2), section \"ERRORS\", ECONNRESET and EPIPE; MSG_NOSIGNAL",
        "signal(7), on SIGPIPE",
        "accept(2), section \"Error handling\"",
        "RFC 9293, section 3.5.3, \"Reset Processing\"",
    ],
    descriptors_max: None,
    attack,
    twin: &Twin,
};

/// How often each way is tried.
const ROUNDS: usize = 4;

/// Clients that were connected before. The reply to the second one ends the turn that served the first. So the first gets
/// its next reply in a later turn, which accepts what waits before: no two clients wait to be accepted.
const KEPT: usize = 2;

/// What a client sends without reading in the last way, at most.
const SENT_BYTES_MAX: usize = 16 << 20;

/// A server that is ending is asked again after this time.
const RETRY_AFTER: Duration = Duration::from_millis(10);

/// A timer of a server may be late by so much.
const TIMER_TICK: Duration = Duration::from_millis(200);

/// A way to reset a connection.
struct Way {
    /// When the RST is sent.
    when: &'static str,
    reset: fn(&Target) -> io::Result<()>,
    /// Whether it takes a wait, and so is tried once.
    waits: bool,
}

/// In each of them at most one connection waits to be accepted.
const WAYS: [Way; 7] = [
    Way {
        when: "after the reply to a line",
        reset: |target| {
            let mut client = target.connect()?;
            client.exchange("hello")?;
            client.reset()
        },
        waits: false,
    },
    Way {
        when: "with the reply unread",
        reset: |target| {
            let mut client = target.connect()?;
            client.send(b"hello\n")?;
            client.wait_for_input()?;
            client.reset()
        },
        waits: false,
    },
    Way {
        when: "right after a line",
        reset: |target| {
            let mut client = target.connect()?;
            client.exchange("hello")?;
            // A server that has greeted may have closed.
            let _ = client.send(b"hello again\n");
            client.reset()
        },
        waits: false,
    },
    Way { when: "right after the connection was made", reset: |target| target.connect()?.reset(), waits: false },
    Way {
        when: "while replies wait that the client does not read",
        reset: |target| {
            let mut client = target.connect_with_small_buffers()?;
            client.exchange("hello")?;
            client.send_until_full(SENT_BYTES_MAX)?;
            client.reset()
        },
        waits: true,
    },
    Way {
        when: "after a FIN, while replies wait that the client does not read",
        reset: |target| {
            let mut client = target.connect_with_small_buffers()?;
            client.exchange("hello")?;
            client.send_until_full(SENT_BYTES_MAX)?;
            client.finish_sending()?;
            // Until there is room for the FIN at the server, but not for all of its output.
            client.receive_bytes(READ_BYTES)?;
            client.reset()
        },
        waits: true,
    },
    Way {
        when: "in reply to a slow reply, since the client had closed (close(2), a FIN)",
        reset: |target| {
            let mut client = target.connect()?;
            client.exchange("hello")?;
            client.send(&target.slow_request)?;
            client.send(&b"hello\n".repeat(LINES))?;
            drop(client);
            // By then the slow reply was sent, if there is one. Without a reply, `check` finds out more.
            let mut next = target.with_patience(SLOW_REPLY_MAX).connect()?;
            let _ = next.exchange(&target.slow_line());
            Ok(())
        },
        waits: true,
    },
];

/// What a client receives before it sends the RST: more than its buffers have room for.
const READ_BYTES: usize = 1 << 20;

/// Lines after a slow one: their replies take more than one write.
const LINES: usize = 5000;

fn attack(target: &Target) -> io::Result<Verdict> {
    // A greeting fills no buffer, and takes a silence to its end.
    let (ways, rounds) = if target.mode == TourMode::Greet { (&WAYS[..4], 1) } else { (&WAYS[..], ROUNDS) };
    // One that serves a single client at a time is asked by new clients only.
    let serves_several = target.mode != TourMode::Greet && target.missing_reply_of_second_client()?.is_none();
    let mut resets = 0;
    for (round, way) in (0..rounds).flat_map(|round| ways.iter().map(move |way| (round, way))) {
        if way.waits && round > 0 {
            continue;
        }
        let mut kept = Vec::new();
        while serves_several && kept.len() < KEPT {
            let mut client = target.connect()?;
            client.exchange("hello")?;
            kept.push(client);
        }
        resets += 1;
        let idle_since = Instant::now();
        if let Err(came) = (way.reset)(target).and_then(|()| check(target, &mut kept, idle_since)) {
            let sent = format!("an RST {}, as reset number {resets}", way.when);
            return Ok(Verdict::fail(sent, diagnose(target, &came)));
        }
    }
    let sent = format!("{resets} RSTs in {} ways, each from another client", ways.len());
    let before = if serves_several { "clients that were connected before and " } else { "" };
    Ok(Verdict::pass(sent, format!("after each, {before}a new client got replies")))
}

/// Both the clients that were connected before and a new one are served.
fn check(target: &Target, kept: &mut [Client], idle_since: Instant) -> io::Result<()> {
    let of_client = |client, error| io::Error::other(format!("{client} was not served: {error}"));
    for client in kept {
        match client.exchange("still there?") {
            Err(error) if is_end(&error) && closes_idle_clients(target, idle_since.elapsed()) => {}
            result => drop(result.map_err(|error| of_client("a client that was connected before", error))?),
        }
    }
    let mut new = target.connect()?;
    new.exchange("hello").map(drop).map_err(|error| of_client("a new client", error))
}

fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

/// Whether the server closes a client that is idle for this long, also without an RST.
fn closes_idle_clients(target: &Target, idle: Duration) -> bool {
    let end = target.connect().and_then(|mut client| {
        client.exchange("hello")?;
        client.receive_for(idle + TIMER_TICK, &mut |_| false)
    });
    end.is_ok_and(|received| received.end != End::Silence)
}

/// Finds out whether the server is gone. It may be ending now.
fn diagnose(target: &Target, error: &io::Error) -> String {
    let started = Instant::now();
    while started.elapsed() < target.patience {
        match target.connect().and_then(|mut client| client.exchange("hello")) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                return "the server is gone (connection refused)".to_owned();
            }
            Err(_) => thread::sleep(RETRY_AFTER),
            Ok(_) => return format!("{error}, and later ones were"),
        }
    }
    format!("{error}, and no later one was")
}

/// The server with this mistake.
struct Twin;

impl Rules for Twin {
    fn read_failed(&self, _: &mut Server, _: Key, error: io::Error) -> io::Result<Flow> {
        // An error is an error.
        Err(error)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpStream};
    use std::sync::Mutex;

    use super::*;
    use crate::tour::case::Outcome;
    use crate::tour::client::tests::start_server;

    /// Sends each read back, until the client ends or was idle for this long. True after a FIN.
    fn echo(mut stream: &TcpStream, idle_timeout: Option<Duration>) -> bool {
        let mut buffer = [0; 16_384];
        let _ = stream.set_read_timeout(idle_timeout);
        loop {
            match stream.read(&mut buffer) {
                Ok(bytes @ 1..) if stream.write_all(&buffer[..bytes]).is_ok() => {}
                result => return result.is_ok(),
            }
        }
    }

    #[test]
    fn an_idle_timeout_is_not_the_mistake() {
        let target = start_server(TourMode::Echo, |stream| {
            echo(&stream, Some(Duration::from_millis(200)));
        });
        let verdict = attack(&target).expect("a verdict");
        assert_eq!(verdict.outcome, Outcome::Pass, "{verdict:?}");
    }

    #[test]
    fn a_reset_that_ends_the_other_clients_is_a_failure() {
        static CLIENTS: Mutex<Vec<TcpStream>> = Mutex::new(Vec::new());
        let target = start_server(TourMode::Echo, |stream| {
            CLIENTS.lock().expect("no thread panics with it").extend(stream.try_clone());
            if echo(&stream, None) {
                let _ = stream.shutdown(Shutdown::Both);
                return;
            }
            for client in CLIENTS.lock().expect("no thread panics with it").drain(..) {
                let _ = client.shutdown(Shutdown::Both);
            }
        });
        let verdict = attack(&target).expect("a verdict");
        assert_eq!(verdict.outcome, Outcome::Fail, "{verdict:?}");
        assert!(verdict.came.starts_with("a client that was connected before was not served: "), "{verdict:?}");
    }
}
