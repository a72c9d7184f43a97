//! The file of a listening unix socket: bound, replaced if stale, removed.
//!
//! A file that a live server listens on, or that is no socket, is never replaced; only the file that this process
//! created is removed.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::{fs, io};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::address::Address;

/// What clones of one set of options have in common: the socket that one of them has opened, while any is open.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedSocketFile(Arc<Mutex<Weak<SocketFile>>>);

/// A file that this process has made: known again by its number, since another may have been put in its place. While
/// the socket is open, no other file gets that number.
#[derive(Debug)]
pub(crate) struct SocketFile {
    socket: Socket,
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SharedSocketFile {
    /// The socket at a path, which is opened if no clone has it open.
    pub(crate) fn open(&self, path: &Path, backlog: i32) -> io::Result<Arc<SocketFile>> {
        // Nothing that is changed under the lock can be left half done.
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let file = match shared.upgrade() {
            Some(file) => file,
            None => Arc::new(SocketFile::bind(path, backlog)?),
        };
        *shared = Arc::downgrade(&file);
        Ok(file)
    }
}

impl SocketFile {
    fn bind(path: &Path, backlog: i32) -> io::Result<Self> {
        // The working directory may change until the file is to be removed.
        let path = std::path::absolute(path)?;
        let address = SockAddr::unix(&path)?;
        let socket = nonblocking_socket()?;
        match socket.bind(&address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(&path, &address) => {
                let address_text = Address::Unix(path.clone());
                log::info!("{address_text} was left behind by a server that has ended: replacing it");
                fs::remove_file(&path)?;
                socket.bind(&address)?;
            }
            outcome => outcome?,
        }
        let metadata = fs::symlink_metadata(&path)?;
        let file = Self { socket, path, device: metadata.dev(), inode: metadata.ino() };
        file.socket.listen(backlog)?;
        Ok(file)
    }

    /// One more descriptor of the socket.
    pub(crate) fn listener(&self) -> io::Result<UnixListener> {
        Ok(self.socket.try_clone()?.into())
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let Self { path, device, inode, .. } = self;
        if fs::symlink_metadata(&path).is_ok_and(|found| found.dev() == *device && found.ino() == *inode)
            && let Err(error) = fs::remove_file(&path)
        {
            log::warn!("cannot remove {}: {error}", Address::Unix(path.clone()));
        }
    }
}

/// Whether a path is a socket on which no server answers.
fn is_stale(path: &Path, address: &SockAddr) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    let refused = |socket: Socket| {
        let outcome = socket.connect(address);
        outcome.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    };
    is_socket && nonblocking_socket().is_ok_and(refused)
}

/// Never one that waits: a server with a full backlog would hold up the loop.
fn nonblocking_socket() -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path) -> io::Result<Arc<SocketFile>> {
        SharedSocketFile::default().open(path, 1)
    }

    #[test]
    fn a_path_that_a_former_server_left_is_replaced_and_one_that_answers_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("a path"));
        let first = open(&path).expect("no server answers there");
        let second = open(&path).expect_err("a server answers there");
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
        drop(first);
        assert!(!path.exists(), "the file goes with its listener");
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notes.txt");
        fs::write(&path, "keep me").expect("a file");
        assert_eq!(open(&path).expect_err("it is in use").kind(), io::ErrorKind::AddrInUse);
        assert_eq!(fs::read(&path).expect("it is there"), b"keep me");
    }

    #[test]
    fn a_file_that_was_put_in_its_place_is_not_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let first = open(&path).expect("a path");
        fs::remove_file(&path).expect("it is there");
        let next = open(&path).expect("a path");
        drop(first);
        assert!(path.exists(), "that one is the next server's");
        drop(next);
    }

    #[test]
    fn clones_share_one_socket_and_the_file_goes_with_the_last() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let shared = SharedSocketFile::default();
        let accept = |file: &Arc<SocketFile>| file.listener().and_then(|listener| listener.accept());
        let [one, other] = [(); 2].map(|()| shared.clone().open(&path, 8).expect("it is theirs"));
        assert_eq!(open(&path).expect_err("it is not another's").kind(), io::ErrorKind::AddrInUse);
        // The failed open has connected, to learn whether a server listens: the first accept takes that connection.
        assert!(accept(&one).is_ok());
        let _client = std::os::unix::net::UnixStream::connect(&path).expect("both listen");
        drop(one);
        assert!(path.exists() && accept(&other).is_ok());
        drop(other);
        assert!(!path.exists());
        drop(shared.open(&path, 1).expect("it is opened anew"));
    }
}
