//! Simulated clients with a plan, and what each must receive.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use super::{HOST, RESERVE_MAX};

use crate::options::listen::Listen;
use crate::testing::{Client, Simulation};

pub(super) const GREETING: &[u8] = b"Hello, TCP Client!";

/// The service that a client connects to. The number is the port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Service {
    Greet = 1,
    Echo = 2,
    Lines = 3,
    Banner = 4,
    Panic = 6,
    Proxy = 8,
}

impl Service {
    pub(super) const ALL: [Self; 6] = [Self::Greet, Self::Echo, Self::Lines, Self::Banner, Self::Panic, Self::Proxy];

    /// The options of its listener.
    pub(super) fn listen(self, simulation: &Simulation, has_timeouts: bool) -> Listen {
        let mut at = Listen::from(SocketAddr::new(HOST, self as u16));
        at = if has_timeouts {
            at.idle_timeout(Some(Duration::from_millis(1 + simulation.random_below(10_000))))
        } else {
            at.idle_timeout(None).write_timeout(None)
        };
        if simulation.random_below(3) == 0 {
            at = at.connections_max(1 + usize::try_from(simulation.random_below(3)).expect("a count"));
        }
        // A greeting fits any outbox, so that a greeter can rely on it.
        let random_limit = |min: u64| usize::try_from(min + simulation.random_below(100)).expect("a length");
        if simulation.random_below(2) == 0 {
            at = at.outbox_bytes_max(random_limit(GREETING.len() as u64)).input_bytes_max(random_limit(1));
        }
        let reserve = simulation.random_below(u64::from(RESERVE_MAX) + 1);
        at = at.descriptor_reserve(u32::try_from(reserve).expect("a few"));
        if self == Self::Panic && simulation.random_below(2) == 0 {
            let connections_max = u32::try_from(1 + simulation.random_below(3)).expect("a few");
            at = at.connections_per_source_max(connections_max);
            at = at.peer_addr_from_handler(simulation.random_below(2) == 0);
        }
        if self == Self::Lines { at.input_bytes_max(4096).outbox_bytes_max(1024) } else { at }
    }
}

enum ClientStep {
    Send(Vec<u8>),
    Urgent,
    ShutdownWrite,
    Reset,
    Read,
}

/// What a client must receive if no error was injected into its own connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Expectation {
    /// All of its answer, and EOF.
    Everything,
    /// The same, unless the clock jumped past a linger or a limit.
    EverythingInTime,
    /// No bytes of another client.
    Order,
}

/// One client and its plan.
pub(super) struct PlannedClient {
    pub(super) service: Service,
    client: Client,
    plan: VecDeque<ClientStep>,
    expectation: Expectation,
    expected: Vec<u8>,
}

impl PlannedClient {
    pub(super) fn new(simulation: &Simulation, client: Client, service: Service, number: u8) -> Self {
        let mut client =
            Self { service, client, plan: VecDeque::new(), expectation: Expectation::Everything, expected: Vec::new() };
        match service {
            Service::Greet => client.plan_greeting(simulation),
            Service::Echo | Service::Proxy => client.plan_echo(simulation, number),
            Service::Lines => client.plan_lines(simulation, number),
            Service::Banner => client.plan_banner(simulation),
            Service::Panic => client.plan_panics(simulation),
        }
        if simulation.random_below(12) == 0 {
            client.reset_early(simulation);
        }
        client
    }

    fn send(&mut self, bytes: Vec<u8>) {
        self.plan.push_back(ClientStep::Send(bytes));
    }

    fn plan_greeting(&mut self, simulation: &Simulation) {
        self.expected = GREETING.to_vec();
        match simulation.random_below(6) {
            // Several segments: the last may arrive after the close, and its RST may destroy the answer in flight.
            0 => {
                for _ in 0..5 {
                    self.send(vec![b'b']);
                }
                self.expectation = Expectation::Order;
            }
            1 => {
                let length = 1_024 + simulation.random_below(59_000);
                self.send(vec![b'l'; usize::try_from(length).expect("a length")]);
                self.expectation = Expectation::EverythingInTime;
            }
            2 => self.plan.push_back(ClientStep::Urgent),
            _ => {}
        }
        if self.plan.len() < 2 && self.expectation == Expectation::Everything && simulation.random_below(4) > 0 {
            self.send(b"Hello, TCP Server!".to_vec());
        } else if self.expectation == Expectation::Everything {
            self.plan.push_back(ClientStep::ShutdownWrite);
        }
        if simulation.random_below(4) == 0 {
            self.plan.push_back(ClientStep::ShutdownWrite);
        }
    }

    /// Is greeted without a request, whatever it sends.
    fn plan_banner(&mut self, simulation: &Simulation) {
        self.expected = GREETING.to_vec();
        if simulation.random_below(4) == 0 {
            self.send(vec![b'f'; usize::try_from(simulation.random_below(300_000)).expect("a length")]);
            self.expectation = Expectation::EverythingInTime;
        }
    }

    /// Talks to a handler that panics: it must receive nothing, and closes in the end.
    fn plan_panics(&mut self, simulation: &Simulation) {
        for _ in 0..=simulation.random_below(4) {
            self.expected.extend(b"boom");
            self.send(b"boom".to_vec());
        }
        self.plan.push_back(ClientStep::ShutdownWrite);
        self.expectation = Expectation::Order;
    }

    fn plan_echo(&mut self, simulation: &Simulation, number: u8) {
        let is_bulk = simulation.random_below(16) == 0;
        let (sends, scale) =
            if is_bulk { (1, 13) } else { (1 + simulation.random_below(6), 3 * simulation.random_below(4)) };
        if is_bulk {
            self.client.set_send_buffer_bytes_max(64 * 1024);
        }
        for _ in 0..sends {
            let length = usize::try_from(1 + simulation.random_below(10 << scale)).expect("a length");
            let first = self.expected.len();
            let bytes = pattern(number, first, length);
            self.expected.extend(&bytes);
            self.send(bytes);
            if simulation.random_below(8) == 0 {
                self.plan.push_back(ClientStep::Urgent);
            }
            self.plan.push_back(ClientStep::Read);
        }
        self.plan.push_back(ClientStep::ShutdownWrite);
        if !is_bulk && simulation.random_below(3) == 0 {
            self.client.set_window(usize::try_from(1 + simulation.random_below(2_000)).expect("a length"));
        }
    }

    fn plan_lines(&mut self, simulation: &Simulation, number: u8) {
        let mut text = Vec::new();
        for line in 0..simulation.random_below(300) {
            let message = format!("{number} says {line}");
            let end: &[u8] = if simulation.random_below(2) == 0 { b"\n" } else { b"\r\n" };
            text.extend([message.as_bytes(), end].concat());
            self.expected.extend([message.as_bytes(), b"!\n"].concat());
        }
        while !text.is_empty() {
            let length = usize::try_from(1 + simulation.random_below(2_000)).expect("a length").min(text.len());
            let rest = text.split_off(length);
            self.send(std::mem::replace(&mut text, rest));
        }
        self.plan.push_back(ClientStep::ShutdownWrite);
    }

    /// Resets at a random step of its plan.
    fn reset_early(&mut self, simulation: &Simulation) {
        let step = simulation.random_below(self.plan.len() as u64 + 1);
        self.plan.truncate(usize::try_from(step).expect("an index"));
        self.plan.push_back(ClientStep::Reset);
        self.expectation = Expectation::Order;
    }

    /// Takes the next step of the plan. Returns false if there is none.
    pub(super) fn step(&mut self) -> bool {
        match self.plan.pop_front() {
            None => return false,
            Some(ClientStep::Send(bytes)) => self.client.send(&bytes),
            Some(ClientStep::Urgent) => self.client.send_urgent(),
            Some(ClientStep::ShutdownWrite) => self.client.shutdown_write(),
            Some(ClientStep::Reset) => self.client.reset(),
            Some(ClientStep::Read) => drop(self.client.read()),
        }
        true
    }

    pub(super) fn read(&mut self) {
        let _ = self.client.read();
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.client.address()
    }

    /// Whether the client needs to receive nothing more.
    pub(super) fn is_finished(&self) -> bool {
        self.expectation == Expectation::Order
            || self.client.was_hit_by_fault()
            || self.client.saw_reset()
            || self.client.saw_eof()
    }

    /// Checks that an echo that has ended without a reset has returned every byte that arrived before the FIN.
    pub(super) fn check_ended_echo(&self) {
        let is_faulted = self.client.was_hit_by_fault() || self.client.saw_reset();
        let has_ended = self.service == Service::Echo && self.client.saw_eof() && !is_faulted;
        if let Some(arrived) = self.client.bytes_before_fin().filter(|_| has_ended) {
            let returned = self.client.received().len();
            assert_eq!(returned, arrived, "input that arrived before the FIN was lost: {self:?}");
        }
    }

    /// Checks that the client received what it must.
    pub(super) fn check(&self, is_lenient: bool) {
        let received = self.client.received();
        assert!(self.expected.starts_with(&received), "{self:?} received bytes of another client");
        let must_be_complete = match self.expectation {
            Expectation::Order => false,
            Expectation::Everything | Expectation::EverythingInTime => !is_lenient,
        };
        if must_be_complete && !self.client.was_hit_by_fault() {
            let (received_bytes, expected_bytes) = (received.len(), self.expected.len());
            assert!(
                self.client.saw_eof() && received_bytes == expected_bytes,
                "{received_bytes} of {expected_bytes} bytes for {self:?}"
            );
        }
    }
}

impl std::fmt::Debug for PlannedClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (ended, reset, faulted) = (self.client.saw_eof(), self.client.saw_reset(), self.client.was_hit_by_fault());
        write!(
            f,
            "{:?} {:?}, due {:?}, ended {ended} reset {reset} faulted {faulted}",
            self.service, self.client, self.expectation
        )
    }
}

/// Returns `length` bytes of the pattern of client `number`, from offset `first` on.
pub(super) fn pattern(number: u8, first: usize, length: usize) -> Vec<u8> {
    let period: [u8; 251] =
        std::array::from_fn(|at| number.wrapping_mul(37).wrapping_add(u8::try_from(at).expect("less than 251")));
    let mut bytes = period.repeat(length.div_ceil(period.len()) + 1);
    bytes.drain(..first % period.len());
    bytes.truncate(length);
    bytes
}
