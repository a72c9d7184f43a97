//! The file of a listening unix socket: bound, replaced if stale, removed.
//!
//! A file is replaced only if it is a socket without a server, and removed only if this process created it.

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::address::{Address, unix_sock_addr};
use crate::limits;

/// The socket that one clone of the options has opened, shared by all clones while it is open.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedSocketFile(Arc<Mutex<Weak<SocketFile>>>);

/// A listening socket at a path, or with an abstract name, which has no file.
#[derive(Debug)]
pub(crate) struct SocketFile {
    socket: Socket,
    file: Option<OwnFile>,
}

/// A file that this process has created. Its inode number identifies it, because another file may have replaced it. No
/// other file gets that number while the socket is open.
#[derive(Debug)]
struct OwnFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SharedSocketFile {
    /// Returns the socket at a path, and opens it if no clone has it open. The file gets the mode, or the process's
    /// default.
    pub(crate) fn open(&self, path: &Path, mode: Option<u32>, backlog: i32) -> io::Result<Arc<SocketFile>> {
        // Poison is ignored: nothing that is changed under the lock can be left incomplete.
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let file = match shared.upgrade() {
            Some(file) => file,
            None => Arc::new(SocketFile::bind(path, mode, backlog)?),
        };
        *shared = Arc::downgrade(&file);
        Ok(file)
    }
}

impl SocketFile {
    fn bind(path: &Path, mode: Option<u32>, backlog: i32) -> io::Result<Self> {
        let address = unix_sock_addr(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // Otherwise accept would wait when the client has already gone.
        socket.set_nonblocking(true)?;
        if Address::is_abstract(path) {
            socket.bind(&address)?;
            socket.listen(backlog)?;
            return Ok(Self { socket, file: None });
        }
        let lock = FolderLock::acquire(path);
        bind_or_replace(&socket, path, &address, &lock)?;
        let metadata = fs::symlink_metadata(path)?;
        // The working directory may change before the file is removed.
        let file = OwnFile { path: std::path::absolute(path)?, device: metadata.dev(), inode: metadata.ino() };
        let bound = Self { socket, file: Some(file) };
        // The mode is set before listen(2): until then, the kernel refuses every client.
        let with_mode = mode.map_or(Ok(()), |mode| fs::set_permissions(path, Permissions::from_mode(mode)));
        let listening = with_mode.and_then(|()| bound.socket.listen(backlog));
        // The lock is released first: the removal of the file acquires it again.
        drop(lock);
        listening?;
        Ok(bound)
    }

    /// Returns a duplicate of the socket's descriptor.
    pub(crate) fn listener(&self) -> io::Result<UnixListener> {
        Ok(self.socket.try_clone()?.into())
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let Some(OwnFile { path, device, inode }) = &self.file else {
            return;
        };
        // Also without the lock: the socket is still open, so a server that checks the file does not replace it.
        let _lock = FolderLock::acquire(path);
        if fs::symlink_metadata(path).is_ok_and(|found| found.dev() == *device && found.ino() == *inode)
            && let Err(error) = fs::remove_file(path)
        {
            log::warn!("cannot remove {}: {error}", Address::Unix(path.clone()));
        }
    }
}

/// Binds a socket to a path, and replaces a stale file if there is one.
fn bind_or_replace(socket: &Socket, path: &Path, address: &SockAddr, lock: &io::Result<FolderLock>) -> io::Result<()> {
    match socket.bind(address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(path, address) => {
            if let Err(cause) = lock {
                // Another server may be replacing the file, and this one would then remove the new file.
                let message =
                    format!("address already in use: the stale socket file cannot be replaced safely: {cause}");
                return Err(io::Error::new(io::ErrorKind::AddrInUse, message));
            }
            let address_text = Address::Unix(path.to_owned());
            fs::remove_file(path)?;
            log::info!("{address_text}: replacing the stale socket file of a server that has ended");
            socket.bind(address)
        }
        outcome => outcome,
    }
}

/// Whether a path is a socket file that no socket is bound to.
///
/// The check connects a datagram socket. A listening server sees no connection from it, and a stream socket that is
/// bound but does not listen yet returns `EPROTOTYPE` (unix(7)). A stream socket would get `ECONNREFUSED` there, as
/// from a stale file.
fn is_stale(path: &Path, address: &SockAddr) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    let refused = |socket: Socket| {
        let outcome = socket.connect(address);
        outcome.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    };
    is_socket && Socket::new(Domain::UNIX, Type::DGRAM, None).is_ok_and(refused)
}

/// The lock on the folder of a path (flock(2)). Servers check, replace and remove a file under it. Of several that
/// start at once, the second finds the socket of the first.
#[derive(Debug)]
struct FolderLock(File);

impl FolderLock {
    /// Waits for a bounded time, because any process that may read the folder may have the lock.
    fn acquire(path: &Path) -> io::Result<Self> {
        // With the dot: the open of a FIFO in place of a folder would block.
        let folder = File::open(path.parent().unwrap_or(path).join("."))?;
        let deadline = Instant::now() + limits::FOLDER_LOCK_WAIT;
        loop {
            match folder.try_lock() {
                Ok(()) => return Ok(Self(folder)),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(TryLockError::WouldBlock) => {
                    let message = "another process holds the lock on the folder";
                    return Err(io::Error::new(io::ErrorKind::WouldBlock, message));
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Unlocked explicitly: a child forked by another thread has a duplicate of the descriptor, and would keep the
        // lock.
        let _ = self.0.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;
    use std::sync::Barrier;

    fn open(path: &Path) -> io::Result<Arc<SocketFile>> {
        SharedSocketFile::default().open(path, None, 16)
    }

    #[test]
    fn a_stale_path_is_replaced_and_one_with_a_server_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("a path"));
        let first = open(&path).expect("the file is stale");
        let second = open(&path).expect_err("a server listens there");
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
        drop(first);
        assert!(!path.exists(), "the file is removed with its listener");
    }

    #[test]
    fn a_socket_that_is_bound_but_not_yet_listening_is_not_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let starts = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
        starts.bind(&SockAddr::unix(&path).expect("a short path")).expect("a free path");
        assert_eq!(open(&path).expect_err("its server is starting").kind(), io::ErrorKind::AddrInUse);
        starts.listen(1).expect("it is bound");
        UnixStream::connect(&path).expect("its file is there");
    }

    #[test]
    fn without_the_lock_a_free_path_is_served_and_a_stale_one_is_not_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let [free, stale] = ["free", "stale"].map(|name| folder.path().join(name));
        drop(UnixListener::bind(&stale).expect("a path"));
        let held = FolderLock::acquire(&free).expect("the lock is free");
        let start = Instant::now();
        let error = open(&stale).expect_err("the holder of the lock may be replacing it");
        assert!(start.elapsed() >= limits::FOLDER_LOCK_WAIT, "the listener waited for the lock");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let sentence = error.to_string();
        assert!(sentence.starts_with("address already in use") && sentence.contains("holds the lock"), "{sentence}");
        let served = open(&free).expect("a bind replaces no file");
        assert!(stale.exists());
        drop(served);
        assert!(!free.exists(), "the file is removed with its listener");
        drop(held);
        drop(open(&stale).expect("the lock is free now"));
        assert!(!stale.exists());
    }

    /// The path resolves through many symlinks, which takes the kernel long. A client can connect between any two
    /// system calls of the server.
    #[test]
    fn the_file_has_its_mode_when_the_first_client_can_connect() {
        let folder = tempfile::tempdir().expect("a folder");
        let detour = (0..16).fold(folder.path().to_owned(), |to, number| {
            let link = folder.path().join(format!("link{number}"));
            let to = format!("{}{}", to.display(), "/.".repeat(400));
            std::os::unix::fs::symlink(to, &link).expect("a free name");
            link
        });
        for round in 0..100 {
            let (path, start) = (folder.path().join(round.to_string()), Barrier::new(2));
            let connect = || {
                start.wait();
                let deadline = Instant::now() + support::wait::TIMEOUT;
                while UnixStream::connect(&path).is_err() {
                    assert!(Instant::now() < deadline, "no server listens");
                }
                fs::symlink_metadata(&path).expect("it is there").permissions().mode() & 0o7777
            };
            std::thread::scope(|scope| {
                let client = scope.spawn(connect);
                start.wait();
                let opened = SharedSocketFile::default().open(&detour.join(round.to_string()), Some(0o666), 16);
                assert_eq!(client.join().expect("it connects"), 0o666, "round {round}");
                drop(opened.expect("a free path"));
            });
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_abstract_name_is_served_by_one_and_has_no_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("name");
        let name = PathBuf::from(format!("\0{}", path.display()));
        let file = open(&name).expect("a free name");
        assert_eq!(open(&name).expect_err("it is taken").kind(), io::ErrorKind::AddrInUse);
        assert!(!path.exists());
        drop(file);
        drop(open(&name).expect("it is free again"));
    }

    #[test]
    fn a_file_that_is_not_a_socket_is_not_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notes.txt");
        fs::write(&path, "keep me").expect("a file");
        assert_eq!(open(&path).expect_err("it is in use").kind(), io::ErrorKind::AddrInUse);
        assert_eq!(fs::read(&path).expect("it is there"), b"keep me");
    }

    #[test]
    fn a_file_that_replaced_the_socket_file_is_not_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let first = open(&path).expect("a path");
        fs::remove_file(&path).expect("it is there");
        let next = open(&path).expect("a path");
        drop(first);
        assert!(path.exists(), "the file of the next server stays");
        drop(next);
    }

    #[test]
    fn clones_share_one_socket_and_the_last_removes_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let shared = SharedSocketFile::default();
        let accept = |file: &Arc<SocketFile>| file.listener().and_then(|listener| listener.accept());
        let [one, other] = [(); 2].map(|()| shared.clone().open(&path, None, 8).expect("clones share the path"));
        assert_eq!(open(&path).expect_err("the path is taken").kind(), io::ErrorKind::AddrInUse);
        let nothing = accept(&one).expect_err("the failed open made no connection");
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        let _client = std::os::unix::net::UnixStream::connect(&path).expect("both listen");
        drop(one);
        assert!(path.exists() && accept(&other).is_ok());
        drop(other);
        assert!(!path.exists());
        drop(shared.open(&path, None, 1).expect("the path is free again"));
    }

    /// Opens one path from several threads at the same moment.
    fn open_at_once(path: &Path) -> Vec<io::Result<Arc<SocketFile>>> {
        let start = Barrier::new(4);
        let open_one = || {
            start.wait();
            open(path)
        };
        std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(open_one));
            threads.into_iter().map(|thread| thread.join().expect("it opens or fails")).collect()
        })
    }

    /// Checks that at most one opened the path, that a client reaches it, and that the file is removed with it.
    fn assert_one_serves(path: &Path, outcomes: Vec<io::Result<Arc<SocketFile>>>, round: usize) -> usize {
        let (opened, errors): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(io::Result::is_ok);
        for error in errors.into_iter().filter_map(io::Result::err) {
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "round {round}: {error}");
        }
        let opened: Vec<_> = opened.into_iter().flatten().collect();
        assert!(opened.len() <= 1, "round {round}: {} listeners", opened.len());
        if let Some(file) = opened.first() {
            let _client = UnixStream::connect(path).expect("one server listens at the path");
            file.listener().and_then(|listener| listener.accept()).expect("the client is in the backlog");
        }
        let count = opened.len();
        drop(opened);
        assert!(!path.exists(), "round {round}: the file is removed with its listener");
        count
    }

    #[test]
    fn of_several_servers_that_open_a_free_or_stale_path_at_once_exactly_one_serves() {
        let folder = tempfile::tempdir().expect("a folder");
        for round in 0..400 {
            let path = folder.path().join(round.to_string());
            if round % 2 == 0 {
                drop(UnixListener::bind(&path).expect("a path"));
            }
            assert_eq!(assert_one_serves(&path, open_at_once(&path), round), 1, "round {round}");
        }
    }

    #[test]
    fn a_path_opened_while_its_server_ends_is_served_or_in_use_but_never_lost() {
        let folder = tempfile::tempdir().expect("a folder");
        for round in 0..200 {
            let path = folder.path().join(round.to_string());
            let ends = open(&path).expect("a free path");
            let outcomes = std::thread::scope(|scope| {
                scope.spawn(move || drop(ends));
                open_at_once(&path)
            });
            assert_one_serves(&path, outcomes, round);
        }
    }
}
