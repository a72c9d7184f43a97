//! Listening unix sockets: files that outlive their server unless somebody looks after them.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use mio::net::UnixListener;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::endpoint::Endpoint;

/// A listener at a path; when it goes, the file it made goes too.
pub(crate) struct Door {
    pub(crate) listener: UnixListener,
    made: Option<Made>,
}

/// A file of ours: known again by its number, since somebody may have put another in its place.
struct Made {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Door {
    /// Listens at a path. A socket that stands there already is replaced if nobody answers on it.
    pub(crate) fn open(path: &Path, backlog: i32) -> io::Result<Self> {
        // The working directory may change until the file is to be removed.
        let path = std::path::absolute(path)?;
        let address = SockAddr::unix(&path)?;
        let socket = nonblocking()?;
        match socket.bind(&address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_abandoned(&path, &address) => {
                let at = Endpoint::Unix(path.clone());
                log::info!("{at} was left behind by a server that has ended: replacing it");
                fs::remove_file(&path)?;
                socket.bind(&address)?;
            }
            outcome => outcome?,
        }
        let made = fs::symlink_metadata(&path)?;
        let made = Made { path, device: made.dev(), inode: made.ino() };
        let door = Self { listener: UnixListener::from_std(socket.try_clone()?.into()), made: Some(made) };
        socket.listen(backlog)?;
        Ok(door)
    }

    /// Listens on a socket that somebody else has opened, and leaves its file alone.
    pub(crate) fn given(listener: std::os::unix::net::UnixListener) -> Self {
        Self { listener: UnixListener::from_std(listener), made: None }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Some(Made { path, device, inode }) = &self.made
            && fs::symlink_metadata(path).is_ok_and(|found| found.dev() == *device && found.ino() == *inode)
            && let Err(error) = fs::remove_file(path)
        {
            log::warn!("cannot remove {}: {error}", Endpoint::Unix(path.clone()));
        }
    }
}

/// Whether a path is a socket on which nobody answers.
fn is_abandoned(path: &Path, address: &SockAddr) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    let refused = |socket: Socket| {
        let outcome = socket.connect(address);
        outcome.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    };
    is_socket && nonblocking().is_ok_and(refused)
}

/// Never one that waits: a server with a full backlog would hold us up.
fn nonblocking() -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_a_former_server_left_is_replaced_and_one_that_answers_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("door");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("a path"));
        let door = Door::open(&path, 1).expect("nobody answers there");
        let second = Door::open(&path, 1).err().expect("somebody answers there");
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
        drop(door);
        assert!(!path.exists(), "the file goes with its listener");
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notes.txt");
        fs::write(&path, "keep me").expect("a file");
        assert_eq!(Door::open(&path, 1).err().expect("it is in use").kind(), io::ErrorKind::AddrInUse);
        assert_eq!(fs::read(&path).expect("it is there"), b"keep me");
    }

    #[test]
    fn a_file_that_somebody_has_put_in_its_place_is_not_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("door");
        let door = Door::open(&path, 1).expect("a path");
        fs::remove_file(&path).expect("it is there");
        let next = Door::open(&path, 1).expect("a path");
        drop(door);
        assert!(path.exists(), "that one is the next server's");
        drop(next);
    }
}
