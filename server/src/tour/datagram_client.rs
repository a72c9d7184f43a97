//! UDP clients of a server under test, with deadlines.
//!
//! They are not connected, so they see where a reply comes from.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

#[cfg(target_os = "linux")]
use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};

use crate::tour::client::Target;

/// An ICMP error comes within a round trip.
const REFUSAL_TIME: Duration = Duration::from_millis(200);

impl Target {
    /// Opens a UDP socket that receives from every address.
    pub(crate) fn open_datagrams(&self) -> io::Result<Datagrams> {
        let server = self.udp.ok_or_else(|| io::Error::other("the server does not serve UDP"))?;
        let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
        Ok(Datagrams { socket: UdpSocket::bind(any)?, server, patience: self.patience })
    }

    /// Whether nothing serves UDP.
    pub(crate) fn refuses_datagrams(&self) -> bool {
        let reply = self.connected_reply(b"hello\n");
        reply.is_err_and(|error| !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut))
    }

    /// The reply at a connected socket, which gets the ICMP error if no socket has the port (udp(7)).
    pub(crate) fn connected_reply(&self, payload: &[u8]) -> io::Result<Vec<u8>> {
        let Datagrams { socket, server, .. } = self.open_datagrams()?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(REFUSAL_TIME))?;
        socket.send(payload)?;
        let mut buffer = vec![0; 65_536];
        let bytes = socket.recv(&mut buffer)?;
        buffer.truncate(bytes);
        Ok(buffer)
    }
}

/// A UDP client, which is not connected: it sees where a reply comes from.
#[derive(Debug)]
pub(crate) struct Datagrams {
    pub(crate) socket: UdpSocket,
    pub(crate) server: SocketAddr,
    patience: Duration,
}

impl Datagrams {
    /// Sends a datagram to the server.
    pub(crate) fn send(&self, payload: &[u8]) -> io::Result<()> {
        self.socket.send_to(payload, self.server).map(drop)
    }

    /// Sends the same datagram this often, so that all arrive at the same time.
    pub(crate) fn send_burst(&self, payload: &[u8], count: usize) -> io::Result<()> {
        if self.send_segmented(payload, count).is_err() {
            for _ in 0..count {
                self.send(payload)?;
            }
        }
        Ok(())
    }

    /// One call, whose message the kernel cuts (udp(7), `UDP_SEGMENT`): no server runs between two of its datagrams.
    #[cfg(target_os = "linux")]
    fn send_segmented(&self, payload: &[u8], count: usize) -> io::Result<()> {
        let length = i32::try_from(payload.len()).map_err(io::Error::other)?;
        setsockopt(&self.socket, UdpGsoSegment, &length)?;
        let result = self.send(&payload.repeat(count));
        setsockopt(&self.socket, UdpGsoSegment, &0)?;
        result
    }

    #[cfg(not(target_os = "linux"))]
    fn send_segmented(&self, _: &[u8], _: usize) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Sends a datagram, again after half a second, and receives the first reply; `None` after the patience.
    ///
    /// A server that limits its replies may not reply to the first.
    pub(crate) fn ask(&self, payload: &[u8]) -> io::Result<Option<(Vec<u8>, SocketAddr)>> {
        let started = Instant::now();
        while started.elapsed() < self.patience {
            self.send(payload)?;
            let reply = self.receive_for(Duration::from_millis(500))?;
            if reply.is_some() {
                return Ok(reply);
            }
        }
        Ok(None)
    }

    /// Receives a datagram and its source; `None` after a silence.
    pub(crate) fn receive(&self) -> io::Result<Option<(Vec<u8>, SocketAddr)>> {
        self.receive_for(self.patience)
    }

    /// Receives a datagram and its source; `None` after this long a silence.
    pub(crate) fn receive_for(&self, silence: Duration) -> io::Result<Option<(Vec<u8>, SocketAddr)>> {
        self.socket.set_read_timeout(Some(silence))?;
        let mut buffer = vec![0; 65_536];
        loop {
            match self.socket.recv_from(&mut buffer) {
                Ok((bytes, source)) => return Ok(Some((buffer[..bytes].to_vec(), source))),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => return Ok(None),
                    // An ICMP error for an earlier datagram.
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionRefused => {}
                    _ => return Err(error),
                },
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::Ipv4Addr;
    use std::thread;

    use super::*;
    use crate::cli::flags::tour_options::TourMode;

    /// A UDP server that sends the datagrams that `reply` returns, until the test program ends.
    pub(crate) fn start_udp_server<F>(mode: TourMode, mut reply: F) -> Target
    where
        F: FnMut(&[u8], SocketAddr) -> Option<(Vec<u8>, SocketAddr)> + Send + 'static,
    {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        let udp = socket.local_addr().ok();
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((bytes, source)) = socket.recv_from(&mut buffer) {
                if let Some((payload, to)) = reply(&buffer[..bytes], source) {
                    let _ = socket.send_to(&payload, to);
                }
            }
        });
        Target { tcp: None, udp, mode, slow_request: Vec::new(), patience: Duration::from_secs(2) }
    }

    /// A target without a UDP server.
    pub(crate) fn target_without_udp() -> Target {
        let mut target = start_udp_server(TourMode::Echo, |_, _| None);
        let closed = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr());
        target.udp = closed.ok();
        target
    }

    #[test]
    fn a_closed_udp_port_refuses_datagrams() {
        assert!(target_without_udp().refuses_datagrams());
        assert!(Target { udp: None, ..target_without_udp() }.refuses_datagrams());
        assert!(!start_udp_server(TourMode::Echo, |_, _| None).refuses_datagrams());
    }

    #[test]
    fn a_question_is_asked_again() {
        let mut asked = 0;
        let target = start_udp_server(TourMode::Echo, move |payload, source| {
            asked += 1;
            (asked == 2).then(|| (payload.to_vec(), source))
        });
        let reply = target.open_datagrams().and_then(|datagrams| datagrams.ask(b"hello")).expect("no error");
        assert_eq!(reply.map(|(payload, _)| payload).as_deref(), Some(&b"hello"[..]));
    }

    #[test]
    fn a_burst_has_all_its_datagrams() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        let target = Target { udp: socket.local_addr().ok(), ..target_without_udp() };
        let datagrams = target.open_datagrams().expect("a client");
        datagrams.send_burst(b"burst\n", 24).expect("sent");
        datagrams.send(b"one that is longer").expect("sent");
        let mut buffer = [0; 100];
        socket.set_read_timeout(Some(target.patience)).expect("a timeout");
        for expected in std::iter::repeat_n(&b"burst\n"[..], 24).chain([&b"one that is longer"[..]]) {
            let bytes = socket.recv(&mut buffer).expect("a datagram");
            assert_eq!(&buffer[..bytes], expected);
        }
    }
}
