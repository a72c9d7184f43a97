//! Where a stream socket is: an internet address, or a path.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A place to listen at or to connect to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Endpoint {
    Internet(SocketAddr),
    /// A socket in the file system; empty for one that has no path.
    Unix(PathBuf),
}

impl Endpoint {
    /// The internet address, if it is one.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Internet(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self::Internet(address)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Internet(address) => address.fmt(f),
            Self::Unix(path) if path.as_os_str().is_empty() => f.write_str("an unnamed unix socket"),
            // Escaped: a path may hold anything.
            Self::Unix(path) => write!(f, "{}", path.display().to_string().escape_debug()),
        }
    }
}
