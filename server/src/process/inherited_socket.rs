//! Sockets passed by socket activation: `LISTEN_FDS` and `LISTEN_PID` of `sd_listen_fds(3)`.
//!
//! Each one is a TCP listener, a unix listener or a bound UDP socket, in the order they were passed.

use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;
use std::{fs, io};

use listenfd::ListenFd;
use nix::errno::Errno;
use socket2::SockRef;

use crate::exit::{ExitError, ExitStatus, describe_io_error};
use crate::text::bound_address::BoundAddress;
use crate::text::escape;
use crate::text::protocol::Protocol;

/// A larger number of sockets is a mistake, and no memory is allocated for it.
const INHERITED_SOCKETS_MAX: usize = 4096;

/// The most of a variable's value that an error shows, in bytes.
const VALUE_BYTES_MAX: usize = 64;

/// A socket that was open when the process started.
#[derive(Debug)]
pub(crate) enum InheritedSocket {
    Tcp(TcpListener),
    Udp(UdpSocket),
    Unix(UnixListener, BoundAddress),
}

impl InheritedSocket {
    pub(crate) fn protocol(&self) -> Protocol {
        match self {
            Self::Tcp(_) => Protocol::Tcp,
            Self::Udp(_) => Protocol::Udp,
            Self::Unix(..) => Protocol::Unix,
        }
    }

    /// The address that it is bound to.
    pub(crate) fn address(&self) -> io::Result<BoundAddress> {
        match self {
            Self::Tcp(listener) => Ok(listener.local_addr()?.into()),
            Self::Udp(socket) => Ok(socket.local_addr()?.into()),
            Self::Unix(_, address) => Ok(address.clone()),
        }
    }
}

/// Takes the sockets passed to this process; there are none without `LISTEN_FDS`.
///
/// Call it before the process opens a descriptor, which could get the number of a missing one. Call it before the
/// process starts a thread: it removes the variables, and only a single thread may change the environment.
pub(crate) fn take_inherited() -> Result<Vec<InheritedSocket>, ExitError> {
    if !is_for_this_process() {
        return Ok(Vec::new());
    }
    if let Some(count) = std::env::var_os("LISTEN_FDS").filter(|count| !count.is_empty()) {
        let is_valid_count = |text: &str| text.parse::<usize>().is_ok_and(|count| count <= INHERITED_SOCKETS_MAX);
        if !count.to_str().is_some_and(is_valid_count) {
            let count = escape::message(&count.to_string_lossy(), VALUE_BYTES_MAX);
            let message = format!(
                "cannot serve the inherited sockets: LISTEN_FDS={count}: not a number up to {INHERITED_SOCKETS_MAX}; \
            correct it, or unset it"
            );
            return Err(ExitError::new(ExitStatus::UsageError, message));
        }
    }
    // The listenfd crate adds this variable to the protocol.
    let first_fd = std::env::var("LISTEN_FDS_FIRST_FD").ok().and_then(|fd| fd.parse().ok()).unwrap_or(3_usize);
    let mut listen_fds = ListenFd::from_env();
    let count = listen_fds.len();
    let take_at = |index| {
        take_socket(&mut listen_fds, index)
            .map_err(|unusable| unusable_socket(first_fd.saturating_add(index), &unusable))
    };
    (0..count).map(take_at).collect()
}

/// Logs that sockets are not served, if `LISTEN_PID` is not a number. The number of another process is no mistake.
pub(crate) fn warn_of_invalid_pid() {
    let [pid, count] = ["LISTEN_PID", "LISTEN_FDS"].map(|name| std::env::var_os(name).unwrap_or_default());
    let pid = pid.to_string_lossy();
    if !pid.is_empty() && !count.is_empty() && pid.parse::<u32>().is_err() {
        let pid = escape::excerpt(&pid);
        log::warn!(
            "cannot serve the inherited sockets: LISTEN_PID={pid}: not a process number; correct it, or unset \
             LISTEN_FDS"
        );
    }
}

/// Without `LISTEN_PID` the sockets are for any process: tools for developers leave it out.
fn is_for_this_process() -> bool {
    let listen_pid = std::env::var_os("LISTEN_PID").filter(|pid| !pid.is_empty());
    listen_pid.is_none_or(|pid| pid.to_str().and_then(|pid| pid.parse().ok()) == Some(std::process::id()))
}

/// Why a descriptor cannot be served.
enum Unusable {
    /// A socket of this other kind.
    Socket(&'static str),
    /// No socket of a known kind: the system's error is the cause.
    NoSocket,
}

/// Takes one socket, or returns why it cannot be served.
fn take_socket(listen_fds: &mut ListenFd, index: usize) -> Result<InheritedSocket, Unusable> {
    if let Ok(Some(listener)) = listen_fds.take_tcp_listener(index) {
        return match SockRef::from(&listener).peer_addr() {
            Ok(_) => Err(Unusable::Socket("a TCP connection")),
            Err(_) if is_listening(&listener) => Ok(InheritedSocket::Tcp(listener)),
            Err(_) => Err(Unusable::Socket("a TCP socket that does not listen")),
        };
    }
    if let Ok(Some(socket)) = listen_fds.take_udp_socket(index) {
        return match socket.local_addr() {
            Ok(address) if address.port() != 0 => Ok(InheritedSocket::Udp(socket)),
            _ => Err(Unusable::Socket("a UDP socket without a port")),
        };
    }
    if let Ok(Some(listener)) = listen_fds.take_unix_listener(index) {
        return match listener.local_addr() {
            Ok(address) if is_listening(&listener) => {
                Ok(InheritedSocket::Unix(listener, BoundAddress::from_unix(&address)))
            }
            _ => Err(Unusable::Socket("a unix socket that does not listen")),
        };
    }
    if listen_fds.take_unix_datagram(index).is_ok() {
        return Err(Unusable::Socket("a unix socket for datagrams"));
    }
    Err(Unusable::NoSocket)
}

#[cfg(target_os = "linux")]
fn is_listening(listener: &impl AsFd) -> bool {
    SockRef::from(listener).is_listener().unwrap_or(false)
}

/// Not every system shows whether a socket listens.
#[cfg(not(target_os = "linux"))]
fn is_listening(_listener: &impl AsFd) -> bool {
    true
}

fn unusable_socket(fd: usize, unusable: &Unusable) -> ExitError {
    // Metadata does not open the file: that could have side effects.
    let file_type = fs::metadata(format!("/dev/fd/{fd}")).map(|metadata| metadata.file_type());
    let cause = match (unusable, file_type) {
        (Unusable::Socket(kind), _) => format!("it is {kind}"),
        (Unusable::NoSocket, Ok(file_type)) if file_type.is_socket() => "it is a socket of another kind".to_owned(),
        (Unusable::NoSocket, Ok(_)) => describe_io_error(&Errno::ENOTSOCK.into()),
        (Unusable::NoSocket, Err(_)) => describe_io_error(&Errno::EBADF.into()),
    };
    let hint = "pass only listeners of TCP or unix sockets and bound UDP sockets, or unset LISTEN_FDS";
    let message = format!("cannot serve on descriptor {fd} of LISTEN_FDS: {cause}; {hint}");
    ExitError::new(ExitStatus::Unavailable, message)
}
