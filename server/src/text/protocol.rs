//! The protocols, and their names.
//!
//! Every flag, event line and greeting uses the same names.

use std::fmt;

/// What carries a greeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// A connection.
    Tcp,
    /// Single datagrams.
    Udp,
    /// A connection to a unix socket.
    Unix,
}

impl Protocol {
    /// The name as it stands in every line halloo prints.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Unix => "unix",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
