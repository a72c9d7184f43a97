//! Opens all sockets: the inherited ones, then those of the command line.
//!
//! The order is inherited sockets, addresses as given (IPv4 first, TCP first), then paths. An address with port 0 has
//! one port for all its sockets.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use halloo::{EventLoop, Listen, SourceId};

use crate::cli::flags::serve_options::ServeOptions;
use crate::cli::usage_error::usage_error;
use crate::exit::{self, ExitError, ExitStatus, describe_io_error};
use crate::process::inherited_socket::InheritedSocket;
use crate::serve::bind_error;
use crate::serve::socket::{SocketOpener, SocketSpec};
use crate::text::address::{Address, Endpoint, UnixPath};
use crate::text::bound_address::{BoundAddress, BoundSocket};
use crate::text::protocol::Protocol;
use crate::text::served_socket::ServedSocket;

/// The most attempts to find a port that is free for every socket of an address.
const PORT_TRIES_MAX: usize = 16;

/// The sockets that the first worker has opened, and how the other workers open them.
#[derive(Clone, Debug, Default)]
pub(crate) struct SocketPlan {
    pub(crate) bound: Vec<BoundSocket>,
    /// The same sockets, for another worker to open.
    specs: Vec<SocketSpec>,
}

impl SocketPlan {
    /// The sockets, as wanted and as bound.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = (Arc<ServedSocket>, BoundSocket)> + '_ {
        self.specs.iter().zip(&self.bound).map(|(spec, bound)| (Arc::clone(spec.socket()), bound.clone()))
    }
}

/// One address of the command line, and the socket addresses that it resolves to.
pub(crate) struct AddressGroup {
    address: Address,
    /// The text before it: `--tcp ` or `HALLOO_TCP=`.
    assignment: String,
    protocols: &'static [Protocol],
    resolved: Vec<SocketAddr>,
}

impl AddressGroup {
    /// Whether TCP on one of its addresses excludes TCP on the other. A free port is always another one.
    pub(crate) fn excludes(&self, other: SocketAddr) -> bool {
        let is_same = |address: &SocketAddr| {
            let (ip, other_ip) = (address.ip(), other.ip());
            let is_overlapping = ip == other_ip
                || ip.is_ipv4() == other_ip.is_ipv4() && (ip.is_unspecified() || other_ip.is_unspecified());
            is_overlapping && address.port() == other.port() && other.port() != 0
        };
        self.protocols.contains(&Protocol::Tcp) && self.resolved.iter().any(is_same)
    }

    /// The setting and the address, as given.
    pub(crate) fn setting(&self) -> String {
        format!("{}{}", self.assignment, self.address)
    }
}

/// Adds the inherited sockets, and opens those of the command line, on the first worker's loop. The plan is incomplete
/// if a stop is requested meanwhile.
pub(crate) fn open_all<'h>(
    event_loop: &mut EventLoop<'h>,
    inherited: Vec<InheritedSocket>,
    groups: &[AddressGroup],
    options: &ServeOptions,
    opener: &SocketOpener<'h>,
    stop_requested: &AtomicBool,
) -> Result<SocketPlan, ExitError> {
    let mut builder = PlanBuilder { event_loop, options, opener, groups, plan: SocketPlan::default() };
    for socket in inherited {
        builder.add_inherited(socket)?;
    }
    let is_wanted = || !stop_requested.load(Ordering::SeqCst);
    for group in groups.iter().take_while(|_| is_wanted()) {
        builder.add_group(group)?;
    }
    for path in options.listening.unix.iter().take_while(|_| is_wanted()) {
        builder.add_path(path)?;
    }
    if is_wanted() {
        let sockets = builder.plan.specs.iter().map(|spec| &**spec.socket());
        let setting = options.given.name("greeting_for").unwrap_or_default();
        opener.check_greetings(sockets).map_err(|error| usage_error(&format!("{setting}: {error}")))?;
    }
    if let Some((connections, limit)) = options.limits.max_connections.zip(exit::descriptor_limit())
        && connections >= limit
    {
        log::warn!(
            "{}{connections} cannot be reached: the limit on descriptors is {limit}; raise the limit with ulimit -n",
            options.given.assignment("max_connections")
        );
    }
    Ok(builder.plan)
}

/// Opens the same sockets on the loop of another worker.
pub(crate) fn open_again<'h>(
    event_loop: &mut EventLoop<'h>,
    plan: SocketPlan,
    opener: &SocketOpener<'h>,
    worker_number: usize,
) -> Result<(), ExitError> {
    for (spec, (protocol, address)) in plan.specs.into_iter().zip(plan.bound) {
        opener
            .open(event_loop, spec)
            .map_err(|error| bind_error::for_worker(protocol, &address, worker_number, &error))?;
    }
    Ok(())
}

/// Resolves the addresses of the command line, or the default one if nothing else is served. A name lookup blocks.
pub(crate) fn resolve_groups(options: &ServeOptions, has_inherited: bool) -> Result<Vec<AddressGroup>, ExitError> {
    const BOTH: &[Protocol] = &[Protocol::Tcp, Protocol::Udp];
    let ServeOptions { listening, given, .. } = options;
    let with_setting = |addresses: &[Address], setting, protocols| -> Vec<_> {
        addresses.iter().map(|address| (address.clone(), given.assignment(setting), protocols)).collect()
    };
    let mut wanted = with_setting(&listening.listen, "listen", BOTH);
    wanted.extend(with_setting(&listening.tcp, "tcp", &BOTH[..1]));
    wanted.extend(with_setting(&listening.udp, "udp", &BOTH[1..]));
    if wanted.is_empty() && listening.unix.is_empty() && !has_inherited {
        wanted = with_setting(&[Address::default()], "listen", BOTH);
    }
    let resolve = |(address, assignment, protocols): (Address, String, _)| match address.resolve() {
        Ok(resolved) if !resolved.is_empty() => Ok(AddressGroup { address, assignment, protocols, resolved }),
        Ok(_) => Err(bind_error::for_unresolved(&address, "it has no address", &assignment)),
        Err(error) => Err(bind_error::for_unresolved(&address, &describe_io_error(&error), &assignment)),
    };
    wanted.into_iter().map(resolve).collect()
}

/// Opens the sockets one after another, and collects them in a plan.
struct PlanBuilder<'e, 'h> {
    event_loop: &'e mut EventLoop<'h>,
    options: &'e ServeOptions,
    opener: &'e SocketOpener<'h>,
    groups: &'e [AddressGroup],
    plan: SocketPlan,
}

/// Why an address was not opened.
enum OpenError {
    /// This machine does not have it.
    AddressUnavailable(SocketAddr, ExitError),
    /// The port of the first socket is in use for another socket.
    PortTaken,
    Other(ExitError),
}

/// The sockets of one group; each can be opened again by its spec, and removed by its id.
type OpenedSockets = Vec<(BoundSocket, SocketSpec, SourceId)>;

impl PlanBuilder<'_, '_> {
    /// Adds a socket that is open already.
    fn add_inherited(&mut self, inherited: InheritedSocket) -> Result<(), ExitError> {
        let limits = &self.options.limits;
        let protocol = inherited.protocol();
        let served = ServedSocket {
            protocol,
            address: inherited.address().map_err(|error| bind_error::for_inherited(protocol, &error))?,
            given: None,
        };
        let spec = match inherited {
            InheritedSocket::Tcp(socket) => SocketSpec::tcp(socket, served, limits),
            InheritedSocket::Udp(socket) => SocketSpec::udp(socket, served, limits),
            InheritedSocket::Unix(socket, _) => SocketSpec::unix(socket, served, limits),
        };
        let opened = self.opener.open(self.event_loop, spec.clone());
        let (_, address) = opened.map_err(|error| bind_error::for_inherited(protocol, &error))?;
        self.push((protocol, address), spec);
        Ok(())
    }

    /// Opens a unix socket. It is bound by its path as given, which may be shorter than the absolute path that is
    /// printed.
    fn add_path(&mut self, unix_path: &UnixPath) -> Result<(), ExitError> {
        let path = unix_path.as_path();
        let shown = if unix_path.is_abstract() { Ok(path.to_owned()) } else { std::path::absolute(path) };
        let shown =
            shown.map_err(|error| bind_error::for_path(path, &error, &self.options.given.assignment("unix")))?;
        let bound = (Protocol::Unix, BoundAddress::from_path(&shown));
        if self.plan.bound.contains(&bound) {
            return Ok(());
        }
        let mut listen = Listen::unix(path);
        if let Some(mode) = self.options.listening.unix_mode {
            listen = listen.unix_mode(mode);
        }
        let (protocol, given) = (Protocol::Unix, Some(Endpoint::Unix(unix_path.clone())));
        let served = ServedSocket { protocol, address: bound.1.clone(), given };
        let spec = SocketSpec::unix(listen, served, &self.options.limits);
        self.opener
            .open(self.event_loop, spec.clone())
            .map_err(|error| bind_error::for_path(path, &error, &self.options.given.assignment("unix")))?;
        self.push(bound, spec);
        Ok(())
    }

    fn push(&mut self, socket: BoundSocket, spec: SocketSpec) {
        self.plan.bound.push(socket);
        self.plan.specs.push(spec);
    }

    fn add_group(&mut self, group: &AddressGroup) -> Result<(), ExitError> {
        for _ in 0..PORT_TRIES_MAX {
            let mut opened = OpenedSockets::new();
            match self.try_open_group(group, &mut opened) {
                Ok(()) => {
                    for (socket, spec, _) in opened {
                        self.push(socket, spec);
                    }
                    return Ok(());
                }
                Err(OpenError::Other(error) | OpenError::AddressUnavailable(_, error)) => return Err(error),
                Err(OpenError::PortTaken) => {
                    // They stay bound until the loop turns, so that the next attempt finds another port.
                    for (_, _, id) in opened {
                        self.event_loop.context().remove(id);
                    }
                }
            }
        }
        let AddressGroup { address, assignment, .. } = group;
        let cause =
            format!("cannot serve on {address}: no port was free for all its sockets in {PORT_TRIES_MAX} attempts");
        Err(ExitError::new(ExitStatus::Unavailable, format!("{cause}; name one with {assignment}HOST:PORT")))
    }

    /// Opens all sockets of one address of the command line, on one port.
    fn try_open_group(&mut self, group: &AddressGroup, opened: &mut OpenedSockets) -> Result<(), OpenError> {
        let mut unavailable = Vec::new();
        for &address in &group.resolved {
            match self.open_address(address, group, opened) {
                Err(OpenError::AddressUnavailable(address, exit_error)) => unavailable.push((address, exit_error)),
                other => other?,
            }
        }
        if unavailable.len() == group.resolved.len() {
            return Err(unavailable.pop().map_or(OpenError::PortTaken, |(_, exit_error)| OpenError::Other(exit_error)));
        }
        for (address, _) in unavailable {
            log::info!("{} is left out: this machine does not have that address", address.ip());
        }
        Ok(())
    }

    fn open_address(
        &mut self,
        address: SocketAddr,
        group: &AddressGroup,
        opened: &mut OpenedSockets,
    ) -> Result<(), OpenError> {
        for &protocol in group.protocols {
            let first = opened.first().and_then(|((_, first), ..)| first.socket_addr());
            let port = first.unwrap_or(address).port();
            let bind_address = with_port(address, port);
            if port != 0 && self.plan.bound.contains(&(protocol, bind_address.into())) {
                continue;
            }
            match self.open_socket(protocol, bind_address, &group.address) {
                Ok(socket) => {
                    if !is_unicast(bind_address.ip()) {
                        log::warn!(
                            "{protocol} on {bind_address} reaches no client: halloo joins no multicast group and replies \
                             to no broadcast; give an address of this machine"
                        );
                    }
                    opened.push(socket);
                }
                // It happens to the first socket, too, if the system has no port left.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && address.port() == 0 => {
                    return Err(OpenError::PortTaken);
                }
                Err(error) => {
                    let given = (&group.address, group.assignment.as_str());
                    let exit_error = bind_error::for_address(protocol, bind_address, &error, given, &self.plan.bound);
                    let is_unavailable = bind_error::is_address_unavailable(&error);
                    return Err(if is_unavailable {
                        OpenError::AddressUnavailable(bind_address, exit_error)
                    } else {
                        OpenError::Other(exit_error)
                    });
                }
            }
        }
        Ok(())
    }

    fn open_socket(
        &mut self,
        protocol: Protocol,
        address: SocketAddr,
        given: &Address,
    ) -> io::Result<(BoundSocket, SocketSpec, SourceId)> {
        let only_v6 = self.needs_only_v6(protocol, address);
        let given = Some(Endpoint::Internet(given.clone()));
        let served = ServedSocket { protocol, address: address.into(), given };
        let spec_at = |address| SocketSpec::for_address(address, served.clone(), only_v6, &self.options.limits);
        let first =
            if self.options.workers == 1 { spec_at(address) } else { spec_at(address).with_reuse_port_after_bind() };
        let (id, bound_address) = self.opener.open(self.event_loop, first)?;
        let further = spec_at(bound_address.socket_addr().unwrap_or(address)).with_reuse_port();
        Ok(((protocol, bound_address), further, id))
    }

    /// Whether the IPv6 wildcard must not accept IPv4, because the IPv4 wildcard is served or wanted as well.
    fn needs_only_v6(&self, protocol: Protocol, address: SocketAddr) -> bool {
        let wildcard = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
        let has_wildcard = |group: &AddressGroup| {
            let mut wildcards =
                group.resolved.iter().filter(|address| address.is_ipv4() && address.ip().is_unspecified());
            group.protocols.contains(&protocol) && wildcards.any(|wildcard| wildcard.port() == address.port())
        };
        let is_taken = self.plan.bound.contains(&(protocol, wildcard.into())) || self.groups.iter().any(has_wildcard);
        address.is_ipv6() && address.ip().is_unspecified() && is_taken
    }
}

fn is_unicast(ip: IpAddr) -> bool {
    !ip.is_multicast() && ip != IpAddr::V4(Ipv4Addr::BROADCAST)
}

pub(crate) fn with_port(mut address: SocketAddr, port: u16) -> SocketAddr {
    address.set_port(port);
    address
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, UdpSocket};

    use clap::Parser;
    use halloo::EventLoop;
    use support::network::ports::unused_port;

    use super::{AtomicBool, Ordering, SocketOpener, open_again, open_all, resolve_groups};
    use crate::cli::flags::CommandLine;
    use crate::cli::flags::serve_options::Mode;
    use crate::exit::{ExitError, ExitStatus};
    use crate::greeting::greeter::Greeter;
    use crate::text::protocol::Protocol;

    type ProtocolAndAddress = (Protocol, SocketAddr);

    /// Opens the sockets with that many workers, and returns the addresses of the first one.
    fn open_with(
        workers: usize,
        listen: &[&str],
        tcp: &[&str],
        udp: &[&str],
    ) -> Result<Vec<ProtocolAndAddress>, ExitError> {
        let flags = [("--listen", listen), ("--tcp", tcp), ("--udp", udp)].into_iter();
        let addresses = flags.flat_map(|(flag, texts)| texts.iter().map(move |text| format!("{flag}={text}")));
        let arguments = ["halloo".to_owned(), format!("--workers={workers}")].into_iter().chain(addresses);
        let options = CommandLine::parse_from(arguments).serve;
        let greeter = Greeter::for_test(Mode::Greet, None, None);
        let mut loops: Vec<EventLoop<'_>> = (0..workers).map(|_| EventLoop::new().unwrap()).collect();
        let (first_loop, other_loops) = loops.split_first_mut().unwrap();
        let groups = resolve_groups(&options, false)?;
        let opener = SocketOpener::new(&options, &greeter, 1, None);
        let plan = open_all(first_loop, Vec::new(), &groups, &options, &opener, &AtomicBool::new(false))?;
        for (index, event_loop) in other_loops.iter_mut().enumerate() {
            let opener = SocketOpener::new(&options, &greeter, index + 2, None);
            open_again(event_loop, plan.clone(), &opener, index + 2)?;
        }
        Ok(plan.bound.into_iter().filter_map(|(protocol, address)| Some((protocol, address.socket_addr()?))).collect())
    }

    fn open_with_all_worker_counts(
        listen: &[&str],
        tcp: &[&str],
        udp: &[&str],
    ) -> Result<Vec<ProtocolAndAddress>, ExitError> {
        let one_worker = open_with(1, listen, tcp, udp);
        let three_workers = open_with(3, listen, tcp, udp);
        let ips = |bound: &Vec<ProtocolAndAddress>| {
            bound.iter().map(|(protocol, address)| (*protocol, address.ip())).collect::<Vec<_>>()
        };
        assert_eq!(
            one_worker.as_ref().map(ips),
            three_workers.as_ref().map(ips),
            "one and three workers serve the same addresses"
        );
        one_worker.and(three_workers)
    }

    #[test]
    fn a_free_port_is_one_port_for_all_sockets_of_an_address() {
        for _ in 0..20 {
            let bound = open_with_all_worker_counts(&["localhost:0"], &[], &[]).unwrap();
            let (_, first) = bound[0];
            assert!(first.port() != 0 && bound.iter().all(|(_, address)| address.port() == first.port()), "{bound:?}");
            let protocols: Vec<Protocol> = bound.iter().map(|(protocol, _)| *protocol).collect();
            assert_eq!(protocols[..2], [Protocol::Tcp, Protocol::Udp]);
        }
    }

    #[test]
    fn an_abandoned_start_opens_no_more_sockets() {
        let options = CommandLine::parse_from(["halloo", "--listen", "127.0.0.1:0", "--unix", "/nowhere/socket"]).serve;
        let greeter = Greeter::for_test(Mode::Greet, None, None);
        let (mut event_loop, stop_requested) = (EventLoop::new().unwrap(), AtomicBool::new(false));
        let groups = resolve_groups(&options, false).unwrap();
        let opener = SocketOpener::new(&options, &greeter, 1, None);
        let mut open = || open_all(&mut event_loop, Vec::new(), &groups, &options, &opener, &stop_requested);
        assert!(open().is_err(), "there is no such folder");
        stop_requested.store(true, Ordering::SeqCst);
        assert_eq!(open().unwrap().bound, []);
    }

    #[test]
    fn sockets_come_in_the_order_given() {
        let bound = open_with_all_worker_counts(&["127.0.0.1:0"], &["127.0.0.3:0"], &["127.0.0.2:0"]).unwrap();
        let order: Vec<String> =
            bound.iter().map(|(protocol, address)| format!("{protocol}={}", address.ip())).collect();
        assert_eq!(order, ["tcp=127.0.0.1", "udp=127.0.0.1", "tcp=127.0.0.3", "udp=127.0.0.2"]);
    }

    #[test]
    fn an_address_given_twice_is_served_once() {
        let port = unused_port();
        let address = format!("127.0.0.1:{port}");
        assert_eq!(open_with_all_worker_counts(&[], &[&address, &address], &[]).unwrap().len(), 1);
    }

    #[test]
    fn a_port_in_use_is_reported_with_protocol_address_and_hint() {
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let error = open_with_all_worker_counts(&[], &[], &[&address]).unwrap_err();
        assert_eq!(error.status, ExitStatus::Unavailable);
        for part in ["udp", &address, "address already in use", "--udp 127.0.0.1:PORT"] {
            assert!(error.message.contains(part), "{}", error.message);
        }
    }

    #[test]
    fn an_address_of_another_machine_is_reported() {
        let error = open_with_all_worker_counts(&[], &["192.0.2.1:9000"], &[]).unwrap_err();
        assert_eq!(error.status, ExitStatus::Unavailable);
        assert!(error.message.contains("does not have that address"), "{}", error.message);
    }

    #[test]
    fn an_overlap_of_two_addresses_is_not_reported_as_a_port_in_use() {
        let port = unused_port();
        let error = open_with_all_worker_counts(&[], &[&format!("0.0.0.0:{port}"), &format!("127.0.0.1:{port}")], &[])
            .unwrap_err();
        assert!(error.message.contains("overlaps 0.0.0.0"), "{}", error.message);
    }
}
