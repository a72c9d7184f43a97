//! The errors of sockets that cannot be opened.
//!
//! Each error names the socket, the cause and a hint.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::{fs, io};

use crate::exit::{self, ExitError, ExitStatus, cause_and_hint};
use crate::text::address::Address;
use crate::text::bound_address::BoundAddress;
use crate::text::escape;
use crate::text::protocol::Protocol;

/// An address of the command line that does not resolve.
pub(crate) fn for_unresolved(address: &Address, cause: &str) -> ExitError {
    let cause = match address.zone() {
        Some(zone) => format!("this machine has no interface {zone} ({cause}); ip link lists those it has"),
        None => format!("the name is unknown ({cause}); check its spelling, or give an IP address"),
    };
    cannot_serve(&format!("on {address}"), &cause)
}

/// An inherited socket.
pub(crate) fn for_inherited(protocol: Protocol, error: &io::Error) -> ExitError {
    cannot_serve(&format!("{protocol} on a socket handed over"), &cause_and_hint(error, exit::TRY_AGAIN))
}

/// A socket that the first worker has opened, and another worker cannot.
pub(crate) fn for_worker(
    protocol: Protocol,
    address: &BoundAddress,
    worker_number: usize,
    error: &io::Error,
) -> ExitError {
    let cause = cause_and_hint(error, "try again, or with fewer workers");
    cannot_serve(&format!("{protocol} on {address} with worker {worker_number}"), &cause)
}

/// A path.
pub(crate) fn for_path(path: &Path, error: &io::Error) -> ExitError {
    const CHOOSE_ANOTHER_PATH: &str = "choose another path with --unix PATH";
    let parent = path.parent().unwrap_or(path);
    let folder = escape::path(parent.as_os_str().as_bytes());
    let existing_type = fs::symlink_metadata(path).map(|metadata| metadata.file_type());
    let cause = match error.kind() {
        io::ErrorKind::AddrInUse if existing_type.is_ok_and(|file_type| !file_type.is_socket()) => {
            format!("what stands there is no socket, and is left alone; remove it, or {CHOOSE_ANOTHER_PATH}")
        }
        // Else the library says why it does not replace a file.
        io::ErrorKind::AddrInUse if error.raw_os_error().is_some() => {
            format!("the path is taken by another program; stop that program, or {CHOOSE_ANOTHER_PATH}")
        }
        io::ErrorKind::NotFound if !parent.exists() => {
            format!("there is no folder {folder}; make it, or {CHOOSE_ANOTHER_PATH}")
        }
        io::ErrorKind::NotADirectory => format!("{folder} is no folder; {CHOOSE_ANOTHER_PATH}"),
        io::ErrorKind::PermissionDenied => format!(
            "this user may not make a file in {folder}; {CHOOSE_ANOTHER_PATH}, or allow that user to write there"
        ),
        io::ErrorKind::InvalidInput => format!(
            "the path has {} bytes, more than a unix socket's can have; choose one of 107 at most with --unix PATH",
            path.as_os_str().len()
        ),
        _ => cause_and_hint(error, CHOOSE_ANOTHER_PATH),
    };
    cannot_serve(&format!("unix on {}", BoundAddress::from_path(path)), &cause)
}

/// The cause contains the hint.
fn cannot_serve(subject: &str, cause: &str) -> ExitError {
    ExitError::new(ExitStatus::Unavailable, format!("cannot serve {subject}: {cause}"))
}

/// Whether the machine simply has no such address: it is none of its own, or its whole family is switched off.
pub(crate) fn is_address_unavailable(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(nix::errno::Errno::EAFNOSUPPORT as i32)
}

/// An address of the command line that cannot be bound, beside those that are.
pub(crate) fn for_address(
    protocol: Protocol,
    address: SocketAddr,
    error: &io::Error,
    flag: &str,
    bound: &[(Protocol, BoundAddress)],
) -> ExitError {
    let alternative = match address.ip() {
        ip if ip.is_loopback() => format!("{flag} localhost:PORT"),
        IpAddr::V4(ip) => format!("{flag} {ip}:PORT"),
        IpAddr::V6(ip) => format!("{flag} [{ip}]:PORT"),
    };
    let overlaps = |other: SocketAddr| {
        other.port() == address.port() && (other.ip().is_unspecified() || address.ip().is_unspecified())
    };
    let overlapping = bound
        .iter()
        .find(|(other, bound_address)| *other == protocol && bound_address.socket_addr().is_some_and(overlaps));
    let cause = match (error.kind(), overlapping) {
        (io::ErrorKind::AddrInUse, Some((_, other))) => {
            format!("it overlaps {other}, which was asked for as well; leave one of the two out")
        }
        (io::ErrorKind::AddrInUse, None) => format!(
            "the port is taken by another program; stop that program, or choose another port with {alternative}"
        ),
        (io::ErrorKind::PermissionDenied, _) => format!(
            "this user may not open that port; choose one from 1024 up with {alternative}, or allow it with \
             CAP_NET_BIND_SERVICE"
        ),
        _ if is_address_unavailable(error) => format!(
            "this machine does not have that address; give one that it has, or all of them with {flag} 0.0.0.0:{}",
            address.port()
        ),
        _ => cause_and_hint(error, &format!("try another address or port with {alternative}")),
    };
    cannot_serve(&format!("{protocol} on {address}"), &cause)
}
