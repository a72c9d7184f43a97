//! Makes the kernel accept no further input of a stream.
//!
//! What it has accepted stays readable.

use std::io;
#[cfg(unix)]
use std::net::Shutdown;
#[cfg(target_os = "linux")]
use std::os::fd::AsFd;

#[cfg(target_os = "linux")]
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
#[cfg(target_os = "linux")]
use socket2::{SockFilter, SockRef};

use crate::net::system::stream::SystemStream;
use crate::state::phase::InputStop;

impl SystemStream {
    /// Accepts no further input.
    #[cfg(target_os = "linux")]
    pub(crate) fn stop_input(&self) -> Option<(InputStop, io::Result<()>)> {
        match self {
            Self::Tcp(stream) => {
                Some((InputStop::Filter, SockRef::from(stream).attach_filter(&PASSES_SEGMENTS_WITHOUT_DATA)))
            }
            Self::Unix(stream) => stop_unix_input(stream),
        }
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn stop_input(&self) -> Option<(InputStop, io::Result<()>)> {
        match self {
            Self::Tcp(_) => None,
            #[cfg(unix)]
            Self::Unix(stream) => stop_unix_input(stream),
        }
    }

    /// Whether no output waits in the kernel to be sent. From now on an event reports only this as room.
    #[cfg(target_os = "linux")]
    pub(crate) fn has_sent_all(&self) -> (bool, io::Result<()>) {
        let Self::Tcp(stream) = self else {
            return (true, Ok(()));
        };
        let result = SockRef::from(stream).set_tcp_notsent_lowat(1);
        let may_wait = result.is_ok();
        let is_sent = poll(&mut [PollFd::new(stream.as_fd(), PollFlags::POLLOUT)], PollTimeout::ZERO) != Ok(0);
        (is_sent || !may_wait, result)
    }

    #[cfg(not(target_os = "linux"))]
    #[expect(clippy::unused_self, reason = "used on Linux")]
    pub(crate) fn has_sent_all(&self) -> (bool, io::Result<()>) {
        (true, Ok(()))
    }

    /// Accepts input again.
    #[cfg(target_os = "linux")]
    pub(crate) fn resume_input(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => SockRef::from(stream).detach_filter(),
            Self::Unix(_) => Ok(()),
        }
    }

    #[cfg(not(target_os = "linux"))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "used on Linux")]
    pub(crate) fn resume_input(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes the peer's writes fail; what it has written stays readable. The EOF of a peer that has ended its side must still
/// be readable as such, so nothing is done then.
#[cfg(unix)]
fn stop_unix_input(stream: &mio::net::UnixStream) -> Option<(InputStop, io::Result<()>)> {
    (!has_peer_ended(stream)).then(|| (InputStop::Shutdown, stream.shutdown(Shutdown::Read)))
}

#[cfg(target_os = "linux")]
fn has_peer_ended(stream: &mio::net::UnixStream) -> bool {
    poll(&mut [PollFd::new(stream.as_fd(), PollFlags::from_bits_retain(nix::libc::POLLRDHUP))], PollTimeout::ZERO)
        != Ok(0)
}

/// Without `POLLRDHUP` the EOF of the peer may be taken for ours, and `on_eof` is not called.
#[cfg(all(unix, not(target_os = "linux")))]
fn has_peer_ended(_stream: &mio::net::UnixStream) -> bool {
    false
}

/// A socket filter (socket(7), `SO_ATTACH_FILTER`) that drops TCP segments with data. The kernel runs it before it queues
/// or acknowledges a segment, so the peer keeps the data and sends it again. Acknowledgements, FIN and RST pass: output and
/// close need them. The filter compares the length of the segment with the length of its header.
#[cfg(target_os = "linux")]
const PASSES_SEGMENTS_WITHOUT_DATA: [SockFilter; 8] = [
    // The upper half of byte 12 is the length of the header in units of 4 bytes (RFC 9293, section 3.1).
    SockFilter::new(0x30, 0, 0, 12),       // ldb [12]
    SockFilter::new(0x54, 0, 0, 0xf0),     // and #0xf0
    SockFilter::new(0x74, 0, 0, 2),        // rsh #2
    SockFilter::new(0x07, 0, 0, 0),        // tax
    SockFilter::new(0x80, 0, 0, 0),        // ld #len
    SockFilter::new(0x1d, 1, 0, 0),        // jeq x, pass, drop
    SockFilter::new(0x06, 0, 0, 0),        // drop: ret #0
    SockFilter::new(0x06, 0, 0, u32::MAX), // pass: ret #-1
];
