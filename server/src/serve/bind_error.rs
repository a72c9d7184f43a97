//! The errors of sockets that cannot be opened.
//!
//! Each error names the socket, the cause and a hint.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::{fs, io};

use nix::errno::Errno;

use crate::exit::{self, ExitError, ExitStatus, cause_and_hint, describe_io_error};
use crate::text::address::{Address, describe_unknown_zone, lacks_zone};
use crate::text::bound_address::BoundAddress;
use crate::text::escape;
use crate::text::protocol::Protocol;

/// The error of an address of the command line that does not resolve; the cause is the resolver's.
pub(crate) fn for_unresolved(address: &Address, cause: &str, assignment: &str) -> ExitError {
    let cause = match address.zone() {
        Some(zone) => describe_unknown_zone(zone),
        None => {
            format!("{cause}: the name is unknown; check its spelling, or give an IP address with {assignment}ADDRESS")
        }
    };
    cannot_serve(&format!("on {address}"), &cause)
}

/// The error of an inherited socket.
pub(crate) fn for_inherited(protocol: Protocol, error: &io::Error) -> ExitError {
    cannot_serve(&format!("{protocol} on an inherited socket"), &cause_and_hint(error, exit::TRY_AGAIN))
}

/// The error of a socket that the first worker has opened and another worker cannot open.
pub(crate) fn for_worker(
    protocol: Protocol,
    address: &BoundAddress,
    worker_number: usize,
    error: &io::Error,
) -> ExitError {
    let cause = cause_and_hint(error, "try again, or use fewer workers");
    cannot_serve(&format!("{protocol} on {address} with worker {worker_number}"), &cause)
}

/// The error of a path.
pub(crate) fn for_path(path: &Path, error: &io::Error, assignment: &str) -> ExitError {
    let choose_another = format!("choose another path with {assignment}PATH");
    let parent = path.parent().unwrap_or(path);
    let folder = escape::path(parent.as_os_str().as_bytes());
    let system_error = describe_io_error(error);
    let existing_type = fs::symlink_metadata(path).map(|metadata| metadata.file_type());
    let cause = match (error.kind(), existing_type) {
        (io::ErrorKind::AddrInUse, Ok(file_type)) if file_type.is_dir() => {
            format!("{system_error}: it is a folder; name a file in it with {assignment}PATH")
        }
        (io::ErrorKind::AddrInUse, Ok(file_type)) if !file_type.is_socket() => {
            // A device or a pipe may have another use, and should not be removed.
            let remove = if file_type.is_file() { "remove it, or " } else { "" };
            format!("{system_error}: that file is not a socket and is left alone; {remove}{choose_another}")
        }
        // Without an error number, the message is the library's reason for not replacing the file.
        (io::ErrorKind::AddrInUse, _) if error.raw_os_error().is_some() => {
            format!("{system_error}; stop the program that has the socket, or {choose_another}")
        }
        (io::ErrorKind::NotFound, _) if path.is_relative() && std::env::current_dir().is_err() => {
            format!("{system_error}: the working directory was deleted; change to another, or give an absolute path")
        }
        (io::ErrorKind::NotFound, _) if !parent.exists() => {
            format!("{system_error}: there is no folder {folder}; create it, or {choose_another}")
        }
        (io::ErrorKind::NotADirectory, _) => format!("{system_error}: {folder} is not a folder; {choose_another}"),
        (io::ErrorKind::PermissionDenied, Ok(_)) if is_errno(error, Errno::EPERM) => format!(
            "{system_error}: in {folder} only the owner of a file may remove it, and the file that a server has left \
            there is of another user; remove it as that user, or {choose_another}"
        ),
        (io::ErrorKind::PermissionDenied, _) => format!(
            "{system_error}: this user may not create a file in {folder}; {choose_another}, or allow this user to \
             write there"
        ),
        (io::ErrorKind::InvalidInput, _) => {
            cause_and_hint(error, &format!("choose a shorter path with {assignment}PATH"))
        }
        _ => cause_and_hint(error, &choose_another),
    };
    cannot_serve(&format!("unix on {}", BoundAddress::from_path(path)), &cause)
}

/// `cause` contains the hint.
fn cannot_serve(subject: &str, cause: &str) -> ExitError {
    ExitError::new(ExitStatus::Unavailable, format!("cannot serve {subject}: {cause}"))
}

/// Whether this machine does not have the address, or has its address family switched off.
pub(crate) fn is_address_unavailable(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable || is_errno(error, Errno::EAFNOSUPPORT)
}

fn is_errno(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno as i32)
}

/// The first port that any user may open (ip(7)); `None` if the system does not show it.
fn unprivileged_port_start() -> Option<u16> {
    fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").ok()?.trim().parse().ok()
}

/// The ports to choose from in place of one that this user may not open.
fn permitted_ports(port: u16, unprivileged_port_start: Option<u16>) -> String {
    match unprivileged_port_start {
        Some(start) if port < start => format!("one from {start} up"),
        // Another rule forbids it, or the first unprivileged port is unknown.
        _ => "another one".to_owned(),
    }
}

/// The error of an address of the command line that cannot be bound; `bound` are the sockets that are. The hint repeats
/// the address as given, with its flag or variable.
pub(crate) fn for_address(
    protocol: Protocol,
    address: SocketAddr,
    error: &io::Error,
    (given, assignment): (&Address, &str),
    bound: &[(Protocol, BoundAddress)],
) -> ExitError {
    let port = address.port();
    let alternative = format!("{assignment}{}:PORT", given.host());
    let all_addresses = match address.ip() {
        IpAddr::V6(ip) if !ip.is_loopback() => "[::]",
        _ => "0.0.0.0",
    };
    let overlaps =
        |other: SocketAddr| other.port() == port && (other.ip().is_unspecified() || address.ip().is_unspecified());
    let overlapping = bound
        .iter()
        .find(|(other, bound_address)| *other == protocol && bound_address.socket_addr().is_some_and(overlaps));
    let system_error = describe_io_error(error);
    let cause = match (error.kind(), overlapping) {
        (io::ErrorKind::AddrInUse, Some((_, other))) => {
            format!("{system_error}: it overlaps {other}, which is served as well; leave one of the two out")
        }
        (io::ErrorKind::AddrInUse, None) => {
            format!("{system_error}; stop the program that has the port, or choose another port with {alternative}")
        }
        (io::ErrorKind::PermissionDenied, _) => format!(
            "{system_error}: this user may not open that port; choose {} with {alternative}, or allow it with \
             CAP_NET_BIND_SERVICE",
            permitted_ports(port, unprivileged_port_start())
        ),
        (io::ErrorKind::AddrNotAvailable, _) => format!(
            "{system_error}: this machine does not have that address; give one that it has, or all of them with \
             {assignment}{all_addresses}:{port}"
        ),
        _ if is_errno(error, Errno::EAFNOSUPPORT) => {
            format!(
                "{system_error}: this machine has no IPv6; give an IPv4 address, such as {assignment}127.0.0.1:{port}"
            )
        }
        _ if is_errno(error, Errno::ENODEV) => describe_unknown_zone(given.zone().unwrap_or("of that number")),
        _ if address.ip().is_multicast() => format!(
            "{system_error}: it is a multicast address, and halloo joins no group; give an address of this machine, or \
             all of them with {assignment}{all_addresses}:{port}"
        ),
        _ if lacks_zone(address) => format!(
            "{system_error}: a link-local address needs its interface; name it, as in {assignment}[{}%eth0]:{port}; \
            ip link lists the interfaces",
            address.ip()
        ),
        _ => cause_and_hint(error, &format!("try another address or port with {alternative}")),
    };
    cannot_serve(&format!("{protocol} on {address}"), &cause)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::os::unix::net::UnixListener;

    use nix::errno::Errno;

    use super::{for_path, permitted_ports};

    #[test]
    fn the_suggested_port_is_one_that_the_system_permits() {
        assert_eq!(permitted_ports(80, Some(1024)), "one from 1024 up");
        assert_eq!(permitted_ports(20_001, Some(30_000)), "one from 30000 up");
        assert_eq!(permitted_ports(9000, Some(1024)), "another one");
        assert_eq!(permitted_ports(80, None), "another one");
    }

    #[test]
    fn an_old_socket_file_in_a_sticky_folder_has_its_own_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let error = |errno: Errno| for_path(&path, &io::Error::from_raw_os_error(errno as i32), "--unix ").message;
        let not_writable = "this user may not create a file in";
        assert!(error(Errno::EACCES).contains(not_writable), "{}", error(Errno::EACCES));
        assert!(error(Errno::EPERM).contains(not_writable), "there is no file: {}", error(Errno::EPERM));
        drop(UnixListener::bind(&path).unwrap());
        let message = error(Errno::EPERM);
        assert!(!message.contains(not_writable), "{message}");
        for part in ["operation not permitted: ", "is of another user; remove it as that user", "--unix PATH"] {
            assert!(message.contains(part), "{message}");
        }
    }
}
