//! One turn of the loop, and the calls that open sockets.
//!
//! The order of a turn is fixed (`STAGES`). Events not yet dispatched outlive a callback that panics.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::address::Address;
use crate::close_reason::CloseReason;
use crate::context::Context;
use crate::context::erased_handler::ErasedHandler;
use crate::context::handler::DatagramHandler;
use crate::context::loop_state::{Drain, DrainReport, LoopState};
use crate::context::mailbox::{Mailbox, Message};
use crate::context::udp_socket_entry::UdpSocketEntry;
use crate::error::{Error, ErrorKind, Result};
use crate::event_loop::Turn;
use crate::event_loop::callbacks::catch_panic;
use crate::event_loop::connections::Connections;
use crate::event_loop::listeners::Listeners;
use crate::event_loop::timer_callbacks::{TimerCallback, TimerCallbacks};
use crate::event_loop::udp_sockets::UdpSockets;
use crate::ids::{HandlerId, Key, ListenerId, SourceId, SourceKey, Target, TimerId, Token, UdpSocketId, to_slot};
use crate::limits;
use crate::net::{Event, Network};
use crate::options::bind::Bind;
use crate::options::listen::Listen;
use crate::state::source_address_limits::RateLimiter;
use crate::state::timers::TimerTask;
use crate::state::timestamp::Timestamp;

/// A loop on some network.
pub(crate) struct Core<'h, N: Network> {
    pub(crate) network: N,
    pub(crate) context: Context,
    pub(crate) connections: Connections<'h, N>,
    pub(crate) listeners: Listeners<N>,
    pub(crate) udp_sockets: UdpSockets<'h, N>,
    pub(crate) timer_callbacks: TimerCallbacks<'h>,
    pub(crate) mailbox: Arc<Mailbox>,
    events: Vec<Event>,
    next_event: usize,
    /// The last poll of the turn came back full.
    poll_has_more: bool,
    /// A turn is under way, or was when a handler unwound.
    in_turn: bool,
}

impl<N: Network> Core<'_, N> {
    pub(crate) fn new(network: N) -> Self {
        let mut context = Context::new(network.now());
        context.set_now(network.now());
        Self {
            mailbox: Mailbox::new(network.waker()),
            context,
            network,
            connections: Connections::new(),
            listeners: Listeners::new(),
            udp_sockets: UdpSockets::new(),
            timer_callbacks: TimerCallbacks::default(),
            events: Vec::new(),
            next_event: 0,
            poll_has_more: false,
            in_turn: false,
        }
    }

    pub(crate) fn turn(&mut self, timeout: Option<Duration>) -> io::Result<Turn> {
        if let LoopState::Stopped(report) = self.context.loop_state {
            return Ok(Turn::Stopped(report));
        }
        self.poll(timeout)?;
        if std::mem::replace(&mut self.in_turn, true) {
            // The last turn unwound, out of a handler.
            self.context.stats.panics += 1;
            if let Some(callback) = self.context.running_callback.take() {
                self.connections.abort_panicked(&mut self.network, &mut self.context, callback.slot);
            }
            if let Some(key) = self.context.running_timer.take() {
                self.context.timers.remove(key);
            }
        }
        self.context.turn = self.context.turn.wrapping_add(1);
        self.context.stats.turns += 1;
        let mut progress = false;
        for stage in Self::STAGES {
            progress |= stage(self);
        }
        self.in_turn = false;
        Ok(match self.context.loop_state {
            LoopState::Stopped(report) => Turn::Stopped(report),
            _ if progress => Turn::Progress,
            _ => Turn::Idle,
        })
    }

    /// What a turn does after the poll, in order; each says whether there was anything to do.
    const STAGES: [fn(&mut Self) -> bool; 9] = [
        Self::dispatch_events,
        Self::drive_unfinished,
        Self::handle_messages,
        Self::expire_deadlines,
        Self::start_connects,
        Self::drive_dirty,
        Self::send_datagrams,
        Self::remove_sources,
        Self::end_turn,
    ];

    /// How long the poll may wait: zero while work is left over.
    pub(crate) fn next_timeout(&self) -> Option<Duration> {
        if self.has_work_left() {
            return Some(Duration::ZERO);
        }
        let deadline = self.next_deadline()?;
        // Callbacks and the embedder may have taken long: what came due meanwhile is not to be waited for.
        Some(deadline.since(self.context.timestamp(self.network.now())))
    }

    fn has_work_left(&self) -> bool {
        let context = &self.context;
        self.poll_has_more
            || self.listeners.ready_queue.ready_len() + self.udp_sockets.ready_queue.ready_len() + self.mailbox.len()
                > 0
            || !(context.deferred.is_empty() && context.dirty.is_empty() && context.removed_sources.is_empty())
            || !(context.notes.is_empty() && context.pending_connects.is_empty())
            || matches!(context.loop_state, LoopState::DrainRequested(_) | LoopState::Stopped(_))
            || self.in_turn
            || !context.send_queue.transmits.is_empty()
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        let deadlines = [
            self.connections.next_deadline(),
            self.listeners.ready_queue.next_deadline(),
            self.udp_sockets.ready_queue.next_deadline(),
            self.context.timers.next_deadline(),
            self.context.drain_until(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Gathers events: once with a wait, then at once for as long as the poll comes back full.
    fn poll(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let mut wait = match (timeout, self.next_timeout()) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        if self.next_event == self.events.len() {
            self.events.clear();
            self.next_event = 0;
        }
        self.poll_has_more = true;
        for _ in 0..limits::POLLS_PER_TURN_MAX {
            match self.network.poll(&mut self.events, wait) {
                Ok(has_more) => self.poll_has_more = has_more,
                // A signal or a debugger: what there is shows in the next poll.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => self.poll_has_more = false,
                Err(error) => return Err(error),
            }
            if !self.poll_has_more {
                break;
            }
            wait = Some(Duration::ZERO);
        }
        self.context.set_now(self.network.now());
        Ok(())
    }

    fn dispatch_events(&mut self) -> bool {
        let any = self.next_event < self.events.len();
        while let Some(event) = self.events.get(self.next_event) {
            self.next_event += 1;
            self.context.stats.events += 1;
            match event.token.target() {
                Target::Wake => {}
                Target::Connection(key) => {
                    self.connections.on_event(&mut self.network, &mut self.context, key, event);
                }
                Target::Listener(key) => self.listeners.on_event(key),
                Target::UdpSocket(key) => self.udp_sockets.on_event(key),
            }
        }
        any
    }

    fn drive_unfinished(&mut self) -> bool {
        let Self { network, context, connections, listeners, udp_sockets, .. } = self;
        let any = context.deferred.len() + listeners.ready_queue.ready_len() + udp_sockets.ready_queue.ready_len() > 0;
        for _ in 0..context.deferred.len() {
            if let Some(slot) = context.deferred.pop_front()
                && context.dequeue(slot)
            {
                connections.drive(network, context, slot);
            }
        }
        listeners.accept_ready(network, context, connections);
        udp_sockets.receive_ready(network, context);
        any
    }

    /// Delivers the notes and messages that were there at the start.
    fn handle_messages(&mut self) -> bool {
        let (notes, messages) = (self.context.notes.len(), self.mailbox.len());
        for _ in 0..notes.min(limits::MESSAGES_PER_TURN_MAX) {
            if let Some((id, value)) = self.context.notes.pop_front() {
                self.connections.notify(&mut self.network, &mut self.context, id, value);
            }
        }
        for _ in 0..messages.min(limits::MESSAGES_PER_TURN_MAX) {
            match self.mailbox.receive() {
                Some(Message::Notify(id, value)) => {
                    self.connections.notify(&mut self.network, &mut self.context, id, value);
                }
                Some(Message::Job(job)) => {
                    self.context.stats.jobs += 1;
                    if catch_panic(&mut self.context, job).is_none() {
                        log::error!("a job has panicked");
                    }
                }
                None => {}
            }
        }
        notes + messages > 0
    }

    fn expire_deadlines(&mut self) -> bool {
        let now = self.context.now;
        let backoffs = self.listeners.ready_queue.expire(now) | self.udp_sockets.ready_queue.expire(now);
        let timers = self.timer_callbacks.expire(&mut self.context, &mut self.connections.callbacks);
        self.connections.expire(&mut self.network, &mut self.context) | timers | backoffs
    }

    fn start_connects(&mut self) -> bool {
        self.connections.start_connects(&mut self.network, &mut self.context)
    }

    /// Serves the connections that callbacks of others have touched. What their own callbacks touch waits a turn.
    fn drive_dirty(&mut self) -> bool {
        let count = self.context.dirty.len();
        for _ in 0..count {
            if let Some(slot) = self.context.dirty.pop_front()
                && self.context.dequeue(slot)
            {
                self.connections.drive(&mut self.network, &mut self.context, slot);
            }
        }
        count > 0
    }

    fn send_datagrams(&mut self) -> bool {
        self.udp_sockets.send_queued(&mut self.network, &mut self.context);
        false
    }

    fn remove_sources(&mut self) -> bool {
        let any = !self.context.removed_sources.is_empty();
        while let Some(source) = self.context.removed_sources.pop() {
            match source {
                SourceKey::Listener(key) => self.listeners.remove(&mut self.network, &mut self.context, key.slot),
                SourceKey::UdpSocket(key) => self.udp_sockets.remove(&mut self.network, &mut self.context, key.slot),
                SourceKey::Timer(key) => self.timer_callbacks.remove(key),
            }
        }
        any
    }

    /// Frees what is gone, once the drain has had its look.
    fn end_turn(&mut self) -> bool {
        self.advance_drain();
        if self.connections.free_closed(&mut self.context) {
            self.listeners.ready_queue.retry_held_up();
        }
        false
    }

    /// Brings a drain forward, to its report once it is over.
    fn advance_drain(&mut self) {
        if let LoopState::DrainRequested(drain) = self.context.loop_state {
            self.context.loop_state = LoopState::Draining(drain);
            self.listeners.begin_drain();
            self.udp_sockets.begin_drain();
            self.context.begin_drain();
        }
        let LoopState::Draining(Drain { since, until, closed_before }) = self.context.loop_state else {
            return;
        };
        let is_done = self.listeners.is_empty() && self.context.stats.connections == 0 && self.udp_sockets.is_drained();
        if !is_done && self.context.now < until {
            return;
        }
        self.listeners.close_all(&mut self.network, &mut self.context);
        self.connections.close_all(&mut self.network, &mut self.context);
        self.udp_sockets.send_queued(&mut self.network, &mut self.context);
        self.udp_sockets.close_all(&mut self.network, &mut self.context);
        self.mailbox.close();
        // A loop is cut once, though a handler's panic may spread that over several turns.
        let forced = self.context.stats.closed(CloseReason::Drained);
        let finished = self.context.stats.closed_total() - closed_before - forced;
        let report = DrainReport { finished, forced, elapsed: self.context.now.since(since) };
        self.context.loop_state = LoopState::Stopped(report);
    }
}

impl<'h, N: Network> Core<'h, N> {
    /// Takes a handler in.
    pub(crate) fn attach(&mut self, handler: Box<dyn ErasedHandler + 'h>) -> HandlerId {
        self.context.clients_by_handler.push(0);
        let index = self.connections.attach(handler);
        self.context.handler_id(index)
    }

    /// Listens for a handler of its own, which is taken in only if that succeeds.
    pub(crate) fn listen(&mut self, at: &Listen, handler: Box<dyn ErasedHandler + 'h>) -> Result<ListenerId> {
        let opened = self.open_listener(at, handler.input_bytes_min())?;
        let handler = self.attach(handler);
        Ok(self.add_listener(opened, at, handler))
    }

    /// Listens for a handler that is here already.
    pub(crate) fn listen_for(&mut self, at: &Listen, served_by: HandlerId) -> Result<ListenerId> {
        let is_ours = served_by == self.context.handler_id(served_by.index);
        let Some(handler) = self.connections.handler(served_by.index).filter(|_| is_ours) else {
            return Err(Error::with_message(
                ErrorKind::UnknownId,
                Some(at.address.clone()),
                "this loop has no such handler",
            ));
        };
        let opened = self.open_listener(at, handler.input_bytes_min())?;
        Ok(self.add_listener(opened, at, served_by))
    }

    fn open_listener(&mut self, at: &Listen, input_bytes_min: usize) -> Result<(Key, N::Listener, Option<SocketAddr>)> {
        at.validate(input_bytes_min)?;
        self.check_not_stopped(&at.address)?;
        let Self { network, context, .. } = self;
        let key = Key { generation: context.next_generation(), slot: to_slot(context.listeners.vacant_key()) };
        let (listener, local) = network
            .listen(at, Token::listener(key))
            .map_err(|error| Error::from_io(ErrorKind::Listen, Some(at.address.clone()), error))?;
        Ok((key, listener, local))
    }

    fn add_listener(
        &mut self,
        opened: (Key, N::Listener, Option<SocketAddr>),
        at: &Listen,
        handler: HandlerId,
    ) -> ListenerId {
        let (key, listener, local) = opened;
        let default_max = self.network.connections_max();
        self.context.add_listener(key, handler.index, at, local, default_max);
        self.listeners.add(key, listener, local.map_or_else(|| at.address.clone(), Address::from));
        ListenerId(key)
    }

    pub(crate) fn bind(&mut self, at: &Bind, handler: Box<dyn DatagramHandler + 'h>) -> Result<UdpSocketId> {
        at.validate()?;
        self.check_not_stopped(&at.address.into())?;
        let Self { network, context, udp_sockets, .. } = self;
        let key = Key { generation: context.next_generation(), slot: to_slot(context.udp_sockets.vacant_key()) };
        let (socket, local) = network
            .bind(at, Token::udp_socket(key))
            .map_err(|error| Error::from_io(ErrorKind::Bind, Some(at.address.into()), error))?;
        let limit = at.replies_per_source_per_second_max;
        let rate_limiter = limit.map(|limit| RateLimiter::new(limit.get(), [network.entropy(), network.entropy()]));
        let Bind { limit_loopback, .. } = *at;
        context.udp_sockets.insert(UdpSocketEntry {
            generation: key.generation,
            local,
            rate_limiter,
            limit_loopback,
            is_open: true,
        });
        udp_sockets.add(key, socket, local, handler);
        Ok(UdpSocketId(key))
    }

    /// A loop that has ended serves no client: what it opened would let clients wait for ever.
    fn check_not_stopped(&self, at: &Address) -> Result<()> {
        match self.context.loop_state {
            LoopState::Stopped(_) => {
                Err(Error::with_message(ErrorKind::Setup, Some(at.clone()), "this loop has ended"))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn every(&mut self, first: Duration, callback: TimerCallback<'h>) -> TimerId {
        self.context.set_now(self.network.now());
        let (generation, at) = (self.context.next_generation(), self.context.deadline_after(first));
        let key = self.context.timers.add(generation, at, TimerTask::Callback);
        self.timer_callbacks.add(key, callback);
        TimerId(key)
    }

    pub(crate) fn local_addr(&self, id: SourceId) -> Result<SocketAddr> {
        let found = match id.0 {
            SourceKey::Listener(Key { generation, slot }) => {
                let listener = self.context.listeners.get(slot as usize);
                listener
                    .filter(|listener| listener.generation == generation && listener.is_listening)
                    .and_then(|listener| listener.local)
            }
            SourceKey::UdpSocket(Key { generation, slot }) => {
                let socket = self.context.udp_sockets.get(slot as usize);
                socket.filter(|socket| socket.generation == generation && socket.is_open).map(|socket| socket.local)
            }
            SourceKey::Timer(_) => None,
        };
        found.ok_or_else(|| {
            Error::with_message(ErrorKind::UnknownId, None, "no listener or socket with an address has this id")
        })
    }
}

impl<N: Network> Drop for Core<'_, N> {
    fn drop(&mut self) {
        self.mailbox.close();
    }
}
