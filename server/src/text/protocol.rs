//! The protocols, and their names.
//!
//! Every flag, event line and greeting uses the same names.

use std::fmt;

/// The protocol that carries a greeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// A connection.
    Tcp,
    /// Single datagrams.
    Udp,
    /// A connection to a unix socket.
    Unix,
}

/// The name in every line that halloo prints.
impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Unix => "unix",
        })
    }
}
