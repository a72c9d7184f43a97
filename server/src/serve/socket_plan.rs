//! From the sockets handed over and the addresses of the command line to what is served.
//!
//! Between these and the loops, once, at the start. It promises that what was handed over comes first, as it is, then the
//! addresses in the order given, IPv4 before IPv6 and TCP before UDP, then the paths; one port for all sockets of an address
//! that leaves the port open; that an address of a name which this machine does not have is passed over, unless none is
//! left; and that a failure is one sentence with protocol, address, cause and way out. It never shares a port that is
//! taken: where several workers are to share one, it was free before the first of them had it.

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use halloo::{EventLoop, Listen, SourceId};

use crate::cli::flags::{Limits, Listening, ServeOptions};
use crate::exit::{Failure, Status, plain_words};
use crate::greeting::greeter::Desk;
use crate::process::descriptors;
use crate::process::inherited_socket::Handed;
use crate::serve::bind_error;
use crate::serve::socket::{Door, Room};
use crate::text::address::Address;
use crate::text::bound_address::Site;
use crate::text::protocol::Protocol;

/// How often a free port is looked for that is free for every socket of an address.
const PORT_TRIES_MAX: usize = 16;

/// A socket that is served.
pub(crate) type Served = (Protocol, Site);

/// What the first worker has opened, for all to know.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) served: Vec<Served>,
    /// The same once more, for another worker to open.
    doors: Vec<Door>,
    /// For all workers together.
    connections_max: Option<usize>,
}

/// One address of the command line and what it stands for.
struct Group {
    address: Address,
    flag: &'static str,
    protocols: &'static [Protocol],
    found: Vec<SocketAddr>,
}

/// Takes in every socket handed over, and opens those the command line asks for, on the first worker's loop.
pub(crate) fn open<'h>(
    events: &mut EventLoop<'h>,
    handed: Vec<Handed>,
    options: &ServeOptions,
    desk: &'h RefCell<Desk>,
) -> Result<Plan, Failure> {
    let ServeOptions { workers, listening, replies, limits, .. } = options;
    let groups = groups(listening, handed.is_empty() && listening.unix.is_empty())?;
    let paths = &listening.unix;
    let sockets = handed.len()
        + paths.len()
        + groups.iter().map(|group| group.found.len() * group.protocols.len()).sum::<usize>();
    let connections_max = limits.max_connections.or_else(|| descriptors::connections_max(*workers, sockets));
    let room = Room::new(events, replies.mode, desk, connections_max, (1, *workers));
    let plan = Plan { served: Vec::new(), doors: Vec::new(), connections_max };
    let mut opener = Opener { events, limits, room, is_shared: *workers > 1, groups: &groups, plan };
    for one in handed {
        opener.take_in(one)?;
    }
    for group in &groups {
        opener.open_group(group)?;
    }
    for path in paths {
        opener.open_path(path)?;
    }
    Ok(opener.plan)
}

/// Opens the same on the loop of another worker.
pub(crate) fn join<'h>(
    events: &mut EventLoop<'h>,
    plan: Plan,
    options: &ServeOptions,
    desk: &'h RefCell<Desk>,
    number: usize,
) -> Result<(), Failure> {
    let room = Room::new(events, options.replies.mode, desk, plan.connections_max, (number, options.workers));
    for (door, (protocol, site)) in plan.doors.into_iter().zip(plan.served) {
        room.open(events, door).map_err(|error| bind_error::of_worker(protocol, &site, number, &error))?;
    }
    Ok(())
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
        Ok(_) => Err(bind_error::of_name(&address, "it has no address")),
        Err(error) => Err(bind_error::of_name(&address, &plain_words(&error))),
    };
    wanted.into_iter().map(resolve).collect()
}

/// What every socket needs, and what has come of those before it.
struct Opener<'e, 'h> {
    events: &'e mut EventLoop<'h>,
    limits: &'e Limits,
    room: Room<'h>,
    /// Whether other workers open them after this one.
    is_shared: bool,
    groups: &'e [Group],
    plan: Plan,
}

/// Why an address was not opened.
enum Miss {
    /// This machine does not have it.
    Missing(SocketAddr, Failure),
    /// The port found for the first socket is taken for another.
    Clash,
    Failed(Failure),
}

/// The sockets of one group, with what opens them again and what takes them back.
type Opened = Vec<(Served, Door, SourceId)>;

impl Opener<'_, '_> {
    /// Serves a socket that is open already.
    fn take_in(&mut self, handed: Handed) -> Result<(), Failure> {
        let door = match handed {
            Handed::Tcp(socket) => Door::tcp(socket, self.limits),
            Handed::Udp(socket) => Door::udp(socket, self.limits),
            Handed::Unix(socket, site) => Door::unix(socket, site, self.limits),
        };
        let protocol = door.protocol();
        let opened = self.room.open(self.events, door.clone());
        let (_, site) = opened.map_err(|error| bind_error::of_handed(protocol, &error))?;
        self.note((protocol, site), door);
        Ok(())
    }

    /// Opens a unix socket, whose path is from then on a whole one, whoever reads of it and wherever.
    fn open_path(&mut self, path: &Path) -> Result<(), Failure> {
        let path = &std::path::absolute(path).map_err(|error| bind_error::of_path(path, &error))?;
        let served = (Protocol::Unix, Site::path(path));
        if self.plan.served.contains(&served) {
            return Ok(());
        }
        let door = Door::unix(Listen::unix(path), served.1.clone(), self.limits);
        self.room.open(self.events, door.clone()).map_err(|error| bind_error::of_path(path, &error))?;
        self.note(served, door);
        Ok(())
    }

    fn note(&mut self, served: Served, door: Door) {
        self.plan.served.push(served);
        self.plan.doors.push(door);
    }

    fn open_group(&mut self, group: &Group) -> Result<(), Failure> {
        for _ in 0..PORT_TRIES_MAX {
            let mut opened = Opened::new();
            let miss = match self.try_group(group, &mut opened) {
                Ok(()) => {
                    for (served, door, _) in opened {
                        self.note(served, door);
                    }
                    return Ok(());
                }
                Err(miss) => miss,
            };
            if let Miss::Failed(failure) | Miss::Missing(_, failure) = miss {
                return Err(failure);
            }
            // They stay bound until the loop turns, so that the next try finds another port.
            for (_, _, id) in opened {
                self.events.context().remove(id);
            }
        }
        let Group { address, flag, .. } = group;
        let cause =
            format!("cannot serve on {address}: no port was free for all its sockets in {PORT_TRIES_MAX} tries");
        Err(Failure::new(Status::Unreachable, format!("{cause}; name one with {flag} HOST:PORT")))
    }

    /// Opens all sockets of one address of the command line, on one port.
    fn try_group(&mut self, group: &Group, opened: &mut Opened) -> Result<(), Miss> {
        let mut missing = Vec::new();
        for &address in &group.found {
            match self.open_address(address, group, opened) {
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

    fn open_address(&mut self, address: SocketAddr, group: &Group, opened: &mut Opened) -> Result<(), Miss> {
        for &protocol in group.protocols {
            let first = opened.first().and_then(|((_, first), ..)| first.address());
            let port = first.unwrap_or(address).port();
            let at = with_port(address, port);
            if port != 0 && self.plan.served.contains(&(protocol, at.into())) {
                continue;
            }
            match self.open_one(protocol, at) {
                Ok(one) => opened.push(one),
                // Also the first, whose port was proved free and then taken by somebody else.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && address.port() == 0 => {
                    return Err(Miss::Clash);
                }
                Err(error) => {
                    let failure = bind_error::of_address(protocol, at, &error, group.flag, &self.plan.served);
                    let missing = bind_error::is_missing(&error);
                    return Err(if missing { Miss::Missing(at, failure) } else { Miss::Failed(failure) });
                }
            }
        }
        Ok(())
    }

    fn open_one(&mut self, protocol: Protocol, at: SocketAddr) -> io::Result<(Served, Door, SourceId)> {
        let only_v6 = self.leaves_ipv4(protocol, at);
        let mut door = Door::at(protocol, at, only_v6, self.limits);
        if self.is_shared {
            let at = door.prove_free()?;
            door = Door::at(protocol, at, only_v6, self.limits).shared();
        }
        let (id, site) = self.room.open(self.events, door.clone())?;
        Ok(((protocol, site), door, id))
    }

    /// Whether the IPv6 wildcard must leave IPv4 alone, since that is served or asked for by itself.
    fn leaves_ipv4(&self, protocol: Protocol, at: SocketAddr) -> bool {
        let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, at.port()));
        let asks = |group: &Group| {
            let mut wildcards = group.found.iter().filter(|found| found.is_ipv4() && found.ip().is_unspecified());
            group.protocols.contains(&protocol) && wildcards.any(|found| found.port() == at.port())
        };
        let is_taken = self.plan.served.contains(&(protocol, everywhere.into())) || self.groups.iter().any(asks);
        at.is_ipv6() && at.ip().is_unspecified() && is_taken
    }
}

fn with_port(mut address: SocketAddr, port: u16) -> SocketAddr {
    address.set_port(port);
    address
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, UdpSocket};

    use clap::Parser;
    use halloo::EventLoop;

    use super::{join, open};
    use crate::cli::flags::{CommandLine, Mode};
    use crate::exit::{Failure, Status};
    use crate::greeting::greeter::Desk;
    use crate::text::protocol::Protocol;

    type Address = (Protocol, SocketAddr);

    /// What the first of so many workers serves; the others are served the same.
    fn opened_by(workers: usize, listen: &[&str], tcp: &[&str], udp: &[&str]) -> Result<Vec<Address>, Failure> {
        let flags = [("--listen", listen), ("--tcp", tcp), ("--udp", udp)].into_iter();
        let addresses = flags.flat_map(|(flag, texts)| texts.iter().map(move |text| format!("{flag}={text}")));
        let words = ["halloo".to_owned(), format!("--workers={workers}")].into_iter().chain(addresses);
        let options = CommandLine::parse_from(words).serve;
        let desk = Desk::silent(Mode::Greet, None, None);
        let mut loops: Vec<EventLoop<'_>> = (0..workers).map(|_| EventLoop::new().unwrap()).collect();
        let (first, others) = loops.split_first_mut().unwrap();
        let plan = open(first, Vec::new(), &options, &desk)?;
        for (index, events) in others.iter_mut().enumerate() {
            join(events, plan.clone(), &options, &desk, index + 2)?;
        }
        Ok(plan.served.into_iter().filter_map(|(protocol, site)| Some((protocol, site.address()?))).collect())
    }

    fn opened(listen: &[&str], tcp: &[&str], udp: &[&str]) -> Result<Vec<Address>, Failure> {
        let of_one = opened_by(1, listen, tcp, udp);
        let of_many = opened_by(3, listen, tcp, udp);
        let ips = |served: &Vec<Address>| served.iter().map(|(protocol, at)| (*protocol, at.ip())).collect::<Vec<_>>();
        assert_eq!(of_one.as_ref().map(ips), of_many.as_ref().map(ips), "as with one worker, so with many");
        of_one.and(of_many)
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
