//! From the sockets handed over and the addresses of the command line to what is served.
//!
//! Between these and the loop, once, at the start. It promises that what was handed over comes first, as it is, and then
//! the order in which addresses were given, IPv4 before IPv6 and TCP before UDP; one port for all sockets of an address
//! that leaves the port open; that an address of a name which this machine does not have is passed over, unless none is
//! left; and that a failure is one sentence with protocol, address, cause and way out. It never shares a port that is
//! taken.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use halloo::{Bind, EventLoop, HandlerId, Listen, SourceId};

use crate::activation::Handed;
use crate::address::Address;
use crate::connections;
use crate::datagrams::Datagrams;
use crate::desk::Desk;
use crate::exit::{Failure, Status, plain_words, way_out};
use crate::options::{Limits, Listening, Mode};
use crate::protocol::Protocol;

/// How often a free port is looked for that is free for every socket of an address.
const PORT_TRIES_MAX: usize = 16;

/// Answers to one UDP source in a second, unless the command line says otherwise: a person never asks that often.
const UDP_RATE: u32 = 100;

/// A socket that is served.
pub(crate) type Served = (Protocol, SocketAddr);

/// One address of the command line and what it stands for.
struct Group {
    address: Address,
    flag: &'static str,
    protocols: &'static [Protocol],
    found: Vec<SocketAddr>,
}

/// Takes in every socket handed over, and opens those the command line asks for.
pub(crate) fn open<'h>(
    events: &mut EventLoop<'h>,
    handed: Vec<Handed>,
    listening: &Listening,
    limits: &Limits,
    mode: Mode,
    desk: &'h RefCell<Desk>,
) -> Result<Vec<Served>, Failure> {
    let groups = groups(listening, handed.is_empty())?;
    let handler = connections::attach(events, mode, desk);
    let mut opener = Opener { events, limits, handler, datagrams: Datagrams { mode, desk }, groups: &groups };
    let mut served = handed.into_iter().map(|one| opener.take_in(one)).collect::<Result<Vec<_>, _>>()?;
    for group in &groups {
        opener.open_group(group, &mut served)?;
    }
    Ok(served)
}

/// The addresses of the command line; where there are none, the usual one if it is wanted then.
fn groups(listening: &Listening, wants_usual: bool) -> Result<Vec<Group>, Failure> {
    const BOTH: &[Protocol] = &[Protocol::Tcp, Protocol::Udp];
    let each = |addresses: &[Address], flag, protocols| -> Vec<_> {
        addresses.iter().map(|address| (address.clone(), flag, protocols)).collect()
    };
    let mut wanted = each(&listening.listen, "--listen", BOTH);
    wanted.extend(each(&listening.tcp, "--tcp", &BOTH[..1]));
    wanted.extend(each(&listening.udp, "--udp", &BOTH[1..]));
    if wanted.is_empty() && wants_usual {
        wanted.push((Address::standard(), "--listen", BOTH));
    }
    let resolve = |(address, flag, protocols): (Address, _, _)| match address.resolve() {
        Ok(found) if !found.is_empty() => Ok(Group { address, flag, protocols, found }),
        Ok(_) => Err(unknown(&address, "it has no address")),
        Err(error) => Err(unknown(&address, &plain_words(&error))),
    };
    wanted.into_iter().map(resolve).collect()
}

fn unknown(address: &Address, cause: &str) -> Failure {
    let sentence =
        format!("cannot serve on {address}: the name is unknown ({cause}); check its spelling, or give an IP address");
    Failure::new(Status::Unreachable, sentence)
}

/// What every socket needs.
struct Opener<'e, 'h> {
    events: &'e mut EventLoop<'h>,
    limits: &'e Limits,
    handler: HandlerId,
    datagrams: Datagrams<'h>,
    groups: &'e [Group],
}

/// Why an address was not opened.
enum Miss {
    /// This machine does not have it.
    Missing(SocketAddr, Failure),
    /// The port found for the first socket is taken for another.
    Clash,
    Failed(Failure),
}

/// The sockets of one group, with what takes them back.
type Opened = Vec<(Served, SourceId)>;

impl Opener<'_, '_> {
    /// Serves a socket that is open already.
    fn take_in(&mut self, handed: Handed) -> Result<Served, Failure> {
        let (protocol, added) = match handed {
            Handed::Tcp(socket) => (Protocol::Tcp, self.add_listener(self.listen(socket))),
            Handed::Udp(socket) => (Protocol::Udp, self.add_socket(self.bind(socket))),
        };
        let served = added.and_then(|id| Ok((protocol, self.events.local_addr(id).map_err(cause)?)));
        served.map_err(|error| {
            let words = plain_words(&error);
            let so = way_out(&words).unwrap_or("try again, and see what the system's log says");
            let sentence = format!("cannot serve {protocol} on a socket handed over: {words}; {so}");
            Failure::new(Status::Unreachable, sentence)
        })
    }

    fn open_group(&mut self, group: &Group, served: &mut Vec<Served>) -> Result<(), Failure> {
        for _ in 0..PORT_TRIES_MAX {
            let mut opened = Opened::new();
            let miss = match self.try_group(group, served, &mut opened) {
                Ok(()) => {
                    served.extend(opened.into_iter().map(|(one, _)| one));
                    return Ok(());
                }
                Err(miss) => miss,
            };
            if let Miss::Failed(failure) | Miss::Missing(_, failure) = miss {
                return Err(failure);
            }
            // They stay bound until the loop turns, so that the next try finds another port.
            for (_, id) in opened {
                self.events.context().remove(id);
            }
        }
        let Group { address, flag, .. } = group;
        let cause =
            format!("cannot serve on {address}: no port was free for all its sockets in {PORT_TRIES_MAX} tries");
        Err(Failure::new(Status::Unreachable, format!("{cause}; name one with {flag} HOST:PORT")))
    }

    /// Opens all sockets of one address of the command line, on one port.
    fn try_group(&mut self, group: &Group, served: &[Served], opened: &mut Opened) -> Result<(), Miss> {
        let mut missing = Vec::new();
        for &address in &group.found {
            match self.open_address(address, group, served, opened) {
                Err(Miss::Missing(at, failure)) => missing.push((at, failure)),
                other => other?,
            }
        }
        if missing.len() == group.found.len() {
            return Err(missing.pop().map_or(Miss::Clash, |(_, failure)| Miss::Failed(failure)));
        }
        for (at, _) in missing {
            log::info!("{} is left out: this machine does not have that address", at.ip());
        }
        Ok(())
    }

    fn open_address(
        &mut self,
        address: SocketAddr,
        group: &Group,
        served: &[Served],
        opened: &mut Opened,
    ) -> Result<(), Miss> {
        for &protocol in group.protocols {
            let port = opened.first().map_or(address.port(), |((_, first), _)| first.port());
            let at = with_port(address, port);
            if port != 0 && served.contains(&(protocol, at)) {
                continue;
            }
            match self.open_one(protocol, at, served) {
                Ok(one) => opened.push(one),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && address.port() != port => {
                    return Err(Miss::Clash);
                }
                Err(error) => {
                    let failure = refused(protocol, at, &error, group.flag, served);
                    let missing = is_missing(&error);
                    return Err(if missing { Miss::Missing(at, failure) } else { Miss::Failed(failure) });
                }
            }
        }
        Ok(())
    }

    fn open_one(&mut self, protocol: Protocol, at: SocketAddr, served: &[Served]) -> io::Result<(Served, SourceId)> {
        let only_v6 = self.leaves_ipv4(protocol, at, served);
        let id = match protocol {
            Protocol::Tcp => self.add_listener(self.listen(at).only_v6(only_v6)),
            Protocol::Udp => self.add_socket(self.bind(at).only_v6(only_v6)),
        }?;
        Ok(((protocol, self.events.local_addr(id).map_err(cause)?), id))
    }

    fn add_listener(&mut self, listen: Listen) -> io::Result<SourceId> {
        self.events.listen_for(listen, self.handler).map(SourceId::from).map_err(cause)
    }

    fn add_socket(&mut self, bind: Bind) -> io::Result<SourceId> {
        self.events.bind(bind, self.datagrams).map(SourceId::from).map_err(cause)
    }

    fn listen(&self, at: impl Into<Listen>) -> Listen {
        let Limits { max_connections, max_connections_per_source, idle_timeout, .. } = *self.limits;
        let mut listen = at.into();
        if let Some(connections) = max_connections {
            listen = listen.connections_max(connections);
        }
        if let Some(connections) = max_connections_per_source {
            listen = listen.connections_per_source_max(connections);
        }
        if let Some(after) = idle_timeout {
            listen = listen.idle_timeout(Some::<Duration>(after));
        }
        listen
    }

    fn bind(&self, at: impl Into<Bind>) -> Bind {
        let bind = at.into();
        match self.limits.udp_rate {
            None => bind.replies_per_source_per_second_max(UDP_RATE),
            Some(0) => bind,
            Some(rate) => bind.replies_per_source_per_second_max(rate).limit_loopback(true),
        }
    }

    /// Whether the IPv6 wildcard must leave IPv4 alone, since that is served or asked for by itself.
    fn leaves_ipv4(&self, protocol: Protocol, at: SocketAddr, served: &[Served]) -> bool {
        let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, at.port()));
        let asks = |group: &Group| {
            let mut wildcards = group.found.iter().filter(|found| found.is_ipv4() && found.ip().is_unspecified());
            group.protocols.contains(&protocol) && wildcards.any(|found| found.port() == at.port())
        };
        let is_taken = served.contains(&(protocol, everywhere)) || self.groups.iter().any(asks);
        at.is_ipv6() && at.ip().is_unspecified() && is_taken
    }
}

fn with_port(mut address: SocketAddr, port: u16) -> SocketAddr {
    address.set_port(port);
    address
}

/// The system's own error behind the library's.
fn cause(error: halloo::Error) -> io::Error {
    let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<io::Error>());
    match source.and_then(io::Error::raw_os_error) {
        Some(number) => io::Error::from_raw_os_error(number),
        None => io::Error::from(error),
    }
}

/// Whether the machine simply has no such address: it is none of its own, or its whole family is switched off.
fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable || is_family_missing(error)
}

#[cfg(target_os = "linux")]
fn is_family_missing(error: &io::Error) -> bool {
    error.raw_os_error() == Some(nix::errno::Errno::EAFNOSUPPORT as i32)
}

#[cfg(not(target_os = "linux"))]
fn is_family_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Unsupported
}

/// The one sentence about a socket that cannot be opened.
fn refused(protocol: Protocol, at: SocketAddr, error: &io::Error, flag: &str, served: &[Served]) -> Failure {
    let another = match at.ip() {
        ip if ip.is_loopback() => format!("{flag} localhost:PORT"),
        IpAddr::V4(ip) => format!("{flag} {ip}:PORT"),
        IpAddr::V6(ip) => format!("{flag} [{ip}]:PORT"),
    };
    let overlaps =
        |other: SocketAddr| other.port() == at.port() && (other.ip().is_unspecified() || at.ip().is_unspecified());
    let own = served.iter().find(|(other, address)| *other == protocol && overlaps(*address));
    let (cause, so) = match (error.kind(), own) {
        (io::ErrorKind::AddrInUse, Some((_, other))) => {
            (format!("it overlaps {other}, which was asked for as well"), "leave one of the two out".to_owned())
        }
        (io::ErrorKind::AddrInUse, None) => (
            "the port is taken by another program".to_owned(),
            format!("stop that program, or choose another port with {another}"),
        ),
        (io::ErrorKind::PermissionDenied, _) => (
            "this user may not open that port".to_owned(),
            format!("choose one from 1024 up with {another}, or allow it with CAP_NET_BIND_SERVICE"),
        ),
        _ if is_missing(error) => (
            "this machine does not have that address".to_owned(),
            format!("give one that it has, or all of them with {flag} 0.0.0.0:{}", at.port()),
        ),
        _ => {
            let words = plain_words(error);
            let known = way_out(&words).map(str::to_owned);
            (words, known.unwrap_or_else(|| format!("try another address or port with {another}")))
        }
    };
    Failure::new(Status::Unreachable, format!("cannot serve {protocol} on {at}: {cause}; {so}"))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use halloo::EventLoop;

    use super::{Served, open};
    use crate::desk::Desk;
    use crate::exit::{Failure, Status};
    use crate::options::{Limits, Listening, Mode};
    use crate::protocol::Protocol;

    fn opened(listen: &[&str], tcp: &[&str], udp: &[&str]) -> Result<Vec<Served>, Failure> {
        let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let listening = Listening { listen: addresses(listen), tcp: addresses(tcp), udp: addresses(udp) };
        let limits =
            Limits { max_connections: None, max_connections_per_source: None, idle_timeout: None, udp_rate: None };
        let desk = Desk::silent(Mode::Greet, None, None);
        let mut events = EventLoop::new().unwrap();
        open(&mut events, Vec::new(), &listening, &limits, Mode::Greet, &desk)
    }

    #[test]
    fn a_free_port_is_one_port_for_all_sockets_of_an_address() {
        for _ in 0..20 {
            let served = opened(&["localhost:0"], &[], &[]).unwrap();
            let (_, first) = served[0];
            assert!(first.port() != 0 && served.iter().all(|(_, at)| at.port() == first.port()), "{served:?}");
            let protocols: Vec<Protocol> = served.iter().map(|(protocol, _)| *protocol).collect();
            assert_eq!(protocols[..2], [Protocol::Tcp, Protocol::Udp]);
        }
    }

    #[test]
    fn sockets_come_in_the_order_given() {
        let served = opened(&["127.0.0.1:0"], &["127.0.0.3:0"], &["127.0.0.2:0"]).unwrap();
        let order: Vec<String> = served.iter().map(|(protocol, at)| format!("{protocol}={}", at.ip())).collect();
        assert_eq!(order, ["tcp=127.0.0.1", "udp=127.0.0.1", "tcp=127.0.0.3", "udp=127.0.0.2"]);
    }

    #[test]
    fn an_address_given_twice_is_served_once() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        assert_eq!(opened(&[], &[&address, &address], &[]).unwrap().len(), 1);
    }

    #[test]
    fn a_taken_port_is_told_with_protocol_address_and_way_out() {
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let failure = opened(&[], &[], &[&address]).unwrap_err();
        assert_eq!(failure.status, Status::Unreachable);
        for part in ["udp", &address, "taken", "--udp localhost:PORT"] {
            assert!(failure.sentence.contains(part), "{}", failure.sentence);
        }
    }

    #[test]
    fn an_address_of_another_machine_is_told() {
        let failure = opened(&[], &["192.0.2.1:9000"], &[]).unwrap_err();
        assert_eq!(failure.status, Status::Unreachable);
        assert!(failure.sentence.contains("does not have that address"), "{}", failure.sentence);
    }

    #[test]
    fn one_address_inside_another_is_told_apart_from_a_taken_port() {
        let port = TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
        let failure = opened(&[], &[&format!("0.0.0.0:{port}"), &format!("127.0.0.1:{port}")], &[]).unwrap_err();
        assert!(failure.sentence.contains("overlaps 0.0.0.0"), "{}", failure.sentence);
    }
}
