//! The trace of a simulation: the loop's calls and its peers' actions.
//!
//! Lines are stored as values, and written as text only when a test needs them.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use nix::errno::Errno;

use crate::net::Event;
use crate::net::simulated::sim_socket::{SimSocket, SimSocketKind};

/// The number of lines kept by default: enough to see how a run ended.
const LINES_MAX: usize = 200;

/// The last lines, or all.
pub(crate) struct Trace {
    lines: VecDeque<Line>,
    lines_max: usize,
    left_out: u64,
}

struct Line {
    at: Duration,
    step: Step,
}

/// One step of a run.
pub(crate) enum Step {
    /// The loop polled: the outcome, and how many polls in a row had it.
    Poll { outcome: i64, times: u32 },
    /// The loop made a call on a socket; a negative outcome is an error number, as in the kernel.
    Call { call: &'static str, socket: usize, outcome: i64 },
    /// The poll reported a socket.
    Event { socket: usize, event: Event },
    /// The peer of a stream sent, received or saw something.
    Peer { socket: usize, action: &'static str, bytes: Option<usize> },
    /// A UDP peer sent or received a datagram.
    UdpPeer { peer: SocketAddr, action: &'static str, bytes: usize, other: SocketAddr },
}

impl Default for Trace {
    fn default() -> Self {
        Self { lines: VecDeque::new(), lines_max: LINES_MAX, left_out: 0 }
    }
}

impl Trace {
    /// Drops the lines so far, and keeps all later ones.
    pub(crate) fn keep_all(&mut self) {
        *self = Self { lines_max: usize::MAX, ..Self::default() };
    }

    pub(crate) fn push(&mut self, at: Duration, step: Step) {
        if let (Some(Line { at: last, step: Step::Poll { outcome, times } }), Step::Poll { outcome: next, .. }) =
            (self.lines.back_mut(), &step)
            && outcome == next
        {
            (*last, *times) = (at, *times + 1);
            return;
        }
        if self.lines.len() == self.lines_max {
            self.lines.pop_front();
            self.left_out += 1;
        }
        self.lines.push_back(Line { at, step });
    }

    /// Returns the lines as text.
    pub(crate) fn write_out(&self, sockets: &[SimSocket]) -> String {
        let left_out = (self.left_out > 0).then(|| format!("{} earlier lines are left out", self.left_out));
        let lines = self.lines.iter().map(|line| format!("{:>12.3?} {}", line.at, line.step.text(sockets)));
        left_out.into_iter().chain(lines).collect::<Vec<_>>().join("\n")
    }

    /// Returns the last call that was not a poll.
    pub(crate) fn last_call(&self, sockets: &[SimSocket]) -> Option<String> {
        let is_call = |line: &&Line| matches!(line.step, Step::Call { .. });
        self.lines.iter().rev().find(is_call).map(|line| line.step.text(sockets))
    }
}

impl Step {
    fn text(&self, sockets: &[SimSocket]) -> String {
        match self {
            Self::Poll { outcome, times: 1 } => format!("loop poll -> {}", Outcome(*outcome)),
            Self::Poll { outcome, times } => format!("loop poll -> {}, {times} times", Outcome(*outcome)),
            Self::Call { call: "accept", socket, outcome: accepted @ 0.. } => {
                let accepted = usize::try_from(*accepted).unwrap_or(0);
                format!("loop accept {} -> {}", name(sockets, *socket), name(sockets, accepted))
            }
            Self::Call { call, socket, outcome } => {
                format!("loop {call} {} -> {}", name(sockets, *socket), Outcome(*outcome))
            }
            Self::Event { socket, event } => {
                let flags = [
                    (event.readable, " readable"),
                    (event.writable, " writable"),
                    (event.read_to_end, " read-to-end"),
                    (event.error, " error"),
                    (event.hang_up, " hang-up"),
                ];
                let flags: String = flags.into_iter().filter_map(|(is_set, flag)| is_set.then_some(flag)).collect();
                format!("loop event {}:{flags}", name(sockets, *socket))
            }
            Self::Peer { socket, action, bytes: Some(bytes) } => {
                format!("peer {} {action} {bytes} bytes", name(sockets, *socket))
            }
            Self::Peer { socket, action, bytes: None } => format!("peer {} {action}", name(sockets, *socket)),
            Self::UdpPeer { peer, action, bytes, other } => format!("peer {peer} {action} {bytes} bytes, with {other}"),
        }
    }
}

/// The return value of a call.
struct Outcome(i64);

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match i32::try_from(-self.0) {
            Ok(errno @ 1..) => write!(f, "{:?}", Errno::from_raw(errno)),
            _ => write!(f, "{}", self.0),
        }
    }
}

/// The name of a socket in a trace: for a stream, the address of its peer, then the loop's.
pub(crate) fn name(sockets: &[SimSocket], number: usize) -> String {
    let Some(SimSocket { local, kind, .. }) = sockets.get(number) else { return String::from("no socket") };
    match kind {
        SimSocketKind::Listener { .. } => format!("listener {local}"),
        SimSocketKind::Stream(stream) => format!("{} at {local}", stream.peer),
        SimSocketKind::Udp(_) => format!("udp {local}"),
        SimSocketKind::Watched { .. } => format!("watch {number}"),
    }
}
