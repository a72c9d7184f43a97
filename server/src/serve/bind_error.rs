//! The one sentence about something that cannot be served.
//!
//! Beside the opening of sockets, which hands in what the system said. It promises the thing, the cause in plain words
//! and the way out. It opens nothing; at a path it looks at what stands there.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::{fs, io};

use crate::exit::{Failure, Status, plain_words, way_out};
use crate::text::address::Address;
use crate::text::bound_address::Site;
use crate::text::escape;
use crate::text::protocol::Protocol;

/// An address of the command line that means none.
pub(crate) fn of_name(address: &Address, cause: &str) -> Failure {
    let so = match address.zone() {
        Some(zone) => format!("this machine has no interface {zone} ({cause}); ip link lists those it has"),
        None => format!("the name is unknown ({cause}); check its spelling, or give an IP address"),
    };
    Failure::new(Status::Unreachable, format!("cannot serve on {address}: {so}"))
}

/// A socket handed over.
pub(crate) fn of_handed(protocol: Protocol, error: &io::Error) -> Failure {
    let (words, so) = of_machine(error, "try again, and see what the system's log says");
    refuse(&format!("{protocol} on a socket handed over"), &words, so)
}

/// What the first worker has opened, and another cannot.
pub(crate) fn of_worker(protocol: Protocol, site: &Site, number: usize, error: &io::Error) -> Failure {
    let (words, so) = of_machine(error, "try again, or with fewer workers");
    refuse(&format!("{protocol} on {site} with worker {number}"), &words, so)
}

/// A path.
pub(crate) fn of_path(path: &Path, error: &io::Error) -> Failure {
    const ANOTHER: &str = "choose another path with --unix PATH";
    let parent = path.parent().unwrap_or(path);
    let folder = || escape::path(parent.as_os_str().as_bytes());
    let stands_there = fs::symlink_metadata(path).map(|found| found.file_type());
    let (cause, so) = match error.kind() {
        io::ErrorKind::AddrInUse if stands_there.is_ok_and(|kind| !kind.is_socket()) => {
            ("what stands there is no socket, and is left alone".to_owned(), format!("remove it, or {ANOTHER}"))
        }
        io::ErrorKind::AddrInUse => {
            ("the path is taken by another program".to_owned(), format!("stop that program, or {ANOTHER}"))
        }
        io::ErrorKind::NotFound if !parent.exists() => {
            (format!("there is no folder {}", folder()), format!("make it, or {ANOTHER}"))
        }
        io::ErrorKind::NotADirectory => (format!("{} is no folder", folder()), ANOTHER.to_owned()),
        io::ErrorKind::PermissionDenied => (
            format!("this user may not make a file in {}", folder()),
            format!("{ANOTHER}, or allow that user to write there"),
        ),
        io::ErrorKind::InvalidInput => {
            let bytes = path.as_os_str().len();
            let cause = format!("the path has {bytes} bytes, more than a unix socket's can have");
            (cause, "choose one of 107 at most with --unix PATH".to_owned())
        }
        _ => {
            let (words, so) = of_machine(error, ANOTHER);
            (words, so.to_owned())
        }
    };
    refuse(&format!("unix on {}", Site::path(path)), &cause, &so)
}

fn refuse(what: &str, cause: &str, so: &str) -> Failure {
    Failure::new(Status::Unreachable, format!("cannot serve {what}: {cause}; {so}"))
}

/// The system's words, and the way out if it is known, or else this one.
fn of_machine<'a>(error: &io::Error, otherwise: &'a str) -> (String, &'a str) {
    let words = plain_words(error);
    let so = way_out(&words).unwrap_or(otherwise);
    (words, so)
}

/// Whether the machine simply has no such address: it is none of its own, or its whole family is switched off.
pub(crate) fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable || is_family_missing(error)
}

#[cfg(target_os = "linux")]
fn is_family_missing(error: &io::Error) -> bool {
    error.raw_os_error() == Some(nix::errno::Errno::EAFNOSUPPORT as i32)
}

#[cfg(not(target_os = "linux"))]
fn is_family_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Unsupported
}

/// The one sentence about an address that cannot be served, beside those that are.
pub(crate) fn of_address(
    protocol: Protocol,
    at: SocketAddr,
    error: &io::Error,
    flag: &str,
    served: &[(Protocol, Site)],
) -> Failure {
    let another = match at.ip() {
        ip if ip.is_loopback() => format!("{flag} localhost:PORT"),
        IpAddr::V4(ip) => format!("{flag} {ip}:PORT"),
        IpAddr::V6(ip) => format!("{flag} [{ip}]:PORT"),
    };
    let overlaps =
        |other: SocketAddr| other.port() == at.port() && (other.ip().is_unspecified() || at.ip().is_unspecified());
    let own = served.iter().find(|(other, site)| *other == protocol && site.address().is_some_and(overlaps));
    let (cause, so) = match (error.kind(), own) {
        (io::ErrorKind::AddrInUse, Some((_, other))) => {
            (format!("it overlaps {other}, which was asked for as well"), "leave one of the two out".to_owned())
        }
        (io::ErrorKind::AddrInUse, None) => (
            "the port is taken by another program".to_owned(),
            format!("stop that program, or choose another port with {another}"),
        ),
        (io::ErrorKind::PermissionDenied, _) => (
            "this user may not open that port".to_owned(),
            format!("choose one from 1024 up with {another}, or allow it with CAP_NET_BIND_SERVICE"),
        ),
        _ if is_missing(error) => (
            "this machine does not have that address".to_owned(),
            format!("give one that it has, or all of them with {flag} 0.0.0.0:{}", at.port()),
        ),
        _ => {
            let words = plain_words(error);
            let known = way_out(&words).map(str::to_owned);
            (words, known.unwrap_or_else(|| format!("try another address or port with {another}")))
        }
    };
    refuse(&format!("{protocol} on {at}"), &cause, &so)
}
