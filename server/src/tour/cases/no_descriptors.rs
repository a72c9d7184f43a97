//! Case 8: no free descriptor (EMFILE).

use std::io;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::cli::flags::tour_options::TourMode;
use crate::process;
use crate::tour::case::{Case, Verdict};
use crate::tour::client::{Client, End, Target};
use crate::tour::mio_server::rules::Rules;
use crate::tour::mio_server::server::Server;

pub(super) const CASE: Case = Case {
    number: 8,
    name: "no-descriptors",
    title: "no free descriptor (EMFILE)",
    mistake: "When accept fails for lack of a descriptor, the server waits for an event that does not come.",
    explanation: [
        "Without a free descriptor accept fails with EMFILE, and the client stays in the backlog without another event.",
        "The twin waits for the next event of its listener, but only a new client brings one.",
        "The hostile client closed 20 connections, and the one that waited still got no reply.",
        "The right server accepts again after a pause, and halloo's default limit on connections avoids the lack.",
        "In production, after a short peak some clients wait until they time out, although the server is idle.",
    ],
    reading: &[
        "accept(2), on EMFILE and ENFILE",
        "getrlimit(2), on RLIMIT_NOFILE",
        "epoll(7), section Questions and answers, Q9",
    ],
    descriptors_max: Some(64),
    attack,
    twin: &Twin,
};

/// A server that serves so many at once has descriptors enough.
const CLIENTS_MAX: usize = 1_000;

/// A server that serves fewer at once has no clients to spare: something else limits it.
const SERVED_MIN: usize = 4;

/// Clients that end, and so return their descriptors.
const ENDED: usize = 20;

/// A client without a reply for this long may be waiting in the backlog.
const WAIT: Duration = Duration::from_millis(300);

/// After this silence a greeting is complete.
const GREETING_SILENCE: Duration = Duration::from_millis(20);

/// The most time for opening connections.
const FILL_TIME: Duration = Duration::from_secs(10);

fn attack(target: &Target) -> io::Result<Verdict> {
    process::raise_descriptor_limit();
    let mut kept = Vec::new();
    let (mut last, end) = match fill(target, &mut kept)? {
        Filled::Judged(verdict) => return Ok(verdict),
        Filled::Full(last, end) => (last, end),
    };
    let (served, ended) = (kept.len(), ENDED.min(kept.len() / 2));
    if served < SERVED_MIN {
        let reason = format!("clients served at once: {served}, too few for a limit on descriptors");
        return Ok(Verdict::cannot_be_judged("a line from each client", reason));
    }
    for client in kept.drain(..ended) {
        end_client(client, target.mode)?;
    }
    let number = served + 1;
    let sent = format!("{served} clients were served and stayed, client {number} was not, and {ended} of them closed");
    let is_served = match end {
        End::Silence => last.receive_reply(target.patience)?.end == End::Complete,
        // The server closes what it cannot serve. Then there must be room for another client.
        _ => connects_again(target),
    };
    if !is_served && target.is_gone() {
        return Ok(Verdict::fail(sent, "the server is gone (connection refused)"));
    }
    if !is_served {
        let came = format!("nothing for client {number} within {:?}, although descriptors were free", target.patience);
        return Ok(Verdict::fail(sent, came + last.after_one_more(target)));
    }
    for client in &mut kept {
        if !is_served_now(client, target.patience) {
            return Ok(Verdict::fail(sent, format!("a reply to client {number}, but no more to one that stayed")));
        }
    }
    Ok(Verdict::pass(sent, format!("the reply to client {number}, and replies to all that stayed")))
}

/// The server after many clients.
enum Filled {
    /// This client was not served: it waits, or the server has closed it.
    Full(Client, End),
    /// It has no limit that a client can reach.
    Judged(Verdict),
}

/// Opens connections until a client is not served.
fn fill(target: &Target, kept: &mut Vec<Client>) -> io::Result<Filled> {
    let started = Instant::now();
    while kept.len() < CLIENTS_MAX && started.elapsed() < FILL_TIME {
        let stays = target.connect().and_then(|first| match target.mode {
            TourMode::Echo | TourMode::Line => Ok(first),
            // A client that sends nothing stays, and the next one shows whether clients are served.
            TourMode::Greet => {
                kept.push(first);
                target.connect()
            }
        });
        let mut client = match stays {
            // No more descriptors here.
            Err(error) if error.raw_os_error() == Some(Errno::EMFILE as i32) => break,
            client => client?,
        };
        if let Some(end) = end_unserved(target, kept, &mut client)? {
            return Ok(Filled::Full(client, end));
        }
        if target.mode != TourMode::Greet {
            kept.push(client);
        } else if kept.len() == 1 && kept[0].receive_for(WAIT, &mut |_| false)?.end != End::Silence {
            let reason = "it closes each connection after the greeting, so no client can hold a descriptor";
            return Ok(Filled::Judged(Verdict::cannot_be_judged("nothing", reason)));
        }
    }
    let count = kept.len();
    let reason = format!("the server served {count} clients at once; start it with ulimit -n 64 to judge this case");
    Ok(Filled::Judged(Verdict::cannot_be_judged(format!("{count} clients were served and stayed"), reason)))
}

/// Sends a line of a new client. `None` if it is served, otherwise what it got.
fn end_unserved(target: &Target, kept: &mut [Client], client: &mut Client) -> io::Result<Option<End>> {
    // A server that greets at once may have closed before the line: the reply tells more than this error.
    let _ = client.send(b"hello\n");
    let mut end = client.receive_reply(WAIT)?.end;
    if end == End::Silence {
        // Is the server only slow? Then it serves this client before what a client sends now.
        let mut wait = target.patience;
        if let Some(first) = kept.first_mut().filter(|_| target.mode != TourMode::Greet) {
            if !is_served_now(first, target.patience) {
                return Err(io::Error::other(format!("with {} clients one of them was not served again", kept.len())));
            }
            wait = WAIT;
        }
        end = client.receive_reply(wait)?.end;
    }
    if target.mode == TourMode::Greet && end == End::Complete {
        client.receive_for(GREETING_SILENCE, &mut |_| false)?;
    }
    Ok(Some(end).filter(|end| *end != End::Complete))
}

fn is_served_now(client: &mut Client, patience: Duration) -> bool {
    client
        .send(b"hello again\n")
        .and_then(|()| client.receive_reply(patience))
        .is_ok_and(|reply| reply.end == End::Complete)
}

/// Closes a connection with a FIN: without unread input the kernel sends no RST.
fn end_client(mut client: Client, mode: TourMode) -> io::Result<()> {
    if mode == TourMode::Greet {
        client.receive_for(GREETING_SILENCE, &mut |_| false)?;
    }
    Ok(())
}

/// Whether a new client is served within the patience.
fn connects_again(target: &Target) -> bool {
    let started = Instant::now();
    while started.elapsed() < target.patience {
        if target.connect().is_ok_and(|mut client| is_served_now(&mut client, WAIT)) {
            return true;
        }
    }
    false
}

/// The server with this mistake.
struct Twin;

impl Rules for Twin {
    fn accept_failed(&self) -> fn(&mut Server) {
        // No client can be accepted now: wait for the next event.
        |_| {}
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;
    use crate::tour::case::Outcome;
    use crate::tour::client::tests::start_server;

    /// Clients that these servers serve at once.
    const LIMIT: usize = 8;

    fn echo(mut stream: TcpStream) {
        let mut buffer = [0; 100];
        while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
            let _ = stream.write_all(&buffer[..bytes]);
        }
    }

    /// A server that waits for `is_free` before each accept; it has the number of its clients.
    fn start_limited(mode: TourMode, serve: fn(TcpStream), on_full: fn(&AtomicUsize, &TcpListener)) -> Target {
        let mut target = start_server(mode, serve);
        target.patience = Duration::from_secs(1);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        target.tcp = listener.local_addr().ok();
        let clients = Arc::new(AtomicUsize::new(0));
        thread::spawn(move || {
            loop {
                if clients.load(Ordering::SeqCst) == LIMIT {
                    on_full(&clients, &listener);
                    continue;
                }
                let Ok((stream, _)) = listener.accept() else { break };
                clients.fetch_add(1, Ordering::SeqCst);
                let clients = Arc::clone(&clients);
                thread::spawn(move || {
                    serve(stream);
                    clients.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        target
    }

    fn wait_for_room(_: &AtomicUsize, _: &TcpListener) {
        thread::park_timeout(Duration::from_millis(1));
    }

    #[test]
    fn a_client_that_waits_for_room_and_gets_it_is_a_pass() {
        for mode in [TourMode::Echo, TourMode::Line] {
            let verdict = attack(&start_limited(mode, echo, wait_for_room)).expect("a verdict");
            assert_eq!(verdict.outcome, Outcome::Pass, "{verdict:?}");
            assert!(verdict.sent.starts_with("8 clients were served and stayed, client 9 was not"), "{verdict:?}");
        }
    }

    #[test]
    fn a_client_that_never_gets_room_is_a_fail() {
        let target = start_limited(TourMode::Echo, echo, |_, _| {
            loop {
                thread::park();
            }
        });
        let verdict = attack(&target).expect("a verdict");
        assert_eq!(verdict.outcome, Outcome::Fail, "{verdict:?}");
    }

    #[test]
    fn a_server_that_closes_what_it_cannot_serve_passes_if_it_serves_again() {
        let verdict = attack(&start_limited(TourMode::Echo, echo, |clients, listener| {
            let _ = listener.set_nonblocking(true);
            while clients.load(Ordering::SeqCst) == LIMIT {
                drop(listener.accept());
                thread::park_timeout(Duration::from_millis(1));
            }
            let _ = listener.set_nonblocking(false);
        }))
        .expect("a verdict");
        assert_eq!(verdict.outcome, Outcome::Pass, "{verdict:?}");
    }

    #[test]
    fn silent_clients_fill_a_greeter_that_waits_for_input() {
        let greet = |mut stream: TcpStream| {
            if let Ok(1..) = stream.read(&mut [0; 100]) {
                let _ = stream.write_all(b"Hello!");
            }
        };
        let verdict = attack(&start_limited(TourMode::Greet, greet, wait_for_room)).expect("a verdict");
        assert_eq!(verdict.outcome, Outcome::Pass, "{verdict:?}");
    }

    #[test]
    fn a_greeter_that_closes_at_once_gives_no_evidence() {
        let target = start_server(TourMode::Greet, |mut stream| drop(stream.write_all(b"Hello!")));
        let verdict = attack(&target).expect("a verdict");
        assert_eq!(verdict.outcome, Outcome::CannotBeJudged, "{verdict:?}");
        assert!(verdict.came.starts_with("it closes each connection"), "{verdict:?}");
    }

    #[test]
    fn a_server_of_few_clients_is_not_judged() {
        let mut target = start_server(TourMode::Echo, echo);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        target.tcp = listener.local_addr().ok();
        thread::spawn(move || listener.incoming().flatten().for_each(echo));
        let verdict = attack(&target).expect("a verdict");
        assert_eq!(verdict.outcome, Outcome::CannotBeJudged, "{verdict:?}");
    }
}
