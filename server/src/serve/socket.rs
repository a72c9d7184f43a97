//! One socket: its options, and how each worker opens it.
//!
//! The first worker binds a port exclusively, and then shares it with the other workers.

use std::cell::{OnceCell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use halloo::{
    Bind, DatagramHandler, EventLoop, HandlerId, Listen, ListenerId, SourceId, StreamHandler, UdpSocketId,
    connections_max_per_loop,
};

use crate::admin::http_handler::ADMIN_DESCRIPTORS_MAX;
use crate::cli::flags::serve_options::{LimitOptions, Mode, ServeOptions};
use crate::exit::os_error;
use crate::faults::fault_source::WorkerFaults;
use crate::faults::faulty_datagrams::{FaultyDatagrams, FaultyReplies};
use crate::faults::faulty_streams::WithFaults;
use crate::faults::shaped_output::ShapedOutput;
use crate::greeting::datagram_handler::{DirectReplies, GreetingDatagramHandler};
use crate::greeting::greeter::Greeter;
use crate::greeting::stream_handlers::{self, AttachStreamHandler, DirectOutput};
use crate::process::worker_loops::WorkerLoop;
use crate::proxy::header_policy::HeaderPolicy;
use crate::proxy::proxied_datagrams::ProxiedDatagrams;
use crate::proxy::proxied_streams::ProxiedStreams;
use crate::text::bound_address::{BoundAddress, BoundSocket};
use crate::text::protocol::Protocol;
use crate::text::served_socket::ServedSocket;

/// The default limit on UDP replies to one source per second: a person never asks that often.
const DEFAULT_UDP_RATE: u32 = 100;

/// The most unsent bytes that the kernel keeps for a TCP client. Without this limit, a client that does not read costs
/// the kernel 4 MiB (`tcp_wmem`). An echo, which also has an outbox of 128 KiB, is as fast with it as without.
const NOTSENT_LOWAT: u32 = 128 * 1024;

/// A socket that every worker opens. Each worker gets a duplicate of an inherited socket or a unix socket. When the
/// last duplicate closes, the unix socket's file is removed.
#[derive(Clone, Debug)]
pub(crate) struct SocketSpec {
    socket: Arc<ServedSocket>,
    options: SocketOptions,
}

#[derive(Clone, Debug)]
enum SocketOptions {
    Listen(Listen),
    Bind(Bind),
}

impl SocketSpec {
    /// A TCP listener, at an address or inherited.
    pub(crate) fn tcp(socket_or_address: impl Into<Listen>, socket: ServedSocket, limits: &LimitOptions) -> Self {
        let listen = with_limits(socket_or_address.into(), limits);
        let listen = if cfg!(target_os = "linux") { listen.tcp_notsent_lowat(NOTSENT_LOWAT) } else { listen };
        Self { socket: Arc::new(socket), options: SocketOptions::Listen(listen) }
    }

    /// A listener of a unix socket, at a path or inherited.
    pub(crate) fn unix(socket_or_path: impl Into<Listen>, socket: ServedSocket, limits: &LimitOptions) -> Self {
        let listen = with_limits(socket_or_path.into(), limits);
        Self { socket: Arc::new(socket), options: SocketOptions::Listen(listen) }
    }

    /// A UDP socket, at an address or inherited.
    pub(crate) fn udp(socket_or_address: impl Into<Bind>, socket: ServedSocket, limits: &LimitOptions) -> Self {
        let bind = socket_or_address.into();
        let bind = match limits.udp_rate {
            None => bind.replies_per_source_per_second_max(DEFAULT_UDP_RATE),
            Some(0) => bind,
            Some(rate) => bind.replies_per_source_per_second_max(rate).limit_loopback(true),
        };
        Self { socket: Arc::new(socket), options: SocketOptions::Bind(bind) }
    }

    /// A socket at the internet address that it is served at; `only_v6` sets `IPV6_V6ONLY`.
    pub(crate) fn for_address(address: SocketAddr, socket: ServedSocket, only_v6: bool, limits: &LimitOptions) -> Self {
        match socket.protocol {
            Protocol::Udp => Self::udp(address, socket, limits),
            Protocol::Tcp | Protocol::Unix => Self::tcp(address, socket, limits),
        }
        .map(|listen| listen.only_v6(only_v6), |bind| bind.only_v6(only_v6))
    }

    /// The socket that it opens.
    pub(crate) const fn socket(&self) -> &Arc<ServedSocket> {
        &self.socket
    }

    /// For the first of several workers: binds the port exclusively, and then shares it.
    pub(crate) fn with_reuse_port_after_bind(self) -> Self {
        self.map(|listen| listen.reuse_port_after_bind(true), |bind| bind.reuse_port_after_bind(true))
    }

    /// For the other workers: shares the port that the first worker has bound.
    pub(crate) fn with_reuse_port(self) -> Self {
        self.map(|listen| listen.reuse_port(true), |bind| bind.reuse_port(true))
    }

    fn map(self, listen: impl FnOnce(Listen) -> Listen, bind: impl FnOnce(Bind) -> Bind) -> Self {
        let options = match self.options {
            SocketOptions::Listen(options) => SocketOptions::Listen(listen(options)),
            SocketOptions::Bind(options) => SocketOptions::Bind(bind(options)),
        };
        Self { options, ..self }
    }
}

/// For both limits, 0 means no limit.
fn with_limits(mut listen: Listen, limits: &LimitOptions) -> Listen {
    if let Some(connections) = limits.max_connections_per_source.filter(|connections| *connections > 0) {
        listen = listen.connections_per_source_max(connections);
    }
    match limits.idle_timeout {
        Some(timeout) => listen.idle_timeout(Some(timeout).filter(|timeout| !timeout.is_zero())),
        None => listen,
    }
}

/// Opens sockets on one loop, with their handlers and the worker's share of the connection limit.
pub(crate) struct SocketOpener<'h> {
    mode: Mode,
    greeter: &'h RefCell<Greeter>,
    /// Set if some clients are proxies.
    header_policy: Option<Rc<HeaderPolicy<'h>>>,
    /// Set if some clients meet faults.
    faults: Option<WorkerFaults>,
    connections_max: usize,
    /// The listeners that are open, each with the handler of its connections.
    listeners: RefCell<Vec<(HandlerId, Arc<ServedSocket>)>>,
}

impl<'h> SocketOpener<'h> {
    /// The opener of one worker; the first has number 1.
    pub(crate) fn new(
        options: &ServeOptions,
        greeter: &'h RefCell<Greeter>,
        worker_number: usize,
        faults: Option<WorkerFaults>,
    ) -> Self {
        let (mode, trusted) = (options.replies.mode, &options.operation.proxy_protocol);
        Self {
            mode,
            greeter,
            header_policy: (!trusted.is_empty()).then(|| Rc::new(HeaderPolicy::new(trusted.clone(), greeter))),
            faults,
            connections_max: connections_max(options, worker_number),
            listeners: RefCell::default(),
        }
    }

    /// The loop of this worker, for other threads.
    pub(crate) fn worker_loop(&self, event_loop: &EventLoop<'h>) -> WorkerLoop {
        WorkerLoop { handle: event_loop.handle(), listeners: self.listeners.borrow().clone() }
    }

    /// Returns an error if a greeting is for a socket that is not among these, or a socket has two.
    pub(crate) fn check_greetings<'s>(
        &self,
        sockets: impl Iterator<Item = &'s ServedSocket> + Clone,
    ) -> Result<(), String> {
        self.greeter.borrow().templates().check_sockets(sockets)
    }

    /// Opens a socket, and returns the address it is bound to.
    pub(crate) fn open(
        &self,
        event_loop: &mut EventLoop<'h>,
        spec: SocketSpec,
    ) -> io::Result<(SourceId, BoundAddress)> {
        let SocketSpec { socket, options } = spec;
        let (protocol, unix_address, bound) = (socket.protocol, socket.unix_address().cloned(), Rc::default());
        let id: SourceId = match options {
            SocketOptions::Listen(listen) => self.listen(event_loop, listen, socket, &bound)?.into(),
            SocketOptions::Bind(bind) => self.bind(event_loop, bind, &socket, &bound)?.into(),
        };
        let address = match unix_address {
            Some(address) => address,
            None => event_loop.local_addr(id).map_err(os_error)?.into(),
        };
        // It is new, and set once.
        let _ = bound.set((protocol, address.clone()));
        Ok((id, address))
    }

    fn bind(
        &self,
        event_loop: &mut EventLoop<'h>,
        bind: Bind,
        socket: &ServedSocket,
        bound: &Rc<OnceCell<BoundSocket>>,
    ) -> io::Result<UdpSocketId> {
        let (mode, greeter) = (self.mode, self.greeter);
        let Some(faults) = &self.faults else {
            let handler = GreetingDatagramHandler::new(mode, greeter, socket, DirectReplies);
            return self.bind_for(event_loop, bind, handler);
        };
        let replies = FaultyReplies::new(faults.source(Rc::clone(bound)));
        let handler = GreetingDatagramHandler::new(mode, greeter, socket, replies.clone());
        self.bind_for(event_loop, bind, FaultyDatagrams::new(handler, replies))
    }

    fn bind_for(
        &self,
        event_loop: &mut EventLoop<'h>,
        bind: Bind,
        handler: impl DatagramHandler + 'h,
    ) -> io::Result<UdpSocketId> {
        match self.header_policy.clone() {
            Some(policy) => event_loop.bind(bind, ProxiedDatagrams::new(handler, policy)),
            None => event_loop.bind(bind, handler),
        }
        .map_err(os_error)
    }

    fn listen(
        &self,
        event_loop: &mut EventLoop<'h>,
        listen: Listen,
        socket: Arc<ServedSocket>,
        bound: &Rc<OnceCell<BoundSocket>>,
    ) -> io::Result<ListenerId> {
        let (mode, greeter, served) = (self.mode, self.greeter, Arc::clone(&socket));
        let to = BehindProxies { event_loop: &mut *event_loop, policy: self.header_policy.clone() };
        let handler = match &self.faults {
            None => stream_handlers::attach(to, mode, greeter, served, DirectOutput),
            Some(faults) => {
                let (output, source) = (ShapedOutput::default(), faults.source(Rc::clone(bound)));
                let to = WithFaults { to, output: output.clone(), source, socket: Arc::clone(&socket) };
                stream_handlers::attach(to, mode, greeter, served, output)
            }
        };
        // The limit per source counts the real clients.
        let listen = listen.connections_max(self.connections_max).peer_addr_from_handler(self.header_policy.is_some());
        let id = event_loop.listen_for(listen, handler).map_err(os_error)?;
        self.listeners.borrow_mut().push((handler, socket));
        Ok(id)
    }
}

/// Attaches handlers, which read PROXY headers first if there is a policy for them.
struct BehindProxies<'l, 'h> {
    event_loop: &'l mut EventLoop<'h>,
    policy: Option<Rc<HeaderPolicy<'h>>>,
}

impl<'h> AttachStreamHandler<'h> for BehindProxies<'_, 'h> {
    fn attach_stream_handler(self, handler: impl StreamHandler + 'h) -> HandlerId {
        match self.policy {
            Some(policy) => self.event_loop.attach(ProxiedStreams::new(handler, policy)),
            None => self.event_loop.attach(handler),
        }
    }
}

/// The connections of each worker within the descriptor limit, less the descriptors of the admin endpoint. A small limit
/// is divided in half.
fn default_connections_max(workers: usize, has_admin: bool) -> usize {
    let connections = connections_max_per_loop(workers);
    let kept = if has_admin { ADMIN_DESCRIPTORS_MAX.div_ceil(workers) } else { 0 };
    connections.saturating_sub(kept).max(connections / 2).max(1)
}

/// The most connections of a worker; the first has number 1.
pub(crate) fn connections_max(options: &ServeOptions, worker_number: usize) -> usize {
    match options.limits.max_connections {
        Some(total) => worker_share(total, worker_number, options.workers),
        None => default_connections_max(options.workers, options.operation.admin.is_some()),
    }
}

/// The share of a total that a worker gets; the first has number 1. The first `total % workers` workers get one more
/// than the others.
const fn worker_share(total: usize, worker_number: usize, workers: usize) -> usize {
    total / workers + if worker_number <= total % workers { 1 } else { 0 }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use clap::Parser;
    use halloo::EventLoop;

    use super::{ADMIN_DESCRIPTORS_MAX, SocketOpener, SocketSpec, default_connections_max, worker_share};
    use crate::cli::flags::CommandLine;
    use crate::cli::flags::serve_options::{LimitOptions, Mode};
    use crate::greeting::greeter::Greeter;
    use crate::text::protocol::Protocol;
    use crate::text::served_socket::ServedSocket;

    const LIMITS: LimitOptions = LimitOptions {
        max_connections: None,
        max_connections_per_source: None,
        idle_timeout: None,
        udp_rate: None,
        memory_max: None,
    };

    #[test]
    fn shares_are_even_and_add_up() {
        for (total, workers) in [(7, 1), (7, 3), (4, 4), (1000, 7), (1, 1)] {
            let shares: Vec<usize> =
                (1..=workers).map(|worker_number| worker_share(total, worker_number, workers)).collect();
            assert_eq!(shares.iter().sum::<usize>(), total);
            assert!(shares[0] - shares[workers - 1] <= 1 && shares[workers - 1] >= 1, "{shares:?}");
        }
    }

    #[test]
    fn the_default_limit_leaves_descriptors_for_the_admin_endpoint() {
        for workers in [1, 3, 1024] {
            let (without, with) = (default_connections_max(workers, false), default_connections_max(workers, true));
            let is_small = with * 2 <= without + 1;
            assert!(
                (without - with) * workers >= ADMIN_DESCRIPTORS_MAX || is_small,
                "{workers} workers: {with} of {without}"
            );
            assert!(with >= 1);
        }
    }

    #[test]
    fn a_limit_of_0_means_no_limit() {
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let listen = |limits: &LimitOptions| {
            format!("{:?}", SocketSpec::tcp(any_port, (*ServedSocket::for_test()).clone(), limits))
        };
        let with_idle_timeout = |seconds| LimitOptions { idle_timeout: Some(Duration::from_secs(seconds)), ..LIMITS };
        assert!(listen(&with_idle_timeout(7)).contains("idle_timeout: Some(7s)"), "{}", listen(&with_idle_timeout(7)));
        assert!(listen(&with_idle_timeout(0)).contains("idle_timeout: None"), "{}", listen(&with_idle_timeout(0)));
        let with_connections = |max| LimitOptions { max_connections_per_source: Some(max), ..LIMITS };
        assert_eq!(listen(&with_connections(0)), listen(&LIMITS));
        assert_ne!(listen(&with_connections(1)), listen(&LIMITS));
    }

    #[test]
    fn workers_share_a_port_and_another_server_cannot_bind_it() {
        let options = CommandLine::parse_from(["halloo", "--workers", "2", "--max-connections", "9"]).serve;
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let socket = |address: SocketAddr| ServedSocket { protocol, address: address.into(), given: None };
            let greeter = Greeter::for_test(Mode::Greet, None, None);
            let mut loops = [EventLoop::new().unwrap(), EventLoop::new().unwrap()];
            let [first, second] = [1, 2].map(|number| SocketOpener::new(&options, &greeter, number, None));
            assert_eq!((first.connections_max, second.connections_max), (5, 4));
            let spec = SocketSpec::for_address(any_port, socket(any_port), false, &LIMITS).with_reuse_port_after_bind();
            let (_, address) = first.open(&mut loops[0], spec).unwrap();
            let bound = address.socket_addr().unwrap();
            let spec = SocketSpec::for_address(bound, socket(bound), false, &LIMITS);
            let mut other_loop = EventLoop::new().unwrap();
            let other = SocketOpener::new(&options, &greeter, 1, None);
            for refused in [spec.clone(), spec.clone().with_reuse_port_after_bind()] {
                let error = other.open(&mut other_loop, refused).unwrap_err();
                assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
            }
            assert_eq!(second.open(&mut loops[1], spec.with_reuse_port()).unwrap().1, address);
        }
    }
}
