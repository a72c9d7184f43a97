//! Sockets that somebody else has opened and hands over at the start: socket activation.
//!
//! Beside the command line, before anything is opened: `LISTEN_FDS` says how many there are, from descriptor 3 on, and
//! `LISTEN_PID` for whom they are (`sd_listen_fds(3)`). It promises them in the order handed over, each known to be a
//! TCP listener, a listener of a unix socket or a UDP socket, and one sentence about the first that is neither. It never takes what is meant for
//! another process, and never opens a socket of its own.

use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;
use socket2::SockRef;

use crate::exit::{Failure, Status};
use crate::text::bound_address::Site;
use crate::text::escape;

/// More than anybody hands over: a larger number is a mistake, and no memory is spent on it.
const SOCKETS_MAX: usize = 4096;

/// As much of a variable's value as is repeated in a sentence, in bytes.
const VALUE_BYTES_MAX: usize = 64;

/// A socket handed over.
#[derive(Debug)]
pub(crate) enum Handed {
    Tcp(TcpListener),
    Udp(UdpSocket),
    Unix(UnixListener, Site),
}

/// Takes the sockets meant for this process; there are none if nobody has handed any over.
///
/// To be called before the process opens a descriptor, which could get the number of one that is missing, and before
/// it starts a thread: the variables are used up, and only a single thread may change the environment.
pub(crate) fn take() -> Result<Vec<Handed>, Failure> {
    if !is_meant_for_this_process() {
        return Ok(Vec::new());
    }
    if let Some(count) = std::env::var_os("LISTEN_FDS").filter(|count| !count.is_empty()) {
        let is_sensible = |text: &str| text.parse::<usize>().is_ok_and(|count| count <= SOCKETS_MAX);
        if !count.to_str().is_some_and(is_sensible) {
            let count = escape::message(&count.to_string_lossy(), VALUE_BYTES_MAX);
            let sentence = format!("LISTEN_FDS is no number of sockets: {count}; set it right, or unset it");
            return Err(Failure::new(Status::Usage, sentence));
        }
    }
    // The crate's own addition to the protocol.
    let first = std::env::var("LISTEN_FDS_FIRST_FD").ok().and_then(|first| first.parse().ok()).unwrap_or(3_usize);
    let mut handed = ListenFd::from_env();
    let count = handed.len();
    let take = |index| take_one(&mut handed, index).map_err(|what| refused(first.saturating_add(index), what));
    (0..count).map(take).collect()
}

/// Where it is not said for whom the sockets are, they are for whoever is started: so do tools for developers.
fn is_meant_for_this_process() -> bool {
    let of = std::env::var_os("LISTEN_PID").filter(|pid| !pid.is_empty());
    of.is_none_or(|pid| pid.to_str().and_then(|pid| pid.parse().ok()) == Some(std::process::id()))
}

/// Takes one socket, or says what else is there.
fn take_one(handed: &mut ListenFd, index: usize) -> Result<Handed, &'static str> {
    if let Ok(Some(listener)) = handed.take_tcp_listener(index) {
        if SockRef::from(&listener).peer_addr().is_ok() {
            return Err("a TCP connection");
        }
        return if is_listening(&listener) {
            Ok(Handed::Tcp(listener))
        } else {
            Err("a TCP socket that does not listen")
        };
    }
    if let Ok(Some(socket)) = handed.take_udp_socket(index) {
        let is_bound = socket.local_addr().is_ok_and(|address| address.port() != 0);
        return if is_bound { Ok(Handed::Udp(socket)) } else { Err("a UDP socket without a port") };
    }
    if let Ok(Some(listener)) = handed.take_unix_listener(index) {
        let address = listener.local_addr().ok().filter(|_| is_listening(&listener));
        return match address {
            Some(address) => Ok(Handed::Unix(listener, Site::of_unix(&address))),
            None => Err("a unix socket that does not listen"),
        };
    }
    if handed.take_unix_datagram(index).is_ok() {
        return Err("a unix socket for datagrams");
    }
    Err("closed, or no socket that is known")
}

#[cfg(target_os = "linux")]
fn is_listening(listener: &impl AsFd) -> bool {
    SockRef::from(listener).is_listener().unwrap_or(false)
}

/// Not every system tells.
#[cfg(not(target_os = "linux"))]
fn is_listening(_listener: &impl AsFd) -> bool {
    true
}

fn refused(descriptor: usize, what: &str) -> Failure {
    let cause = format!("cannot serve on descriptor {descriptor}, which LISTEN_FDS counts in: it is {what}");
    Failure::new(
        Status::Unreachable,
        format!("{cause}; hand over listeners, of TCP or unix sockets, and bound UDP sockets alone"),
    )
}
