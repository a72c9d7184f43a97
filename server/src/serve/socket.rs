//! One socket of the server: how it is opened on a loop, and how it is opened once more on the loop of another worker.
//!
//! Between the addresses that are to be served and the loops. It promises that workers share a port only if it was free
//! before them, and that limits over all connections are divided among them. It knows no command line and no sentence.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;

use halloo::{Bind, EventLoop, HandlerId, Listen, ListenerId, SourceId, datagrams, stream};

use crate::cli::flags::{Limits, Mode};
use crate::greeting::datagram_handler::Datagrams;
use crate::greeting::greeter::Desk;
use crate::greeting::stream_handlers;
use crate::process::descriptors;
use crate::text::bound_address::Site;
use crate::text::protocol::Protocol;

/// Answers to one UDP source in a second, unless the command line says otherwise: a person never asks that often.
const UDP_RATE: u32 = 100;

/// A socket to be opened, by the first worker and by each other. Of one handed over, and of a unix socket, each gets a
/// copy; the file of one that was opened here goes with the last.
#[derive(Clone, Debug)]
pub(crate) enum Door {
    Tcp(Listen),
    Udp(Bind),
    Unix(Listen, Site),
}

impl Door {
    /// A TCP listener, at an address or handed over.
    pub(crate) fn tcp(at: impl Into<Listen>, limits: &Limits) -> Self {
        Self::Tcp(listen(at.into(), limits))
    }

    /// A listener of a unix socket, at a path or handed over.
    pub(crate) fn unix(at: impl Into<Listen>, site: Site, limits: &Limits) -> Self {
        Self::Unix(listen(at.into(), limits), site)
    }

    /// A UDP socket, at an address or handed over.
    pub(crate) fn udp(at: impl Into<Bind>, limits: &Limits) -> Self {
        let bind = at.into();
        Self::Udp(match limits.udp_rate {
            None => bind.replies_per_source_per_second_max(UDP_RATE),
            Some(0) => bind,
            Some(rate) => bind.replies_per_source_per_second_max(rate).limit_loopback(true),
        })
    }

    /// At an address, one that leaves IPv4 to others or not.
    pub(crate) fn at(protocol: Protocol, at: SocketAddr, only_v6: bool, limits: &Limits) -> Self {
        match protocol {
            Protocol::Udp => Self::udp(at, limits),
            Protocol::Tcp | Protocol::Unix => Self::tcp(at, limits),
        }
        .with(|listen| listen.only_v6(only_v6), |bind| bind.only_v6(only_v6))
    }

    /// One that others may open as well.
    pub(crate) fn shared(self) -> Self {
        self.with(|listen| listen.reuse_port(true), |bind| bind.reuse_port(true))
    }

    fn with(self, tcp: impl FnOnce(Listen) -> Listen, udp: impl FnOnce(Bind) -> Bind) -> Self {
        match self {
            Self::Tcp(listen) => Self::Tcp(tcp(listen)),
            Self::Udp(bind) => Self::Udp(udp(bind)),
            Self::Unix(..) => self,
        }
    }

    pub(crate) const fn protocol(&self) -> Protocol {
        match self {
            Self::Tcp(_) => Protocol::Tcp,
            Self::Udp(_) => Protocol::Udp,
            Self::Unix(..) => Protocol::Unix,
        }
    }

    /// Opens it for itself alone, for a moment: then nobody else has it, and a port that was left open is chosen. A
    /// client that comes in this very moment is reset.
    pub(crate) fn prove_free(&self) -> io::Result<SocketAddr> {
        let mut events = EventLoop::new().map_err(cause)?;
        let id = match self.clone() {
            Self::Tcp(listen) | Self::Unix(listen, _) => {
                SourceId::from(events.listen(listen, stream(|_, input| input.len())).map_err(cause)?)
            }
            Self::Udp(bind) => SourceId::from(events.bind(bind, datagrams(|_, _| {})).map_err(cause)?),
        };
        events.local_addr(id).map_err(cause)
    }
}

fn listen(mut listen: Listen, limits: &Limits) -> Listen {
    if let Some(connections) = limits.max_connections_per_source {
        listen = listen.connections_per_source_max(connections);
    }
    match limits.idle_timeout {
        Some(after) => listen.idle_timeout(after),
        None => listen,
    }
}

/// What serves the sockets of one loop, and how many connections they may have together.
pub(crate) struct Room<'h> {
    handler: HandlerId,
    datagrams: Datagrams<'h>,
    connections_max: Option<usize>,
}

impl<'h> Room<'h> {
    /// The room of the worker of that number, of so many; `connections_max` is for all of them.
    pub(crate) fn new(
        events: &mut EventLoop<'h>,
        mode: Mode,
        desk: &'h RefCell<Desk>,
        connections_max: Option<usize>,
        (number, workers): (usize, usize),
    ) -> Self {
        let connections_max = connections_max.map(|total| descriptors::share(total, number, workers));
        Self {
            handler: stream_handlers::attach(events, mode, desk),
            datagrams: Datagrams { mode, desk },
            connections_max,
        }
    }

    /// Opens a socket, and says where it is bound.
    pub(crate) fn open(&self, events: &mut EventLoop<'h>, door: Door) -> io::Result<(SourceId, Site)> {
        let id = match door {
            Door::Tcp(listen) => self.listen(events, listen)?.into(),
            Door::Udp(bind) => events.bind(bind, self.datagrams).map_err(cause)?.into(),
            Door::Unix(listen, site) => {
                let id = self.listen(events, listen)?;
                self.datagrams.desk.borrow_mut().learn(id, site.clone());
                return Ok((id.into(), site));
            }
        };
        Ok((id, events.local_addr(id).map_err(cause)?.into()))
    }

    fn listen(&self, events: &mut EventLoop<'h>, mut listen: Listen) -> io::Result<ListenerId> {
        if let Some(connections) = self.connections_max {
            listen = listen.connections_max(connections);
        }
        events.listen_for(listen, self.handler).map_err(cause)
    }
}

/// The system's own error behind the library's.
fn cause(error: halloo::Error) -> io::Error {
    let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<io::Error>());
    match source.and_then(io::Error::raw_os_error) {
        Some(number) => io::Error::from_raw_os_error(number),
        None => io::Error::from(error),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener};

    use halloo::EventLoop;

    use super::{Door, Room};
    use crate::cli::flags::{Limits, Mode};
    use crate::greeting::greeter::Desk;
    use crate::text::protocol::Protocol;

    const LIMITS: Limits =
        Limits { max_connections: None, max_connections_per_source: None, idle_timeout: None, udp_rate: None };

    #[test]
    fn what_was_proved_free_opens_for_several_workers_and_for_nobody_else() {
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let at = Door::at(protocol, anywhere, false, &LIMITS).prove_free().unwrap();
            let door = Door::at(protocol, at, false, &LIMITS);
            let desk = Desk::silent(Mode::Greet, None, None);
            let mut loops = [EventLoop::new().unwrap(), EventLoop::new().unwrap()];
            for (index, events) in loops.iter_mut().enumerate() {
                let room = Room::new(events, Mode::Greet, &desk, Some(9), (index + 1, 2));
                assert_eq!(room.connections_max, Some(5 - index));
                assert_eq!(room.open(events, door.clone().shared()).unwrap().1, at.into());
            }
            assert_eq!(door.prove_free().unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
        }
    }

    #[test]
    fn a_port_that_others_would_share_is_not_free() {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(1).unwrap();
        let at = TcpListener::from(socket);
        let door = Door::at(Protocol::Tcp, at.local_addr().unwrap(), false, &LIMITS);
        assert_eq!(door.prove_free().unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    }
}
