//! `halloo probe`: asks a server as a person would, and says what came back.
//!
//! A flow of its own, on blocking sockets. It promises one line for each answer, no question that takes longer than its
//! timeout, the lookup of a name included, and an exit status that tells the worst of them.
//! It never prints what came back raw, and never fails over an output that is gone.

pub(crate) mod query;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use crate::cli::flags::{Asked, ProbeOptions};
use crate::exit::{Failure, Status, plain_words};
use crate::probe::query::{Answer, Class, Question};
use crate::text::address::{Address, Target};
use crate::text::duration::measured;
use crate::text::protocol::Protocol;
use crate::text::unescape::Spelled;

/// The most a datagram carries over IPv4 (RFC 768, less both headers), in bytes.
const DATAGRAM_BYTES_MAX: usize = 65_507;

/// What a resolver that takes too long has not given.
const NO_NAME: &str = "no address for the name";

/// Asks as often as wanted, over every protocol wanted.
pub(crate) fn run(options: &ProbeOptions) -> Result<Status, Failure> {
    let protocols = protocols(options);
    check(options, protocols)?;
    let mut status = Status::Done;
    for _ in 0..options.count {
        for &protocol in protocols {
            let (asked, answer) = ask(options, protocol);
            let Answer { class, time, text } = answer;
            status = status.worse(class.status());
            // Nobody may be reading any more; the exit status is still worth the asking.
            let _ = writeln!(io::stdout(), "{protocol} {asked} {} {} {text}", class.as_str(), measured(time));
        }
    }
    Ok(status)
}

fn protocols(options: &ProbeOptions) -> &'static [Protocol] {
    let Asked { tcp, udp, connect_only } = options.protocols;
    match (&options.address, tcp || connect_only, udp) {
        (Target::Unix(_), ..) => &[Protocol::Unix],
        (_, true, false) => &[Protocol::Tcp],
        (_, false, true) => &[Protocol::Udp],
        _ => &[Protocol::Tcp, Protocol::Udp],
    }
}

fn check(options: &ProbeOptions, protocols: &[Protocol]) -> Result<(), Failure> {
    let refuse = |sentence: String| Err(Failure::new(Status::Usage, sentence));
    let Asked { tcp, udp, .. } = options.protocols;
    match &options.address {
        Target::Internet(address) if address.port() == 0 => {
            return refuse(format!("nobody can be asked on port 0 of {address}; name the port of the server"));
        }
        path @ Target::Unix(_) if tcp || udp => {
            let flag = if tcp { "--tcp" } else { "--udp" };
            return refuse(format!("{flag} has no use with the unix socket {path}; leave one of the two out"));
        }
        _ => {}
    }
    let bytes = options.send.as_ref().map_or(0, |Spelled(bytes)| bytes.len());
    if protocols.contains(&Protocol::Udp) && bytes > DATAGRAM_BYTES_MAX {
        return refuse(format!(
            "--send has {bytes} bytes and a datagram holds {DATAGRAM_BYTES_MAX}; shorten it, or ask with --tcp alone"
        ));
    }
    Ok(())
}

/// Asks the first of the addresses where somebody is; gives back whom it asked.
fn ask(options: &ProbeOptions, protocol: Protocol) -> (String, Answer) {
    let usual = match protocol {
        Protocol::Tcp | Protocol::Unix => "Hello, TCP Server!",
        Protocol::Udp => "Hello, UDP Server!",
    };
    let send = options.send.as_ref().map_or(usual.as_bytes(), |Spelled(bytes)| bytes);
    let question = Question {
        send: (!options.protocols.connect_only).then_some(send),
        expect: options.expect.as_deref().map(str::as_bytes),
        asked: Instant::now(),
        timeout: options.timeout,
    };
    let addresses = match &options.address {
        Target::Unix(path) => return (options.address.to_string(), question.unix(path)),
        Target::Internet(address) => match resolve(address, &question) {
            Ok(addresses) => addresses,
            Err(answer) => return (options.address.to_string(), answer),
        },
    };
    let mut first = None;
    for address in addresses {
        let answer = match protocol {
            Protocol::Udp => question.udp(address),
            Protocol::Tcp | Protocol::Unix => question.tcp(address),
        };
        let nobody = matches!(answer.class, Class::Refused | Class::Unreachable);
        let found = (address.to_string(), answer);
        if !nobody {
            return found;
        }
        first.get_or_insert(found);
    }
    first.unwrap_or_else(|| (options.address.to_string(), question.ended(Class::Dns, "the name has no address")))
}

/// The addresses, or an answer in their place. A resolver knows no deadline, so it is asked on a thread of its own.
fn resolve(address: &Address, question: &Question<'_>) -> Result<Vec<SocketAddr>, Answer> {
    let (found, wait) = mpsc::sync_channel(1);
    let asked = address.clone();
    let resolver = thread::Builder::new().spawn(move || found.send(asked.resolve()));
    if let Err(error) = resolver {
        return Err(question.ended(Class::Dns, plain_words(&error)));
    }
    let left = question.left().map_err(|_| question.timed_out(NO_NAME))?;
    match wait.recv_timeout(left) {
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(error)) => Err(question.ended(Class::Dns, format!("the name is unknown: {}", plain_words(&error)))),
        Err(_) => Err(question.timed_out(NO_NAME)),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::net::TcpListener;

    use super::{Status, ask, protocols, run};
    use crate::cli::flags::ProbeOptions;
    use crate::cli::parse::{Request, read};
    use crate::probe::query::Class;
    use crate::text::protocol::Protocol;

    fn options(line: &str) -> ProbeOptions {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        match read(&words).unwrap() {
            Request::Probe(options) => *options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn both_protocols_are_asked_unless_one_is_named() {
        let both = [Protocol::Tcp, Protocol::Udp];
        assert_eq!(protocols(&options("halloo probe 1")), both);
        assert_eq!(protocols(&options("halloo probe 1 --tcp --udp")), both);
        assert_eq!(protocols(&options("halloo probe 1 --udp")), [Protocol::Udp]);
        assert_eq!(protocols(&options("halloo probe 1 --connect-only")), [Protocol::Tcp]);
        assert_eq!(protocols(&options("halloo probe unix:/a --connect-only")), [Protocol::Unix]);
    }

    #[test]
    fn what_cannot_be_asked_is_a_usage_error() {
        let failure = run(&options("halloo probe localhost:0")).unwrap_err();
        assert_eq!(failure.status, Status::Usage);
        assert!(failure.sentence.contains("port 0"), "{}", failure.sentence);
        let failure = run(&options("halloo probe --udp unix:/run/a")).unwrap_err();
        assert!(failure.status == Status::Usage && failure.sentence.contains("--udp"), "{}", failure.sentence);
        let mut long = options("halloo probe localhost:1");
        long.send = "x".repeat(70_000).parse().ok();
        assert!(run(&long).unwrap_err().sentence.contains("--tcp"));
    }

    #[test]
    fn a_name_is_asked_where_somebody_listens() {
        // Nobody is on 127.0.0.1 of this port, or the test has found another pair.
        let Ok(six) = TcpListener::bind("[::1]:0") else {
            return;
        };
        let port = six.local_addr().unwrap().port();
        if TcpListener::bind(("127.0.0.1", port)).is_err() {
            return;
        }
        let (asked, answer) = ask(&options(&format!("halloo probe {port} --connect-only")), Protocol::Tcp);
        assert_eq!((asked, answer.class), (format!("[::1]:{port}"), Class::Ok));
    }

    #[test]
    fn an_unknown_name_is_told_from_a_closed_door() {
        let (asked, answer) = ask(&options("halloo probe no-such-name.invalid:9 --timeout 20s"), Protocol::Udp);
        assert_eq!((asked.as_str(), answer.class), ("no-such-name.invalid:9", Class::Dns));
    }
}
