//! The errors of sockets that cannot be opened.
//!
//! Each error names the socket, the cause and a hint.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::{fs, io};

use crate::exit::{ExitError, ExitStatus, describe_io_error, hint};
use crate::text::address::Address;
use crate::text::bound_address::BoundAddress;
use crate::text::escape;
use crate::text::protocol::Protocol;

/// An address of the command line that does not resolve.
pub(crate) fn for_unresolved(address: &Address, cause: &str) -> ExitError {
    let hint = match address.zone() {
        Some(zone) => format!("this machine has no interface {zone} ({cause}); ip link lists those it has"),
        None => format!("the name is unknown ({cause}); check its spelling, or give an IP address"),
    };
    ExitError::new(ExitStatus::Unavailable, format!("cannot serve on {address}: {hint}"))
}

/// An inherited socket.
pub(crate) fn for_inherited(protocol: Protocol, error: &io::Error) -> ExitError {
    let (cause, hint) = cause_and_hint(error, "try again, and see what the system's log says");
    cannot_serve(&format!("{protocol} on a socket handed over"), &cause, hint)
}

/// A socket that the first worker has opened, and another worker cannot.
pub(crate) fn for_worker(
    protocol: Protocol,
    address: &BoundAddress,
    worker_number: usize,
    error: &io::Error,
) -> ExitError {
    let (cause, hint) = cause_and_hint(error, "try again, or with fewer workers");
    cannot_serve(&format!("{protocol} on {address} with worker {worker_number}"), &cause, hint)
}

/// A path.
pub(crate) fn for_path(path: &Path, error: &io::Error) -> ExitError {
    const CHOOSE_ANOTHER_PATH: &str = "choose another path with --unix PATH";
    let parent = path.parent().unwrap_or(path);
    let folder = || escape::path(parent.as_os_str().as_bytes());
    let existing_type = fs::symlink_metadata(path).map(|metadata| metadata.file_type());
    let (cause, hint) = match error.kind() {
        io::ErrorKind::AddrInUse if existing_type.is_ok_and(|file_type| !file_type.is_socket()) => (
            "what stands there is no socket, and is left alone".to_owned(),
            format!("remove it, or {CHOOSE_ANOTHER_PATH}"),
        ),
        io::ErrorKind::AddrInUse => {
            ("the path is taken by another program".to_owned(), format!("stop that program, or {CHOOSE_ANOTHER_PATH}"))
        }
        io::ErrorKind::NotFound if !parent.exists() => {
            (format!("there is no folder {}", folder()), format!("make it, or {CHOOSE_ANOTHER_PATH}"))
        }
        io::ErrorKind::NotADirectory => (format!("{} is no folder", folder()), CHOOSE_ANOTHER_PATH.to_owned()),
        io::ErrorKind::PermissionDenied => (
            format!("this user may not make a file in {}", folder()),
            format!("{CHOOSE_ANOTHER_PATH}, or allow that user to write there"),
        ),
        io::ErrorKind::InvalidInput => {
            let bytes = path.as_os_str().len();
            let cause = format!("the path has {bytes} bytes, more than a unix socket's can have");
            (cause, "choose one of 107 at most with --unix PATH".to_owned())
        }
        _ => {
            let (cause, hint) = cause_and_hint(error, CHOOSE_ANOTHER_PATH);
            (cause, hint.to_owned())
        }
    };
    cannot_serve(&format!("unix on {}", BoundAddress::from_path(path)), &cause, &hint)
}

fn cannot_serve(subject: &str, cause: &str, hint: &str) -> ExitError {
    ExitError::new(ExitStatus::Unavailable, format!("cannot serve {subject}: {cause}; {hint}"))
}

/// The system's message, and the hint for it or else the fallback.
fn cause_and_hint<'a>(error: &io::Error, fallback: &'a str) -> (String, &'a str) {
    let cause = describe_io_error(error);
    let hint = hint(&cause).unwrap_or(fallback);
    (cause, hint)
}

/// Whether the machine simply has no such address: it is none of its own, or its whole family is switched off.
pub(crate) fn is_address_unavailable(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable || is_family_unsupported(error)
}

#[cfg(target_os = "linux")]
fn is_family_unsupported(error: &io::Error) -> bool {
    error.raw_os_error() == Some(nix::errno::Errno::EAFNOSUPPORT as i32)
}

#[cfg(not(target_os = "linux"))]
fn is_family_unsupported(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Unsupported
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
    let (cause, hint) = match (error.kind(), overlapping) {
        (io::ErrorKind::AddrInUse, Some((_, other))) => {
            (format!("it overlaps {other}, which was asked for as well"), "leave one of the two out".to_owned())
        }
        (io::ErrorKind::AddrInUse, None) => (
            "the port is taken by another program".to_owned(),
            format!("stop that program, or choose another port with {alternative}"),
        ),
        (io::ErrorKind::PermissionDenied, _) => (
            "this user may not open that port".to_owned(),
            format!("choose one from 1024 up with {alternative}, or allow it with CAP_NET_BIND_SERVICE"),
        ),
        _ if is_address_unavailable(error) => (
            "this machine does not have that address".to_owned(),
            format!("give one that it has, or all of them with {flag} 0.0.0.0:{}", address.port()),
        ),
        _ => {
            let cause = describe_io_error(error);
            let hint = hint(&cause).map(str::to_owned);
            (cause, hint.unwrap_or_else(|| format!("try another address or port with {alternative}")))
        }
    };
    cannot_serve(&format!("{protocol} on {address}"), &cause, &hint)
}
