//! The server of `tftp` on simulated networks.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use halloo::EventLoop;
use halloo::testing::{Fault, Simulation, check};
use support::byte_pattern::byte_pattern;

use super::folder_of_files;
use super::server::Server;

const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)), 69);

/// How long a client waits before it sends its last packet again.
const PATIENCE: Duration = Duration::from_millis(900);

/// Longer than any transfer: the server ends a transfer after 31.5 s without an ACK.
const TIME_MAX: Duration = Duration::from_secs(600);

/// A client that gets one file.
struct Client<'a> {
    simulation: &'a Simulation,
    at: SocketAddr,
    /// The address that the blocks come from.
    peer: Option<SocketAddr>,
    /// The last packet, and when it was sent.
    last: Vec<u8>,
    sent: Duration,
    contents: Vec<u8>,
    blocks: u16,
    is_done: bool,
}

impl<'a> Client<'a> {
    /// Returns a client that has requested the file with `size` bytes.
    fn ask(simulation: &'a Simulation, host: u8, size: usize) -> Self {
        let at = SocketAddr::from(([10, 0, 0, host], 4000));
        let last = format!("\0\x01{size}\0octet\0").into_bytes();
        let (sent, contents) = (Duration::ZERO, Vec::new());
        let mut client = Self { simulation, at, peer: None, last, sent, contents, blocks: 0, is_done: false };
        client.send();
        client
    }

    fn send(&mut self) {
        self.sent = self.simulation.elapsed();
        self.simulation.send_datagram(self.at, self.peer.unwrap_or(SERVER), &self.last);
    }

    /// Handles the received packets. Returns the number of blocks of its transfer.
    fn receive(&mut self) -> usize {
        let mut blocks = 0;
        while let Some((from, packet)) = self.simulation.receive_datagram(self.at) {
            let [0, 3, high, low, data @ ..] = &packet[..] else { panic!("not a block: {packet:?}") };
            if *self.peer.get_or_insert(from) != from {
                // A second transfer, from a duplicate of the request.
                self.simulation.send_datagram(self.at, from, b"\0\x05\0\x05unknown transfer ID\0");
                continue;
            }
            blocks += 1;
            if [*high, *low] == self.blocks.wrapping_add(1).to_be_bytes() && !self.is_done {
                self.blocks = self.blocks.wrapping_add(1);
                self.contents.extend(data);
                self.is_done = data.len() < 512;
            }
            // A duplicate gets an ACK too, because the first ACK may have been lost.
            self.last = vec![0, 4, *high, *low];
            self.send();
        }
        blocks
    }

    fn wait(&mut self) {
        if !self.is_done && self.simulation.elapsed() > self.sent + PATIENCE {
            self.send();
        }
    }
}

fn serve<'h>(simulation: &Simulation, folder: &Path) -> EventLoop<'h> {
    let mut events = simulation.event_loop();
    events.bind(SERVER, Server::new(folder).expect("the folder")).expect("the address is free");
    events
}

/// Turns the loop until every client is done. Returns the number of blocks received.
fn turn_until_done(events: &mut EventLoop<'_>, clients: &mut [Client<'_>]) -> usize {
    let simulation = clients[0].simulation;
    let mut blocks = 0;
    while clients.iter().any(|client| !client.is_done) {
        assert!(simulation.elapsed() < TIME_MAX, "a transfer does not end");
        let _ = events.turn(Some(Duration::from_millis(100))).expect("the poll works");
        for client in &mut *clients {
            blocks += client.receive();
            client.wait();
        }
    }
    blocks
}

#[test]
fn every_file_is_whole_though_datagrams_are_lost_duplicated_and_reordered() {
    const SIZES: [usize; 5] = [0, 511, 512, 513, 3000];
    let folder = folder_of_files(&SIZES);
    check(0..1_000, |simulation| {
        let mut events = serve(simulation, folder.path());
        simulation.inject(Fault::LostDatagram, 10);
        simulation.inject(Fault::DuplicateDatagram, 5);
        simulation.inject(Fault::ReorderedDatagram, 5);
        simulation.inject(Fault::LateReadiness, 10);
        let sizes = [(); 2].map(|()| SIZES[usize::try_from(simulation.random_below(5)).expect("a small number")]);
        let mut clients = [(2, sizes[0]), (3, sizes[1])].map(|(host, size)| Client::ask(simulation, host, size));
        turn_until_done(&mut events, &mut clients);
        for (client, size) in clients.iter().zip(sizes) {
            assert!(client.contents == byte_pattern(size), "{} bytes of {size}", client.contents.len());
        }
    });
}

#[test]
fn with_every_datagram_duplicated_each_block_is_sent_once_and_the_last_ack_ends_the_transfer() {
    let folder = folder_of_files(&[5000]);
    check(0..100, |simulation| {
        let mut events = serve(simulation, folder.path());
        let mut clients = [Client::ask(simulation, 2, 5000)];
        simulation.inject(Fault::DuplicateDatagram, 1);
        let copies = turn_until_done(&mut events, &mut clients);
        assert_eq!(copies, 2 * 10, "ten blocks");
        simulation.run_until_idle(&mut events).expect("the poll works");
        let port = clients[0].peer.expect("the client has received blocks");
        assert!(!simulation.send_datagram(clients[0].at, port, &clients[0].last), "the port is closed");
        assert_eq!(events.stats().timers, 0, "a timer has fired");
    });
}

#[test]
fn block_number_65535_is_followed_by_0() {
    const SIZE: usize = 65_537 * 512 + 7;
    let folder = folder_of_files(&[SIZE]);
    let simulation = Simulation::new(1);
    let (mut events, mut clients) = (serve(&simulation, folder.path()), [Client::ask(&simulation, 2, SIZE)]);
    turn_until_done(&mut events, &mut clients);
    assert_eq!(clients[0].blocks, 2);
    assert!(clients[0].contents == byte_pattern(SIZE));
}

#[test]
fn a_client_that_sends_no_ack_gets_six_copies_of_the_block_and_then_the_port_is_closed() {
    let folder = folder_of_files(&[513]);
    let simulation = Simulation::new(1);
    let mut events = serve(&simulation, folder.path());
    let client = Client::ask(&simulation, 2, 513);
    let mut copies = Vec::new();
    while simulation.elapsed() < Duration::from_secs(60) {
        let _ = events.turn(Some(Duration::from_millis(100))).expect("the poll works");
        while let Some((from, packet)) = simulation.receive_datagram(client.at) {
            copies.push((simulation.elapsed().as_secs(), from, packet));
        }
    }
    assert_eq!(copies.iter().map(|(seconds, ..)| *seconds).collect::<Vec<_>>(), [0, 0, 1, 3, 7, 15]);
    let (_, port, block) = &copies[0];
    assert!(copies.iter().all(|copy| (&copy.1, &copy.2) == (port, block)));
    assert!(!simulation.send_datagram(client.at, *port, b"\0\x04\0\x01"), "the port is closed");
}

#[test]
fn past_256_transfers_a_request_gets_no_answer() {
    let folder = folder_of_files(&[513]);
    let simulation = Simulation::new(1);
    let mut events = serve(&simulation, folder.path());
    let clients: Vec<_> = (4000..4257).map(|port| SocketAddr::from(([10, 0, 0, 2], port))).collect();
    for client in &clients {
        simulation.send_datagram(*client, SERVER, b"\0\x01513\0octet\0");
    }
    simulation.run_until_idle(&mut events).expect("the poll works");
    let unanswered: Vec<_> = clients.iter().filter(|client| simulation.receive_datagram(**client).is_none()).collect();
    assert_eq!(unanswered, [&clients[256]]);
}
