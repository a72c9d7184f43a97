//! Options for listening, binding, connecting and watching.

/// The setters of what every connection has, accepted or outbound.
macro_rules! connection_setters {
    () => {
        /// Close a connection of which the handler has consumed no input, and the kernel taken no output, for this
        /// long. While output waits to be taken, [`write_timeout`](Self::write_timeout) runs instead. For an outbound
        /// connection, the time runs from when it is open. `None`: never. Default: 60 s.
        ///
        /// Input that arrived in time is delivered first, though the loop comes to it late. The time may run out up to
        /// 10 ms late.
        pub fn idle_timeout(mut self, after: impl Into<Option<std::time::Duration>>) -> Self {
            self.limits.idle_timeout = after.into();
            self
        }

        /// Close a connection that takes none of the bytes waiting for it for this long, up to 10 ms late. `None`:
        /// never. Default: 30 s.
        pub fn write_timeout(mut self, after: impl Into<Option<std::time::Duration>>) -> Self {
            self.limits.write_timeout = after.into();
            self
        }

        /// Bytes of input kept for a handler that has not consumed them. Default: 65,536, which is also the most.
        pub fn input_bytes_max(mut self, bytes: usize) -> Self {
            self.limits.input_bytes_max = bytes;
            self
        }

        /// Bytes of output kept until the kernel takes them; what is written before an outbound connection is open
        /// counts, too. Default: 65,536.
        ///
        /// While it is full of what the connection's own callbacks have written, nothing is read from the peer: one
        /// that takes no answers asks no more questions. What other callbacks write to it, as in a proxy, holds up
        /// nothing.
        pub fn outbox_bytes_max(mut self, bytes: usize) -> Self {
            self.limits.outbox_bytes_max = bytes;
            self
        }

        /// Send small writes at once instead of gathering them (`TCP_NODELAY`). Default: yes; what one callback writes
        /// leaves together in any case.
        pub fn nodelay(mut self, nodelay: bool) -> Self {
            self.tcp.nodelay = nodelay;
            self
        }

        /// Bytes that the kernel keeps of a TCP connection's input until they are read (`SO_RCVBUF`), 2,147,483,647 at
        /// most. Linux doubles it, for its own overhead, and cuts it to `net.core.rmem_max`. Default: the system's,
        /// which grows with use, to 6 MiB by `net.ipv4.tcp_rmem`; a buffer of a fixed size bounds what a client can
        /// have the kernel keep. The window that a peer is offered depends on it, so that a buffer smaller than what is
        /// under way in a round trip makes a fast connection slow.
        ///
        /// A unix socket ignores this option, as it does the others of TCP.
        pub fn recv_buffer_bytes(mut self, bytes: usize) -> Self {
            self.tcp.recv_buffer_bytes = Some(bytes);
            self
        }

        /// Bytes that the kernel keeps of a TCP connection's output until the peer has them (`SO_SNDBUF`),
        /// 2,147,483,647 at most. Linux doubles it, for its own overhead, and cuts it to `net.core.wmem_max`. Default:
        /// the system's, which grows with use, to 4 MiB by `net.ipv4.tcp_wmem`.
        pub fn send_buffer_bytes(mut self, bytes: usize) -> Self {
            self.tcp.send_buffer_bytes = Some(bytes);
            self
        }

        /// Bytes of a TCP connection's output past which the kernel takes no more while it has not sent them
        /// (`TCP_NOTSENT_LOWAT`), at least 1. Default: the system's, which has no such limit.
        ///
        /// It bounds what the kernel keeps for a peer that does not read. Unlike a small
        /// [`send_buffer_bytes`](Self::send_buffer_bytes) it does not bound what is under way, and so makes no
        /// connection slow. On systems other than Linux it is an error of the kind
        /// [`Unsupported`](std::io::ErrorKind::Unsupported).
        pub fn tcp_notsent_lowat(mut self, bytes: u32) -> Self {
            self.tcp.notsent_lowat = Some(bytes);
            self
        }

        /// Have the kernel ask a TCP peer that has been silent for `idle` whether it is still there, and again each
        /// `interval`; after so many `probes` without an answer the connection has failed (`SO_KEEPALIVE`,
        /// `TCP_KEEPIDLE`, `TCP_KEEPINTVL`, `TCP_KEEPCNT`). The times are between 1 and 32,767 seconds, and a fraction
        /// of a second is dropped; the probes are between 1 and 127. Default: no.
        ///
        /// With an [`idle_timeout`](Self::idle_timeout), which is on by default, silent connections are closed whether
        /// their peer is there or not; this is for those that may be silent for long. On systems other than Linux,
        /// macOS, FreeBSD and Windows it is an error of the kind [`Unsupported`](std::io::ErrorKind::Unsupported).
        pub fn tcp_keepalive(mut self, idle: std::time::Duration, interval: std::time::Duration, probes: u32) -> Self {
            self.tcp.keepalive = Some($crate::options::tcp::Keepalive { idle, interval, probes });
            self
        }

        /// How long bytes that the kernel has sent to a TCP peer may stay unacknowledged, or unsent because the peer
        /// reads nothing, before the connection has failed (`TCP_USER_TIMEOUT`): between 1 and 2,147,483,647
        /// milliseconds. Default: the system's, about a quarter of an hour.
        ///
        /// [`write_timeout`](Self::write_timeout) runs while bytes wait in the outbox; this is about those that the
        /// kernel has taken. With [`tcp_keepalive`](Self::tcp_keepalive) it replaces the number of probes. On systems
        /// other than Linux it is an error of the kind [`Unsupported`](std::io::ErrorKind::Unsupported).
        pub fn tcp_user_timeout(mut self, after: std::time::Duration) -> Self {
            self.tcp.user_timeout = Some(after);
            self
        }
    };
}

/// The setters of what every bound socket has, TCP or UDP.
macro_rules! bound_socket_setters {
    () => {
        /// Share the port with other sockets that do the same (`SO_REUSEPORT`), which then each get a part of the
        /// clients. Default: no, so that a taken port is an error.
        pub fn reuse_port(mut self, reuse: bool) -> Self {
            self.reuse_port = if reuse { $crate::options::ReusePort::Yes } else { $crate::options::ReusePort::No };
            self
        }

        /// Bind the port alone, which is an error if any other socket has it, and then share it with sockets of the same
        /// user that set [`reuse_port`](Self::reuse_port). For the first of several loops that are one server: of several
        /// such servers that start at once, one gets the port. Default: no. The later of the two calls counts.
        pub fn reuse_port_after_bind(mut self, reuse: bool) -> Self {
            self.reuse_port =
                if reuse { $crate::options::ReusePort::AfterBind } else { $crate::options::ReusePort::No };
            self
        }

        /// On an IPv6 wildcard, leave IPv4 to others (`IPV6_V6ONLY`). Default: no, `[::]` serves both.
        pub fn only_v6(mut self, only: bool) -> Self {
            self.only_v6 = only;
            self
        }
    };
}

/// Whether other sockets may have the same port (`SO_REUSEPORT`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ReusePort {
    No,
    /// With sockets that were bound before and with those that come.
    Yes,
    /// With those that come alone.
    AfterBind,
}

pub(crate) mod bind;
pub(crate) mod connect;
pub(crate) mod connection_limits;
pub(crate) mod listen;
pub(crate) mod tcp;
pub(crate) mod udp;

/// What a watch of a descriptor waits for.
///
/// ```
/// use halloo::Interest;
///
/// // A socket that is written to now and then: its edges come when there is room, and when there is input.
/// let interest = Interest::ReadWrite;
/// assert_ne!(interest, Interest::Read);
/// ```
#[cfg(unix)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Interest {
    /// Input, the end of it, or an error.
    Read,
    /// Room for output, or an error.
    Write,
    /// Both.
    ReadWrite,
}

#[cfg(unix)]
impl Interest {
    pub(crate) fn reads(self) -> bool {
        self != Self::Write
    }

    pub(crate) fn writes(self) -> bool {
        self != Self::Read
    }
}
