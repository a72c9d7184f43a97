//! Kept connections at a SIGTERM, judged by the packets.
//!
//! What the kernel has acknowledged before the FIN is answered.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Instant;

use support::measurement::print_measurement;
use support::network::fin_capture::FinCapture;
use support::network::network_namespace::in_network_namespace;
use support::network::streams::GREETING;
use support::wait::{TIMEOUT, wait_until};

use crate::HALLOO;

const CLIENTS: usize = 200;
const RUNS: usize = 3;
/// A number of 31 digits, and a newline.
const LINE_BYTES: usize = 32;

/// A client that sends numbered lines without a pause, and reads all replies.
struct KeptClient {
    stream: TcpStream,
    /// Bytes that its kernel has accepted.
    sent: usize,
    received: Vec<u8>,
    has_ended: bool,
}

impl KeptClient {
    fn connect(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).expect("the server listens");
        stream.set_nonblocking(true).expect("an option of every socket");
        Self { stream, sent: 0, received: Vec::new(), has_ended: false }
    }

    /// Reads and writes what its kernel has and takes.
    fn step(&mut self) {
        let mut room = [0; 8_192];
        loop {
            match self.stream.read(&mut room) {
                Ok(0) => return self.has_ended = true,
                Ok(count) => self.received.extend_from_slice(&room[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => panic!("{} bytes received, and then: {error}", self.received.len()),
            }
        }
        // From the middle of a line if a write was short.
        let text = lines(self.sent / LINE_BYTES, 64);
        // A write to a peer that has gone fails. The read then shows how it went.
        self.sent += self.stream.write(&text.as_bytes()[self.sent % LINE_BYTES..]).unwrap_or(0);
    }

    fn port(&self) -> u16 {
        self.stream.local_addr().expect("the socket is bound").port()
    }
}

/// Returns numbered lines.
fn lines(first: usize, count: usize) -> String {
    (first..first + count).map(|number| format!("{number:031}\n")).collect::<Vec<_>>().concat()
}

/// Which server stops.
#[derive(Clone, Copy)]
struct Setting {
    mode: &'static str,
    drain_delay: &'static str,
    /// What each client sends first.
    header: &'static str,
}

const AT_ONCE: Setting = Setting { mode: "line", drain_delay: "0s", header: "" };
const DELAYED: Setting = Setting { drain_delay: "500ms", ..AT_ONCE };
const BEHIND_PROXY: Setting = Setting { header: "PROXY TCP4 192.0.2.7 198.51.100.1 4711 80\r\n", ..DELAYED };

/// What the clients of one run have lost.
#[derive(Default)]
struct Losses {
    answered: u64,
    /// Units that were acknowledged before the FIN, and not answered.
    lost: u64,
    clients: usize,
}

/// Stops a server in the middle of the lines of 200 clients. `units_of` converts sent bytes, and then received bytes, to
/// units: lines or bytes.
fn stop_under_load(setting: Setting, units_of: impl Fn(usize) -> u64, replies_of: impl Fn(&[u8]) -> u64) -> Losses {
    let Setting { mode, drain_delay, header } = setting;
    let mut capture = FinCapture::begin();
    let mut arguments = vec!["--tcp", "127.0.0.1:0", "--mode", mode, "--events", "off", "--drain-timeout", "30s"];
    arguments.extend(["--drain-delay", drain_delay]);
    if !header.is_empty() {
        arguments.extend(["--proxy-protocol", "127.0.0.1"]);
    }
    let mut server = HALLOO.start(&arguments);
    let to = server.tcp();
    let mut clients: Vec<KeptClient> = (0..CLIENTS).map(|_| KeptClient::connect(to)).collect();
    for client in &mut clients {
        client.stream.write_all(header.as_bytes()).expect("there is room");
    }
    thread::scope(|scope| {
        for part in clients.chunks_mut(CLIENTS / 4) {
            scope.spawn(|| {
                let deadline = Instant::now() + TIMEOUT;
                while part.iter().any(|client| !client.has_ended) {
                    assert!(Instant::now() < deadline, "the connections do not end");
                    part.iter_mut().filter(|client| !client.has_ended).for_each(KeptClient::step);
                }
            });
        }
        wait_until("the clients are served", || server.counters()["bytes_received"] > 4_000_000);
        server.signal("TERM");
    });
    assert_eq!(server.wait(), 0);
    let mut losses = Losses::default();
    for client in &clients {
        let acknowledged = capture.bytes_acknowledged(to.port(), client.port()).expect("the server has sent a FIN");
        let acknowledged = units_of((acknowledged as usize).saturating_sub(header.len()));
        let replies = replies_of(&client.received);
        assert!(replies <= acknowledged, "{replies} replies for {acknowledged} requests");
        losses.answered += replies;
        losses.lost += acknowledged - replies;
        losses.clients += usize::from(replies < acknowledged);
    }
    losses
}

/// Runs it several times, and fails if anything was lost.
fn assert_nothing_is_lost(
    setting: Setting,
    units_of: impl Fn(usize) -> u64 + Copy,
    replies_of: impl Fn(&[u8]) -> u64 + Copy,
) {
    let mut all = Losses::default();
    for _ in 0..RUNS {
        let Losses { answered, lost, clients } = stop_under_load(setting, units_of, replies_of);
        all = Losses { answered: all.answered + answered, lost: all.lost + lost, clients: all.clients + clients };
    }
    let Losses { answered, lost, clients } = all;
    let Setting { mode, drain_delay, header } = setting;
    print_measurement(&format!(
        "{mode}, --drain-delay {drain_delay}, header of {} bytes: {answered} answered, {lost} lost by {clients} of {} \
         clients",
        header.len(),
        RUNS * CLIENTS
    ));
    assert_eq!(lost, 0, "lost by {clients} clients");
}

#[test]
#[ignore = "needs a network namespace"]
fn every_line_that_was_acknowledged_before_the_fin_is_answered() {
    in_network_namespace(|| {
        let count_replies = |received: &[u8]| {
            let reply = format!("{GREETING}\n");
            let count = received.len() / reply.len();
            assert!(received == reply.repeat(count).as_bytes(), "a reply is cut");
            count as u64
        };
        for setting in [AT_ONCE, DELAYED, BEHIND_PROXY] {
            assert_nothing_is_lost(setting, |bytes| (bytes / LINE_BYTES) as u64, count_replies);
        }
    });
}

#[test]
#[ignore = "needs a network namespace"]
fn every_byte_that_was_acknowledged_before_the_fin_is_echoed() {
    in_network_namespace(|| {
        let count_bytes = |received: &[u8]| {
            let sent = lines(0, received.len().div_ceil(LINE_BYTES));
            assert!(sent.as_bytes().starts_with(received), "the echo differs from what was sent");
            received.len() as u64
        };
        for setting in [AT_ONCE, DELAYED, BEHIND_PROXY] {
            assert_nothing_is_lost(Setting { mode: "echo", ..setting }, |bytes| bytes as u64, count_bytes);
        }
    });
}
