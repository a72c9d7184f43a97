//! Options of listeners, with their defaults.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
#[cfg(unix)]
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use crate::address::Address;
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::options::ReusePort;
use crate::options::connection_limits::ConnectionLimits;
use crate::options::tcp::TcpOptions;
#[cfg(unix)]
use crate::socket_file::SharedSocketFile;

/// Options of a listener: an address or a path, and limits on the connections accepted there.
///
/// A plain `SocketAddr` is enough; every limit has a default. A `TcpListener` or `UnixListener` that listens already, such
/// as an inherited one, becomes a `Listen`, too.
///
/// ```
/// use std::time::Duration;
/// use halloo::{EventLoop, Listen, WhenFull, stream};
///
/// let mut events = EventLoop::new()?;
/// let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
/// let at = Listen::from(address)
///     .connections_max(1_000)
///     .when_full(WhenFull::Refuse)
///     .idle_timeout(Duration::from_secs(10));
/// events.listen(at, stream(|connection, input| connection.try_write(input)))?;
/// # Ok::<(), halloo::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a Listen does nothing until EventLoop::listen takes it"]
pub struct Listen {
    pub(crate) address: Address,
    /// A socket that listens already.
    pub(crate) inherited: Option<InheritedListener>,
    /// The socket at a path; clones share it.
    #[cfg(unix)]
    pub(crate) socket_file: SharedSocketFile,
    /// Permissions of the file at a path.
    pub(crate) unix_mode: Option<u32>,
    pub(crate) connections_max: Option<usize>,
    pub(crate) connections_per_source_max: Option<u32>,
    pub(crate) peer_addr_from_handler: bool,
    pub(crate) descriptor_reserve: u32,
    pub(crate) when_full: WhenFull,
    pub(crate) limits: ConnectionLimits,
    pub(crate) backlog: u32,
    pub(crate) reuse_port: ReusePort,
    pub(crate) only_v6: bool,
    pub(crate) tcp: TcpOptions,
}

/// A listening socket that was opened outside of the loop.
#[derive(Clone, Debug)]
pub(crate) enum InheritedListener {
    Tcp(Arc<TcpListener>),
    #[cfg(unix)]
    Unix(Arc<UnixListener>),
}

/// What a listener does with clients above `connections_max`.
///
/// ```
/// assert_eq!(halloo::WhenFull::default(), halloo::WhenFull::Pause);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum WhenFull {
    /// Leaves them in the kernel's backlog until a connection closes: every client is served, some later.
    #[default]
    Pause,
    /// Accepts and closes them at once. [`Stats::refused_full`](crate::Stats::refused_full) counts them.
    Refuse,
}

impl Listen {
    /// Listens on a unix stream socket at a path. The listener creates the file, and removes it when it closes. A stale
    /// file of an earlier server is replaced if no socket is bound to it. If several servers start at one path at once,
    /// one serves. The others get an error of the kind [`AddrInUse`](std::io::ErrorKind::AddrInUse).
    ///
    /// A path has at most 107 bytes as given. A relative path is resolved in the working directory of the call to
    /// `listen`. The file is removed from there even if the working directory has changed since.
    ///
    /// The file is checked, replaced and removed under a lock on its folder (`flock(2)`). The listener waits at most
    /// half a second for the lock. It goes on without the lock if another process keeps it, or if this process may not
    /// read the folder. A free path is then listened on, and a stale file is an error of the kind `AddrInUse`.
    ///
    /// On Linux a NUL in front makes it an abstract name: `Listen::unix("\0name")`. An abstract name has no file and no
    /// permissions, and is free when the last listener closes. Messages show it as `@name`. A path that contains a NUL
    /// and an empty name are refused.
    ///
    /// Clones share one socket: loops on several threads can listen on it together. The file is removed with the last
    /// listener.
    ///
    /// Clients of a unix socket have no address: [`peer_addr`](crate::Connection::peer_addr) is `None`, and limits per
    /// source do not apply to them. [The permissions](Self::unix_mode) of the file decide which clients may connect.
    ///
    /// ```
    /// # let folder = std::env::temp_dir().join(format!("halloo-{}", std::process::id()));
    /// # std::fs::create_dir_all(&folder)?;
    /// # let path = folder.join("greeter.sock");
    /// let mut events = halloo::EventLoop::new()?;
    /// events.listen(halloo::Listen::unix(&path), halloo::stream(|connection, input| connection.try_write(input)))?;
    /// assert!(path.exists());
    /// drop(events);
    /// assert!(!path.exists());
    /// # std::fs::remove_dir(folder)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[cfg(unix)]
    pub fn unix(path: impl Into<std::path::PathBuf>) -> Self {
        Self::new(Address::Unix(path.into()))
    }

    /// Sets the permissions of a unix socket's file. A client needs write permission: `0o660` admits the user and the
    /// group. The file has these permissions before the first client can connect. Default: `0o777` less the process's
    /// umask, usually `0o755`, which admits only the same user.
    ///
    /// The mode is at most `0o777`: permission bits only. No other user should have write permission for the folder.
    /// TCP sockets, abstract names and inherited sockets have no file of their own, and ignore the mode.
    ///
    /// ```
    /// let at = halloo::Listen::unix("/run/greeter.sock").unix_mode(0o660);
    /// # drop(at);
    /// ```
    #[cfg(unix)]
    pub fn unix_mode(mut self, mode: u32) -> Self {
        self.unix_mode = Some(mode);
        self
    }

    fn new(address: Address) -> Self {
        Self {
            address,
            inherited: None,
            #[cfg(unix)]
            socket_file: SharedSocketFile::default(),
            unix_mode: None,
            connections_max: None,
            connections_per_source_max: None,
            peer_addr_from_handler: false,
            descriptor_reserve: 0,
            when_full: WhenFull::Pause,
            limits: ConnectionLimits::default(),
            backlog: limits::BACKLOG,
            reuse_port: ReusePort::No,
            only_v6: false,
            tcp: TcpOptions::default(),
        }
    }

    /// Limits the connections of the handler. Default: the process's descriptor limit at the time of the call, less 64,
    /// or half of a limit below 128. The count is the handler's: listeners that share a handler by
    /// [`listen_for`](crate::EventLoop::listen_for) share it. Outbound connections are not counted: a proxy needs two
    /// descriptors for each client, and sets half. A process with several loops divides the limit by
    /// [`connections_max_per_loop`](crate::connections_max_per_loop).
    pub fn connections_max(mut self, connections: usize) -> Self {
        self.connections_max = Some(connections);
        self
    }

    /// Limits the connections of one source with the handler; further clients of that source are closed at once. A
    /// source is an IPv4 address or an IPv6 /64. Default: no limit.
    pub fn connections_per_source_max(mut self, connections: u32) -> Self {
        self.connections_per_source_max = Some(connections);
        self
    }

    /// Whether the handler sets the address of the real client, with
    /// [`Connection::set_peer_addr`](crate::Connection::set_peer_addr). Clients behind a proxy share the proxy's
    /// address. With `true`, [`connections_per_source_max`](Self::connections_per_source_max) counts a connection only
    /// from that call on. Before it only `connections_max` and the idle timeout limit a client: use a short idle
    /// timeout, or [`set_timeout`](crate::Connection::set_timeout) in `on_open`. Default: false.
    ///
    /// ```
    /// use std::net::SocketAddr;
    /// use std::time::Duration;
    /// use halloo::{EventLoop, Listen, framing};
    ///
    /// // A proxy sends the client's address in the first line: at most 10 connections for each client.
    /// let service = framing::lines(100, |connection, line| {
    ///     match std::str::from_utf8(line).ok().and_then(|line| line.parse().ok()) {
    ///         Some(client) => _ = connection.set_peer_addr(client),
    ///         None => connection.reject(),
    ///     }
    /// });
    /// let at = Listen::from(SocketAddr::from(([127, 0, 0, 1], 0))).idle_timeout(Duration::from_secs(5));
    /// EventLoop::new()?.listen(at.peer_addr_from_handler(true).connections_per_source_max(10), service)?;
    /// # Ok::<(), halloo::Error>(())
    /// ```
    pub fn peer_addr_from_handler(mut self, from_handler: bool) -> Self {
        self.peer_addr_from_handler = from_handler;
        self
    }

    /// Keeps this many descriptors in reserve, so that clients of this listener are served when the process has no
    /// other descriptor left: an endpoint for operators, next to a busy service. Default: 0.
    ///
    /// When accept(2) fails with `EMFILE` or `ENFILE`, one descriptor is released, and the client is accepted at once.
    /// A closing connection of this listener returns its descriptor to the reserve. On Linux no other thread can take
    /// it in between. If another thread has taken a released descriptor first, the listener takes one back as soon as
    /// one is free. While the reserve is empty, clients wait as on any other listener.
    ///
    /// Each descriptor serves one client at a time: reserve as many as [`connections_max`](Self::connections_max) to
    /// serve that many without a free descriptor, or fewer to serve only some of them then.
    ///
    /// Opening the listener fails with "too many open files" if the process has too few descriptors for the reserve.
    /// Lower it, or raise the limit. A system without unix descriptors has no reserve, and opening fails, too.
    ///
    /// ```
    /// use std::net::SocketAddr;
    /// use halloo::{EventLoop, Listen, stream};
    ///
    /// let mut events = EventLoop::new()?;
    /// let at = Listen::from(SocketAddr::from(([127, 0, 0, 1], 0))).connections_max(4).descriptor_reserve(4);
    /// events.listen(at, stream(|connection, input| {
    ///     let _ = connection.send(b"ready\n");
    ///     connection.close();
    ///     input.len()
    /// }))?;
    /// # Ok::<(), halloo::Error>(())
    /// ```
    pub fn descriptor_reserve(mut self, descriptors: u32) -> Self {
        self.descriptor_reserve = descriptors;
        self
    }

    /// Sets what happens at `connections_max`. Default: [`WhenFull::Pause`].
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }

    /// Sets how many connections the kernel may complete before they are accepted (`listen(2)`). The kernel limits it
    /// further (`net.core.somaxconn` on Linux). Default: 4,096.
    pub fn backlog(mut self, connections: u32) -> Self {
        self.backlog = connections;
        self
    }

    connection_setters!();
    bound_socket_setters!();

    /// Refuses invalid options, for a handler that needs `input_bytes_min` bytes of input at once.
    pub(crate) fn validate(&self, input_bytes_min: usize) -> Result<()> {
        let valid = if self.connections_max == Some(0) || self.connections_per_source_max == Some(0) {
            Err(
                "a limit of 0 connections would serve no client; set connections_max and connections_per_source_max to at least 1",
            )
        } else if self.backlog == 0 {
            Err("a backlog of 0 would lose clients; set at least 1")
        } else if self.unix_mode.is_some_and(|mode| mode > 0o777) {
            Err("unix_mode must be at most 0o777; it contains permission bits only")
        } else {
            let address_and_socket = self.address.validate().and_then(|()| self.tcp.validate());
            address_and_socket.and_then(|()| self.limits.validate(input_bytes_min))
        };
        valid.map_err(|message| Error::with_message(ErrorKind::InvalidOption, Some(self.address.clone()), message))
    }
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Self {
        Self::new(address.into())
    }
}

/// Uses a socket that listens already, for example from a supervisor. The options of opening (backlog, `reuse_port`,
/// `only_v6`) have no effect.
///
/// ```
/// let socket = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let address = socket.local_addr()?;
/// let mut events = halloo::EventLoop::new()?;
/// let listener = events.listen(socket, halloo::stream(|connection, input| connection.try_write(input)))?;
/// assert_eq!(events.local_addr(listener)?, address);
/// # Ok::<(), std::io::Error>(())
/// ```
impl From<TcpListener> for Listen {
    fn from(socket: TcpListener) -> Self {
        // A socket without an address cannot listen; `listen` returns the error.
        let address = socket.local_addr().unwrap_or_else(|_| (Ipv4Addr::UNSPECIFIED, 0).into());
        Self { inherited: Some(InheritedListener::Tcp(Arc::new(socket))), ..Self::from(address) }
    }
}

/// Uses a unix socket that listens already. Its file stays when the listener closes.
///
/// ```
/// # let path = std::env::temp_dir().join(format!("halloo-{}-given.sock", std::process::id()));
/// let socket = std::os::unix::net::UnixListener::bind(&path)?;
/// let mut events = halloo::EventLoop::new()?;
/// events.listen(socket, halloo::stream(|connection, input| connection.try_write(input)))?;
/// # std::fs::remove_file(path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[cfg(unix)]
impl From<UnixListener> for Listen {
    fn from(socket: UnixListener) -> Self {
        let path = socket.local_addr().map_or_else(|_| std::path::PathBuf::new(), |address| to_path(&address));
        Self { inherited: Some(InheritedListener::Unix(Arc::new(socket))), ..Self::unix(path) }
    }
}

/// The path of a unix socket, or its abstract name after a NUL; empty if it has neither.
#[cfg(unix)]
fn to_path(address: &std::os::unix::net::SocketAddr) -> std::path::PathBuf {
    #[cfg(target_os = "linux")]
    if let Some(name) = std::os::linux::net::SocketAddrExt::as_abstract_name(address) {
        use std::os::unix::ffi::OsStringExt;
        return std::ffi::OsString::from_vec([b"\0", name].concat()).into();
    }
    address.as_pathname().map(std::path::Path::to_owned).unwrap_or_default()
}
