//! Descriptors that a listener keeps for clients.
//!
//! They keep the socket open: a listener that closes drops them too.

use std::io;
#[cfg(unix)]
use std::os::fd::{AsFd, OwnedFd};

#[cfg(any(test, feature = "testing"))]
use crate::net::simulated::sim_handle::SimReserved;
use crate::net::system::stream::{SystemListener, SystemStream};
use crate::net::{Listener, Stream};

/// The reserve of one listener.
#[derive(Default)]
pub(crate) struct DescriptorReserve {
    size: u32,
    held: Vec<ReservedDescriptor>,
}

/// A duplicate of a listener's descriptor. Dropping it makes room for a client.
pub(crate) enum ReservedDescriptor {
    #[cfg(unix)]
    System(#[expect(dead_code, reason = "only kept open")] OwnedFd),
    #[cfg(any(test, feature = "testing"))]
    Simulated(#[expect(dead_code, reason = "only kept open")] SimReserved),
}

impl DescriptorReserve {
    /// Reserves descriptors for a new listener. Fails if the process has too few.
    pub(crate) fn new(size: u32, listener: &Listener) -> io::Result<Self> {
        let mut reserve = Self { size, held: Vec::new() };
        reserve.refill(listener)?;
        Ok(reserve)
    }

    /// Whether descriptors are reserved, though they may all be in use.
    pub(crate) fn has_size(&self) -> bool {
        self.size > 0
    }

    /// The number that is not in use.
    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether some descriptors of it are in use.
    #[inline]
    pub(crate) fn is_short(&self) -> bool {
        self.held.len() < self.size as usize
    }

    /// Releases one, for an accept that follows at once. Returns false if it has none.
    pub(crate) fn release(&mut self) -> bool {
        self.held.pop().is_some()
    }

    /// Takes back what is missing.
    pub(crate) fn refill(&mut self, listener: &Listener) -> io::Result<()> {
        while self.is_short() {
            self.held.push(listener.duplicate()?);
        }
        Ok(())
    }

    /// Closes a client. If the reserve is short, it keeps the descriptor, which no other thread can take in between.
    #[inline]
    pub(crate) fn close_client(&mut self, listener: Option<&Listener>, stream: Stream) {
        match listener.filter(|_| self.is_short()) {
            Some(listener) => self.keep_descriptor(listener, stream),
            None => drop(stream),
        }
    }

    #[cold]
    fn keep_descriptor(&mut self, listener: &Listener, stream: Stream) {
        // The stream is closed in any case; a later refill tries again.
        self.held.extend(listener.replace(stream));
    }
}

impl Listener {
    fn duplicate(&self) -> io::Result<ReservedDescriptor> {
        match self {
            Self::System(listener) => duplicate(listener),
            #[cfg(any(test, feature = "testing"))]
            Self::Simulated(listener) => listener.reserve().map(ReservedDescriptor::Simulated),
        }
    }

    /// Closes a stream, and makes its descriptor a duplicate of the listener's.
    fn replace(&self, stream: Stream) -> io::Result<ReservedDescriptor> {
        match (self, stream) {
            (Self::System(listener), Stream::System(stream)) => replace(listener, stream),
            #[cfg(any(test, feature = "testing"))]
            (listener, stream) => {
                drop(stream);
                listener.duplicate()
            }
        }
    }
}

#[cfg(unix)]
fn duplicate(listener: &SystemListener) -> io::Result<ReservedDescriptor> {
    listener.as_fd().try_clone_to_owned().map(ReservedDescriptor::System)
}

#[cfg(not(unix))]
fn duplicate(_: &SystemListener) -> io::Result<ReservedDescriptor> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(target_os = "linux")]
fn replace(listener: &SystemListener, stream: SystemStream) -> io::Result<ReservedDescriptor> {
    let mut descriptor = stream.into_fd();
    nix::unistd::dup3(listener.as_fd(), &mut descriptor, nix::fcntl::OFlag::O_CLOEXEC)?;
    Ok(ReservedDescriptor::System(descriptor))
}

#[cfg(not(target_os = "linux"))]
fn replace(listener: &SystemListener, stream: SystemStream) -> io::Result<ReservedDescriptor> {
    drop(stream);
    duplicate(listener)
}
