//! What a loop is told before it runs, and between two turns: handlers, listeners, UDP sockets.

use std::net::SocketAddr;
use std::time::Duration;

use crate::dispatch::Core;
use crate::endpoint::Endpoint;
use crate::entries::{Lifecycle, Socket};
use crate::error::{Error, ErrorKind, Result};
use crate::handler::{DatagramHandler, Served};
use crate::network::Network;
use crate::options::{Bind, Listen};
use crate::sources::Rates;
use crate::ticks::Tick;
use crate::timers::Task;
use crate::token::{HandlerId, ListenerId, Place, SocketId, SourceId, TimerId, Token, Watched, slot_of};

impl<'h, N: Network> Core<'h, N> {
    /// Takes a handler in.
    pub(crate) fn attach(&mut self, handler: Box<dyn Served + 'h>) -> HandlerId {
        self.tables.served.push(0);
        let key = self.connections.attach(handler);
        self.tables.handler_id(key)
    }

    /// Listens for a handler of its own, which is taken in only if that succeeds.
    pub(crate) fn listen(&mut self, at: &Listen, handler: Box<dyn Served + 'h>) -> Result<ListenerId> {
        let opened = self.open(at, handler.input_bytes_min())?;
        let handler = self.attach(handler);
        Ok(self.enter(opened, at, handler))
    }

    /// Listens for a handler that is here already.
    pub(crate) fn listen_for(&mut self, at: &Listen, served_by: HandlerId) -> Result<ListenerId> {
        let is_ours = served_by == self.tables.handler_id(served_by.key);
        let Some(handler) = self.connections.handler(served_by.key).filter(|_| is_ours) else {
            return Err(Error::said(ErrorKind::Unknown, Some(at.at.clone()), "this loop has no such handler"));
        };
        let opened = self.open(at, handler.input_bytes_min())?;
        Ok(self.enter(opened, at, served_by))
    }

    fn open(&mut self, at: &Listen, input_bytes_min: usize) -> Result<(Place, N::Listener, Option<SocketAddr>)> {
        at.check(input_bytes_min)?;
        self.check_goes_on(&at.at)?;
        let Self { network, tables, .. } = self;
        let place = Place { serial: tables.next_serial(), slot: slot_of(tables.origins.vacant_key()) };
        let (listener, local) = network
            .listen(at, Token::listener(place))
            .map_err(|error| Error::system(ErrorKind::Listen, Some(at.at.clone()), error))?;
        Ok((place, listener, local))
    }

    fn enter(
        &mut self,
        opened: (Place, N::Listener, Option<SocketAddr>),
        at: &Listen,
        handler: HandlerId,
    ) -> ListenerId {
        let (place, listener, local) = opened;
        let most = self.network.connections_max();
        self.tables.add_origin(place, handler.key, at, local, most);
        self.listeners.add(place, listener, local.map_or_else(|| at.at.clone(), Endpoint::from));
        ListenerId(place)
    }

    pub(crate) fn bind(&mut self, at: &Bind, handler: Box<dyn DatagramHandler + 'h>) -> Result<SocketId> {
        at.check()?;
        self.check_goes_on(&at.address.into())?;
        let Self { network, tables, datagrams, .. } = self;
        let place = Place { serial: tables.next_serial(), slot: slot_of(tables.sockets.vacant_key()) };
        let (socket, local) = network
            .bind(at, Token::socket(place))
            .map_err(|error| Error::system(ErrorKind::Bind, Some(at.address.into()), error))?;
        let limit = at.replies_per_source_per_second_max;
        let rates = limit.map(|limit| Rates::new(limit.get(), [network.entropy(), network.entropy()]));
        let Bind { limit_loopback, .. } = *at;
        tables.sockets.insert(Socket { serial: place.serial, local, rates, limit_loopback, open: true });
        datagrams.add(place, socket, local, handler);
        Ok(SocketId(place))
    }

    /// A loop that has ended serves nobody: what it opened would let clients wait for ever.
    fn check_goes_on(&self, at: &Endpoint) -> Result<()> {
        match self.tables.lifecycle {
            Lifecycle::Stopped(_) => Err(Error::said(ErrorKind::Setup, Some(at.clone()), "this loop has ended")),
            _ => Ok(()),
        }
    }

    pub(crate) fn every(&mut self, first: Duration, tick: Tick<'h>) -> TimerId {
        self.tables.read_clock(self.network.now());
        let (serial, at) = (self.tables.next_serial(), self.tables.later(first));
        let place = self.tables.timers.add(serial, at, Task::Tick);
        self.ticks.add(place, tick);
        TimerId(place)
    }

    pub(crate) fn local_addr(&self, id: SourceId) -> Result<SocketAddr> {
        let found = match id.0 {
            Watched::Listener(Place { serial, slot }) => {
                let origin = self.tables.origins.get(slot as usize);
                origin.filter(|origin| origin.serial == serial && origin.listening).and_then(|origin| origin.local)
            }
            Watched::Socket(Place { serial, slot }) => {
                let socket = self.tables.sockets.get(slot as usize);
                socket.filter(|socket| socket.serial == serial && socket.open).map(|socket| socket.local)
            }
            Watched::Timer(_) => None,
        };
        found.ok_or_else(|| Error::said(ErrorKind::Unknown, None, "no listener or socket with an address has this id"))
    }
}
