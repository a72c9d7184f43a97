//! Options for listening, binding and connecting.

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
            self.nodelay = nodelay;
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
            self.reuse_port = reuse;
            self
        }

        /// On an IPv6 wildcard, leave IPv4 to others (`IPV6_V6ONLY`). Default: no, `[::]` serves both.
        pub fn only_v6(mut self, only: bool) -> Self {
            self.only_v6 = only;
            self
        }
    };
}

pub(crate) mod bind;
pub(crate) mod connect;
pub(crate) mod connection_limits;
pub(crate) mod listen;
