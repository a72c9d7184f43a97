//! Non-blocking listeners on the loop's own thread.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use halloo::EventLoop;
use socket2::{Domain, Socket, Type};

use crate::helpers::loopback::loopback;
use crate::helpers::nonblocking_client::Client;
use crate::helpers::turn_until::turn_until;

/// A listener that the loop connects to.
pub(crate) struct Listener {
    listener: Socket,
}

impl Listener {
    pub(crate) fn new() -> Self {
        Self::from_socket(TcpListener::bind(loopback()).expect("a free port").into())
    }

    #[cfg(unix)]
    pub(crate) fn unix(at: &std::path::Path) -> Self {
        let listener = std::os::unix::net::UnixListener::bind(at).expect("a path");
        Self::from_socket(std::os::fd::OwnedFd::from(listener).into())
    }

    fn from_socket(listener: Socket) -> Self {
        listener.set_nonblocking(true).expect("an option of every socket");
        Self { listener }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().ok().and_then(|address| address.as_socket()).expect("the socket is bound")
    }

    /// Accepts a connection, if one is in the backlog.
    pub(crate) fn try_accept(&self) -> Option<Client> {
        self.listener.accept().ok().map(|(stream, _)| Client::new(stream))
    }

    /// Turns the loop until a connection is in the backlog, and accepts it.
    #[track_caller]
    pub(crate) fn accept(&self, events: &mut EventLoop<'_>) -> Client {
        let mut accepted = None;
        turn_until(events, "a connection", |_| {
            accepted = self.try_accept();
            accepted.is_some()
        });
        accepted.expect("a connection")
    }
}

/// An address without a listener.
pub(crate) fn unused_address() -> SocketAddr {
    Listener::new().address()
}

/// A listener with a full backlog: a connect to it stays pending.
pub(crate) struct FullBacklog {
    listener: Socket,
    /// The connections that fill the backlog.
    connections: Vec<TcpStream>,
}

impl FullBacklog {
    pub(crate) fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        listener.bind(&loopback().into()).expect("a free port");
        listener.listen(0).expect("the socket is bound");
        let mut full_backlog = Self { listener, connections: Vec::new() };
        while let Ok(stream) = TcpStream::connect_timeout(&full_backlog.address(), Duration::from_millis(100)) {
            full_backlog.connections.push(stream);
        }
        full_backlog
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().ok().and_then(|address| address.as_socket()).expect("the socket is bound")
    }
}
