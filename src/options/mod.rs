//! Options for listening, binding, connecting and watching.

/// Setters that `Listen` and `Connect` share.
macro_rules! connection_setters {
    () => {
        /// Closes a connection after this long without progress: the handler has consumed no input, and the kernel has
        /// accepted no output. While output waits in the outbox, [`write_timeout`](Self::write_timeout) applies
        /// instead. For an outbound connection the time starts when it opens. `None`: no timeout. Default: 60 s.
        ///
        /// Input that arrived in time is delivered first, even if the loop reads it late. The timeout may fire up to 10
        /// ms late.
        pub fn idle_timeout(mut self, after: impl Into<Option<std::time::Duration>>) -> Self {
            self.limits.idle_timeout = after.into();
            self
        }

        /// Closes a connection when the kernel has accepted none of its waiting output for this long, up to 10 ms late.
        /// `None`: no timeout. Default: 30 s.
        pub fn write_timeout(mut self, after: impl Into<Option<std::time::Duration>>) -> Self {
            self.limits.write_timeout = after.into();
            self
        }

        /// Limits the input kept until the handler consumes it, in bytes: at least the longest frame that must be delivered
        /// whole, and at most 4,294,967,295. Default: 131,072.
        ///
        /// The memory is allocated as input arrives, within
        /// [`buffer_bytes_max`](crate::EventLoop::buffer_bytes_max). A frame that does not fit there resets its connection,
        /// with [`CloseReason::OutOfMemory`](crate::CloseReason::OutOfMemory).
        pub fn input_bytes_max(mut self, bytes: usize) -> Self {
            self.limits.input_bytes_max = bytes;
            self
        }

        /// Limits the output kept until the kernel accepts it, in bytes. Output written before an outbound connection
        /// opens counts, too. Default: 131,072.
        ///
        /// A reply of `n` bytes to each frame of [`Frames`](crate::framing::Frames) always fits an outbox of `2 * n`. With
        /// a large outbox, raise [`buffer_bytes_max`](crate::EventLoop::buffer_bytes_max), too: it is shared by all
        /// connections, and 64 clients that do not read fill 256 MiB with 4 MiB each.
        ///
        /// Reading stops while the outbox is full of output from the connection's own callbacks. Output from other
        /// callbacks, as in a proxy, does not stop reading.
        pub fn outbox_bytes_max(mut self, bytes: usize) -> Self {
            self.limits.outbox_bytes_max = bytes;
            self
        }

        /// Sends small writes at once instead of gathering them (`TCP_NODELAY`). Default: yes. The writes of one
        /// callback leave together in any case.
        pub fn nodelay(mut self, nodelay: bool) -> Self {
            self.tcp.nodelay = nodelay;
            self
        }

        /// Sets the size in bytes of a TCP connection's receive buffer in the kernel (`SO_RCVBUF`), at most
        /// 2,147,483,647. Linux doubles the size for its own overhead, and limits it to `net.core.rmem_max`. Default:
        /// the system's, which grows with use, up to 6 MiB by `net.ipv4.tcp_rmem`.
        ///
        /// A fixed size bounds the kernel memory that a client can use. The TCP window depends on the buffer: a buffer
        /// smaller than the data in flight during a round trip slows a fast connection down.
        ///
        /// A unix socket ignores this option and the other TCP options.
        pub fn recv_buffer_bytes(mut self, bytes: usize) -> Self {
            self.tcp.recv_buffer_bytes = Some(bytes);
            self
        }

        /// Sets the size in bytes of a TCP connection's send buffer in the kernel (`SO_SNDBUF`), at most 2,147,483,647.
        /// The buffer keeps output until the peer acknowledges it. Linux doubles the size for its own overhead, and
        /// limits it to `net.core.wmem_max`. Default: the system's, which grows with use, up to 4 MiB by
        /// `net.ipv4.tcp_wmem`.
        pub fn send_buffer_bytes(mut self, bytes: usize) -> Self {
            self.tcp.send_buffer_bytes = Some(bytes);
            self
        }

        /// Limits the unsent output of a TCP connection in the kernel, in bytes (`TCP_NOTSENT_LOWAT`), at least 1. At
        /// the limit the kernel accepts no more output. Default: the system's, which has no such limit.
        ///
        /// It bounds the kernel memory for a peer that does not read. Unlike a small
        /// [`send_buffer_bytes`](Self::send_buffer_bytes) it does not bound the data in flight, so it slows no
        /// connection down. On systems other than Linux it is an error of the kind
        /// [`Unsupported`](std::io::ErrorKind::Unsupported).
        pub fn tcp_notsent_lowat(mut self, bytes: u32) -> Self {
            self.tcp.notsent_lowat = Some(bytes);
            self
        }

        /// Sets TCP keepalive (`SO_KEEPALIVE`, `TCP_KEEPIDLE`, `TCP_KEEPINTVL`, `TCP_KEEPCNT`). The kernel probes a
        /// peer that has been silent for `idle`, and again every `interval`. After `probes` probes without an answer
        /// the connection fails. The times are between 1 and 32,767 seconds; a fraction of a second is dropped.
        /// `probes` is between 1 and 127. Default: no.
        ///
        /// An [`idle_timeout`](Self::idle_timeout), which is on by default, closes silent connections even if the peer
        /// is still there. Keepalive is for connections that may be silent for long. On systems other than Linux,
        /// macOS, FreeBSD and Windows it is an error of the kind [`Unsupported`](std::io::ErrorKind::Unsupported).
        pub fn tcp_keepalive(mut self, idle: std::time::Duration, interval: std::time::Duration, probes: u32) -> Self {
            self.tcp.keepalive = Some($crate::options::tcp::Keepalive { idle, interval, probes });
            self
        }

        /// Limits how long sent bytes may stay unacknowledged, or unsent because the peer does not read
        /// (`TCP_USER_TIMEOUT`). After that the connection fails. The time is between 1 and 2,147,483,647 milliseconds.
        /// Default: the system's, about a quarter of an hour.
        ///
        /// [`write_timeout`](Self::write_timeout) applies to bytes in the outbox; this option applies to bytes in the
        /// kernel. With [`tcp_keepalive`](Self::tcp_keepalive) it replaces the number of probes. On systems other than
        /// Linux it is an error of the kind [`Unsupported`](std::io::ErrorKind::Unsupported).
        pub fn tcp_user_timeout(mut self, after: std::time::Duration) -> Self {
            self.tcp.user_timeout = Some(after);
            self
        }
    };
}

/// Setters that `Listen` and `Bind` share.
macro_rules! bound_socket_setters {
    () => {
        /// Shares the port with other sockets that set this option (`SO_REUSEPORT`). The kernel distributes the clients
        /// among them. Default: no, so that a taken port is an error.
        pub fn reuse_port(mut self, reuse: bool) -> Self {
            self.reuse_port = if reuse { $crate::options::ReusePort::Yes } else { $crate::options::ReusePort::No };
            self
        }

        /// Binds the port exclusively, and then shares it with sockets of the same user that set
        /// [`reuse_port`](Self::reuse_port). A port that another socket has is an error. It is for the first of several
        /// loops that form one server: of several such servers started at once, one gets the port. Default: no. The
        /// later of the two calls counts.
        pub fn reuse_port_after_bind(mut self, reuse: bool) -> Self {
            self.reuse_port =
                if reuse { $crate::options::ReusePort::AfterBind } else { $crate::options::ReusePort::No };
            self
        }

        /// Serves only IPv6 on an IPv6 wildcard address (`IPV6_V6ONLY`). Default: no, `[::]` serves IPv6 and IPv4.
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
    /// Also with sockets that were bound before.
    Yes,
    /// Only with sockets that are bound later.
    AfterBind,
}

pub(crate) mod bind;
pub(crate) mod connect;
pub(crate) mod connection_limits;
pub(crate) mod listen;
pub(crate) mod tcp;
pub(crate) mod udp;

/// The readiness that a watch waits for.
///
/// ```
/// use halloo::Interest;
///
/// // A socket that is read, and written now and then: an edge reports input, or room for output.
/// let interest = Interest::ReadWrite;
/// assert_ne!(interest, Interest::Read);
/// ```
#[cfg(unix)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Interest {
    /// Input, EOF, or an error.
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
