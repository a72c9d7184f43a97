//! One loop with many UDP sockets: bare epoll, the library.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};

use halloo::{EventLoop, datagrams};
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recvfrom, sendto};

use super::{ADDRESS, Builtin, READ_BYTES, print_ready_line};
use crate::workload::UDP_RESPONSE;

const EVENTS_MAX: usize = 256;

/// The address of a socket. All have the port of the first, and each has its own address of the loopback network.
pub(crate) fn nth_address(first: SocketAddr, index: usize) -> SocketAddr {
    let ip = u32::from(Ipv4Addr::LOCALHOST) + u32::try_from(index).unwrap_or(0);
    SocketAddrV4::new(Ipv4Addr::from(ip), first.port()).into()
}

/// Serves until killed.
pub(crate) fn run(server: Builtin, sockets: usize) -> Result<(), Box<dyn Error>> {
    let first = UdpSocket::bind(ADDRESS)?.local_addr()?;
    let addresses = (0..sockets).map(|index| nth_address(first, index));
    match server {
        Builtin::Floor => serve_on_epoll(addresses, first),
        Builtin::Library => serve_on_halloo(addresses, first),
        Builtin::Plain | Builtin::Tokio | Builtin::Mio => {
            Err("only the floor and the library have many sockets".into())
        }
    }
}

fn serve_on_epoll(addresses: impl Iterator<Item = SocketAddr>, first: SocketAddr) -> Result<(), Box<dyn Error>> {
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    let mut sockets = Vec::new();
    for address in addresses {
        let socket = UdpSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        epoll::add(&poll, &socket, EventData::new_u64(sockets.len() as u64), EventFlags::IN | EventFlags::ET)?;
        sockets.push(socket);
    }
    print_ready_line(first)?;
    let mut events = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; EVENTS_MAX];
    let mut buffer = [0; READ_BYTES];
    loop {
        let count = match epoll::wait(&poll, &mut events, None) {
            Err(Errno::INTR) => continue,
            result => result?,
        };
        for event in &events[..count] {
            let socket = &sockets[usize::try_from(event.data.u64())?];
            while let Ok((_, _, Some(peer))) = recvfrom(socket, &mut buffer, RecvFlags::empty()) {
                let _ = sendto(socket, UDP_RESPONSE, SendFlags::empty(), &peer);
            }
        }
    }
}

fn serve_on_halloo(addresses: impl Iterator<Item = SocketAddr>, first: SocketAddr) -> Result<(), Box<dyn Error>> {
    let mut events = EventLoop::new()?;
    let greeter = events.attach_datagrams(datagrams(|datagram, _| {
        datagram.reply(UDP_RESPONSE);
    }));
    for address in addresses {
        events.bind_for(address, greeter)?;
    }
    print_ready_line(first)?;
    events.run()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_socket_has_its_own_address_and_the_port_of_the_first() {
        let first = SocketAddr::from(([127, 0, 0, 1], 7));
        assert_eq!(nth_address(first, 0), first);
        assert_eq!(nth_address(first, 300), SocketAddr::from(([127, 0, 1, 45], 7)));
    }
}
