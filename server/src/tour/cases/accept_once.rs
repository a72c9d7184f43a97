//! Case 1: accept once per event.

use std::io;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, poll};
use socket2::{Domain, Protocol, Socket, Type};

use crate::process;
use crate::tour::case::{Case, Verdict};
use crate::tour::client::{Client, End, Target};
use crate::tour::mio_server::rules::Rules;
use crate::tour::mio_server::server::Server;

pub(super) const CASE: Case = Case {
    number: 1,
    name: "accept-once",
    title: "accept once per event",
    mistake: "The server accepts one client for each event of its listener, although one event may stand for many.",
    explanation: [
        "Edge-triggered epoll reports that a listener became readable, not how many clients wait in its backlog.",
        "The twin accepts one client for each event, and leaves the rest in the backlog without another event.",
        "The hostile client opened many connections at once: the kernel accepted all, but some got no reply.",
        "The right server calls accept until it returns EAGAIN, so no client is left behind when it polls again.",
        "In production, clients wait for seconds after a burst, until a new client brings the next event.",
    ],
    reading: &["epoll(7), section Questions and answers, Q9", "accept(2), on EAGAIN", "listen(2), on the backlog"],
    descriptors_max: None,
    attack,
    twin: &Twin,
};

/// Clients that connect at the same time: few enough for a server with 64 descriptors, two rounds together.
const CLIENTS: usize = 24;

/// A fast server may be lucky, and accept each client before the next one connects.
const ROUNDS: usize = 10;

fn attack(target: &Target) -> io::Result<Verdict> {
    for round in 1..=ROUNDS {
        let clients = connect_at_once(target)?;
        let sent = format!("{} clients connected at the same time, each sent a line", clients.len());
        for (served, mut client) in clients.into_iter().enumerate() {
            // A server that greets at once may have closed before the line: the reply tells more than this error.
            let _ = client.send(b"hello\n");
            let reply = client.receive_reply(target.patience)?;
            if reply.end != End::Complete {
                let error = client.missing_reply(&reply);
                let seen = format!("in round {round}: replies to {served} clients, and none to the next one: {error}");
                return Ok(judge_missing_reply(target, client, reply.end, sent, &seen));
            }
        }
    }
    let sent = format!("{ROUNDS} times {CLIENTS} clients connected at the same time, each sent a line");
    Ok(Verdict::pass(sent, "a reply to every client"))
}

/// The mistake is seen if one more client brings the reply. A server that has stopped for another reason accepts none.
fn judge_missing_reply(target: &Target, mut client: Client, end: End, sent: String, seen: &str) -> Verdict {
    let then = client.after_one_more(target);
    if !then.is_empty() {
        return Verdict::fail(sent, format!("{seen}{then}"));
    }
    drop(client);
    if target.is_gone() {
        return Verdict::fail(sent, format!("{seen}; then the server was gone (connection refused)"));
    }
    let then = if end == End::Silence { "; one more client connected, and still the reply did not come" } else { "" };
    let reason = "it is not one accept for each event; cases 4 and 8 may tell why";
    Verdict::cannot_be_judged(sent, format!("{seen}{then}: {reason}"))
}

/// Starts all connects before it waits for the first. Those that are not connected within the patience do not count:
/// a short backlog is not the mistake.
fn connect_at_once(target: &Target) -> io::Result<Vec<Client>> {
    let address = target.tcp.ok_or_else(|| io::Error::other("the server does not serve TCP"))?;
    let mut sockets = Vec::new();
    for _ in 0..CLIENTS {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        match socket.connect(&address.into()) {
            // EINPROGRESS: connect(2).
            Err(error) if error.raw_os_error() != Some(nix::libc::EINPROGRESS) => return Err(error),
            _ => sockets.push(socket),
        }
    }
    let deadline = Instant::now() + target.patience;
    let mut clients = Vec::new();
    for socket in sockets {
        if !wait_until_connected(&socket, deadline)? {
            continue;
        }
        if let Some(error) = socket.take_error()? {
            return Err(error);
        }
        socket.set_nonblocking(false)?;
        clients.push(target.client(TcpStream::from(socket))?);
    }
    Ok(clients)
}

fn wait_until_connected(socket: &Socket, deadline: Instant) -> io::Result<bool> {
    let timeout = process::poll_timeout(deadline.saturating_duration_since(Instant::now()));
    Ok(poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)], timeout)? == 1)
}

/// The server with this mistake.
struct Twin;

impl Rules for Twin {
    fn accept_clients(&self, server: &mut Server) -> io::Result<()> {
        // One event, one client. Those that came with it are not reported again.
        server.accept(self.accept_failed()).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::cli::flags::tour_options::TourMode;
    use crate::tour::case::Outcome;
    use crate::tour::client::tests::start_server;

    fn echo(mut stream: TcpStream) {
        let mut buffer = [0; 100];
        while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
            let _ = stream.write_all(&buffer[..bytes]);
        }
    }

    #[test]
    fn a_server_of_one_client_after_the_other_passes() {
        let mut target = start_server(TourMode::Echo, echo);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        target.tcp = listener.local_addr().ok();
        thread::spawn(move || listener.incoming().flatten().for_each(echo));
        let verdict = attack(&target).expect("a verdict");
        assert_eq!(verdict.outcome, Outcome::Pass, "{verdict:?}");
    }

    #[test]
    fn a_greeter_that_closes_at_once_passes() {
        let target = start_server(TourMode::Greet, |mut stream| drop(stream.write_all(b"Hello!")));
        let verdict = attack(&target).expect("a verdict");
        assert_eq!(verdict.outcome, Outcome::Pass, "{verdict:?}");
    }

    #[test]
    fn a_client_that_is_not_served_is_the_mistake_only_if_one_more_client_brings_its_reply() {
        for (one_more_helps, outcome) in [(true, Outcome::Fail), (false, Outcome::CannotBeJudged)] {
            let mut target = start_server(TourMode::Line, echo);
            let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
            target.tcp = listener.local_addr().ok();
            target.patience = Duration::from_millis(500);
            thread::spawn(move || {
                let mut clients: Vec<_> = listener.incoming().flatten().take(CLIENTS).collect();
                let waiting = clients.split_off(8);
                clients.into_iter().for_each(echo);
                let _one_more = listener.accept();
                if !one_more_helps {
                    loop {
                        thread::park();
                    }
                }
                waiting.into_iter().for_each(echo);
            });
            let verdict = attack(&target).expect("a verdict");
            assert_eq!(verdict.outcome, outcome, "{verdict:?}");
            let seen =
                "in round 1: replies to 8 clients, and none to the next one: no reply within 500ms; one more client";
            assert!(verdict.came.starts_with(seen), "{verdict:?}");
        }
    }
}
