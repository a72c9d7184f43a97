//! Socket options of TCP connections.

use std::time::Duration;

use crate::limits;

/// TCP socket options, set before a socket listens or connects. Accepted connections inherit them. `None` leaves the
/// system's default. Unix sockets ignore them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TcpOptions {
    pub(crate) nodelay: bool,
    pub(crate) recv_buffer_bytes: Option<usize>,
    pub(crate) send_buffer_bytes: Option<usize>,
    pub(crate) notsent_lowat: Option<u32>,
    pub(crate) keepalive: Option<Keepalive>,
    pub(crate) user_timeout: Option<Duration>,
}

/// Keepalive probes of the kernel to a silent peer (tcp(7)).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keepalive {
    pub(crate) idle: Duration,
    pub(crate) interval: Duration,
    pub(crate) probes: u32,
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self {
            nodelay: true,
            recv_buffer_bytes: None,
            send_buffer_bytes: None,
            notsent_lowat: None,
            keepalive: None,
            user_timeout: None,
        }
    }
}

impl TcpOptions {
    /// Refuses values that the kernel would refuse, or read as another value.
    pub(crate) fn validate(&self) -> Result<(), &'static str> {
        let too_many = |bytes: Option<usize>| bytes.is_some_and(|bytes| bytes > limits::KERNEL_BUFFER_BYTES_MAX);
        let is_out_of_range = |keepalive: Keepalive| {
            let seconds = [keepalive.idle, keepalive.interval].map(|time| time.as_secs());
            seconds.iter().any(|seconds| !(1..=limits::KEEPALIVE_SECONDS_MAX).contains(seconds))
                || !(1..=limits::KEEPALIVE_PROBES_MAX).contains(&keepalive.probes)
        };
        let user_timeout = self.user_timeout.map_or(1, |after| after.as_millis());
        if too_many(self.recv_buffer_bytes) {
            Err("recv_buffer_bytes must be at most 2,147,483,647")
        } else if too_many(self.send_buffer_bytes) {
            Err("send_buffer_bytes must be at most 2,147,483,647")
        } else if self.notsent_lowat == Some(0) {
            // The kernel reads zero as its own default.
            Err("tcp_notsent_lowat must be at least 1 byte")
        } else if self.keepalive.is_some_and(is_out_of_range) {
            Err("tcp_keepalive needs times between 1 and 32,767 seconds, and between 1 and 127 probes")
        } else if !(1..=limits::USER_TIMEOUT_MILLISECONDS_MAX).contains(&user_timeout) {
            Err("tcp_user_timeout must be between 1 and 2,147,483,647 milliseconds")
        } else {
            Ok(())
        }
    }
}
