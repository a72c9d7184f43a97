//! What an I/O error means for a listener or UDP socket.

use std::io;

/// What the loop does about an error of a source that it goes on using.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum IoErrorClass {
    /// Nothing there: the poll will tell.
    WouldBlock,
    /// That one call failed; the next may not.
    Transient,
    /// A resource is used up: trying again at once would only spin.
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

#[cfg(target_os = "linux")]
fn is_resource_exhausted(error: &io::Error) -> bool {
    use nix::errno::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw);
    // An allocation of our own has the kind alone.
    error.kind() == io::ErrorKind::OutOfMemory || matches!(errno, Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS))
}

/// Without the numbers, only the kind tells; what it does not tell pauses after a few tries.
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
