//! Unused ports.

use std::io::{self, ErrorKind};
use std::net::{TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

use crate::wait::wait_until;

/// A port that no TCP or UDP socket on localhost has at the moment.
///
/// It is below the range for outbound connections (`ip_local_port_range`), one of which could take it otherwise.
pub fn unused_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 100).expect("two digits") * 100;
    let ports = || 20_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
    std::iter::repeat_with(ports).find(|port| is_unused(*port)).expect("the iterator is endless")
}

fn is_unused(port: u16) -> bool {
    // Without IPv6 the error is another one, and does not count.
    fn is_in_use<T>(bound: io::Result<T>) -> bool {
        bound.is_err_and(|error| error.kind() == ErrorKind::AddrInUse)
    }
    !["127.0.0.1", "::1"]
        .iter()
        .any(|host| is_in_use(TcpListener::bind((*host, port))) || is_in_use(UdpSocket::bind((*host, port))))
}

/// Waits for a TCP listener at 127.0.0.1 by its entry in `/proc/net/tcp`, without a connect.
#[track_caller]
pub fn wait_for_listener(port: u16) {
    wait_until("a listener", || {
        let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel has a table");
        table.contains(&format!("0100007F:{port:04X} 00000000:0000 0A"))
    });
}
