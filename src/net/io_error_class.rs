//! What an I/O error means for a listener or UDP socket.

use std::io;

/// The class of an error of a source that the loop continues to use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum IoErrorClass {
    /// Nothing available: an event follows.
    WouldBlock,
    /// One call failed; the next may succeed.
    Transient,
    /// A resource is exhausted: an immediate retry would spin.
    ResourceExhausted,
}

impl IoErrorClass {
    pub(crate) fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock => Self::WouldBlock,
            _ if is_resource_exhausted(error) => Self::ResourceExhausted,
            _ => Self::Transient,
        }
    }
}

/// Whether the process or the system has no descriptor left.
#[cfg(target_os = "linux")]
pub(crate) fn is_out_of_descriptors(error: &io::Error) -> bool {
    use nix::errno::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE))
}

/// Without error numbers, the error is not known.
#[cfg(not(target_os = "linux"))]
pub(crate) fn is_out_of_descriptors(_error: &io::Error) -> bool {
    false
}

#[cfg(target_os = "linux")]
fn is_resource_exhausted(error: &io::Error) -> bool {
    use nix::errno::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw);
    // An error of an allocation in this process has a kind, but no number.
    error.kind() == io::ErrorKind::OutOfMemory || matches!(errno, Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS))
}

/// Without error numbers, only the kind is known. Other exhausted resources pause after a few retries.
#[cfg(not(target_os = "linux"))]
fn is_resource_exhausted(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::OutOfMemory
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use nix::errno::Errno;

    #[test]
    fn errors_of_accept_have_the_classes_of_accept_2() {
        let class = |errno: Errno| IoErrorClass::of(&io::Error::from(errno));
        for errno in [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM] {
            assert_eq!(class(errno), IoErrorClass::ResourceExhausted, "{errno}");
        }
        let passing = [
            Errno::EINTR,
            Errno::ECONNABORTED,
            Errno::EPROTO,
            Errno::EPERM,
            Errno::ENETDOWN,
            Errno::EHOSTUNREACH,
            Errno::EOPNOTSUPP,
            Errno::ENOPROTOOPT,
            Errno::ENONET,
            Errno::ETIMEDOUT,
        ];
        for errno in passing {
            assert_eq!(class(errno), IoErrorClass::Transient, "{errno}");
        }
        assert_eq!(class(Errno::EAGAIN), IoErrorClass::WouldBlock);
    }
}
