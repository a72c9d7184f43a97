//! Simulated clients with a plan, and what each is owed.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::testing::{Client, Simulation};

pub(super) const GREETING: &[u8] = b"Hello, TCP Client!";

/// What a client comes for; the number is the port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Trade {
    Greet = 1,
    Echo = 2,
    Lines = 3,
    Banner = 4,
    Grenade = 6,
    Proxy = 8,
}

impl Trade {
    pub(super) const ALL: [Self; 6] = [Self::Greet, Self::Echo, Self::Lines, Self::Banner, Self::Grenade, Self::Proxy];
}

enum Act {
    Send(Vec<u8>),
    Urgent,
    Finish,
    Reset,
    Read,
}

/// What a client may count on, if no error was injected into its own calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Due {
    /// All of its answer, and the end of stream.
    Everything,
    /// The same, unless a linger or a limit was cut short by a jump of the clock.
    EverythingInTime,
    /// No byte that is not its own.
    Order,
}

/// One client and its plan.
pub(super) struct Actor {
    pub(super) trade: Trade,
    client: Client,
    plan: VecDeque<Act>,
    due: Due,
    expected: Vec<u8>,
}

impl Actor {
    pub(super) fn new(simulation: &Simulation, client: Client, trade: Trade, number: u8) -> Self {
        let mut actor = Self { trade, client, plan: VecDeque::new(), due: Due::Everything, expected: Vec::new() };
        match trade {
            Trade::Greet => actor.plan_greeting(simulation),
            Trade::Echo | Trade::Proxy => actor.plan_echo(simulation, number),
            Trade::Lines => actor.plan_lines(simulation, number),
            Trade::Banner => actor.plan_banner(simulation),
            Trade::Grenade => actor.plan_danger(simulation),
        }
        if simulation.below(12) == 0 {
            actor.leave_early(simulation);
        }
        actor
    }

    fn send(&mut self, bytes: Vec<u8>) {
        self.plan.push_back(Act::Send(bytes));
    }

    fn plan_greeting(&mut self, simulation: &Simulation) {
        self.expected = GREETING.to_vec();
        match simulation.below(6) {
            // Several segments: the tail may meet a closed door, and then destroy what is still under way.
            0 => {
                for _ in 0..5 {
                    self.send(vec![b'b']);
                }
                self.due = Due::Order;
            }
            1 => {
                let length = 1_024 + simulation.below(59_000);
                self.send(vec![b'l'; usize::try_from(length).expect("a length")]);
                self.due = Due::EverythingInTime;
            }
            2 => self.plan.push_back(Act::Urgent),
            _ => {}
        }
        if self.plan.len() < 2 && self.due == Due::Everything && simulation.below(4) > 0 {
            self.send(b"Hello, TCP Server!".to_vec());
        } else if self.due == Due::Everything {
            self.plan.push_back(Act::Finish);
        }
        if simulation.below(4) == 0 {
            self.plan.push_back(Act::Finish);
        }
    }

    /// Is greeted without having asked, whatever it says meanwhile.
    fn plan_banner(&mut self, simulation: &Simulation) {
        self.expected = GREETING.to_vec();
        if simulation.below(4) == 0 {
            self.send(vec![b'f'; usize::try_from(simulation.below(300_000)).expect("a length")]);
            self.due = Due::EverythingInTime;
        }
    }

    /// Talks to a handler that panics: it is owed nothing, and leaves in the end.
    fn plan_danger(&mut self, simulation: &Simulation) {
        for _ in 0..=simulation.below(4) {
            self.expected.extend(b"boom");
            self.send(b"boom".to_vec());
        }
        self.plan.push_back(Act::Finish);
        self.due = Due::Order;
    }

    fn plan_echo(&mut self, simulation: &Simulation, number: u8) {
        let is_bulk = simulation.below(16) == 0;
        let (sends, scale) = if is_bulk { (1, 13) } else { (1 + simulation.below(6), 3 * simulation.below(4)) };
        if is_bulk {
            self.client.set_room(64 * 1024);
        }
        for _ in 0..sends {
            let length = usize::try_from(1 + simulation.below(10 << scale)).expect("a length");
            let first = self.expected.len();
            let bytes = pattern(number, first, length);
            self.expected.extend(&bytes);
            self.send(bytes);
            if simulation.below(8) == 0 {
                self.plan.push_back(Act::Urgent);
            }
            self.plan.push_back(Act::Read);
        }
        self.plan.push_back(Act::Finish);
        if !is_bulk && simulation.below(3) == 0 {
            self.client.set_window(usize::try_from(1 + simulation.below(2_000)).expect("a length"));
        }
    }

    fn plan_lines(&mut self, simulation: &Simulation, number: u8) {
        let mut text = Vec::new();
        for line in 0..simulation.below(300) {
            let word = format!("{number} says {line}");
            let end: &[u8] = if simulation.below(2) == 0 { b"\n" } else { b"\r\n" };
            text.extend([word.as_bytes(), end].concat());
            self.expected.extend([word.as_bytes(), b"!\n"].concat());
        }
        while !text.is_empty() {
            let length = usize::try_from(1 + simulation.below(2_000)).expect("a length").min(text.len());
            let rest = text.split_off(length);
            self.send(std::mem::replace(&mut text, rest));
        }
        self.plan.push_back(Act::Finish);
    }

    /// Resets somewhere within its plan.
    fn leave_early(&mut self, simulation: &Simulation) {
        let place = simulation.below(self.plan.len() as u64 + 1);
        self.plan.truncate(usize::try_from(place).expect("an index"));
        self.plan.push_back(Act::Reset);
        self.due = Due::Order;
    }

    /// Takes the next step of its plan; false if it has none left.
    pub(super) fn act(&mut self) -> bool {
        match self.plan.pop_front() {
            None => return false,
            Some(Act::Send(bytes)) => self.client.send(&bytes),
            Some(Act::Urgent) => self.client.send_urgent(),
            Some(Act::Finish) => self.client.finish(),
            Some(Act::Reset) => self.client.reset(),
            Some(Act::Read) => drop(self.client.read()),
        }
        true
    }

    pub(super) fn read(&mut self) {
        let _ = self.client.read();
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.client.address()
    }

    /// Whether nothing more is to come to it.
    pub(super) fn is_done(&self) -> bool {
        self.due == Due::Order || self.client.was_struck() || self.client.was_reset() || self.client.has_ended()
    }

    /// Checks what it got against what it was owed.
    pub(super) fn check(&self, is_lenient: bool) {
        let received = self.client.received();
        assert!(self.expected.starts_with(&received), "{self:?} got bytes that are not its own");
        let is_owed = match self.due {
            Due::Order => false,
            Due::Everything | Due::EverythingInTime => !is_lenient,
        };
        if is_owed && !self.client.was_struck() {
            let (got, wanted) = (received.len(), self.expected.len());
            assert!(self.client.has_ended() && got == wanted, "{got} of {wanted} bytes for {self:?}");
        }
    }
}

impl std::fmt::Debug for Actor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (ended, reset, struck) = (self.client.has_ended(), self.client.was_reset(), self.client.was_struck());
        write!(f, "{:?} {:?}, due {:?}, ended {ended} reset {reset} struck {struck}", self.trade, self.client, self.due)
    }
}

/// So many bytes of somebody's own, from a place on.
pub(super) fn pattern(number: u8, first: usize, length: usize) -> Vec<u8> {
    let period: [u8; 251] =
        std::array::from_fn(|at| number.wrapping_mul(37).wrapping_add(u8::try_from(at).expect("less than 251")));
    let mut bytes = period.repeat(length.div_ceil(period.len()) + 1);
    bytes.drain(..first % period.len());
    bytes.truncate(length);
    bytes
}
