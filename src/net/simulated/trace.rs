//! The trace of a simulation: its recording as lines of text.
//!
//! A line begins with the time and the actor: the loop or a peer.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use nix::errno::Errno;

use crate::close_reason::CloseReason;
use crate::net::simulated::sim_socket::{SimSocket, SimSocketKind};
use crate::net::simulated::world::World;
use crate::observe::entry::{Callback, Entry, EntryKind, Object};
use crate::observe::journal::Detail;

/// The number of lines by default: enough to see how a run ended.
const LINES_MAX: usize = 200;

/// The flags of an event, from the lowest bit.
const EVENT_FLAGS: [&str; 5] = ["readable", "writable", "read-to-end", "error", "hang-up"];

impl World {
    /// Returns the recording as text: the last lines, or all since [`SimRecording::restart`].
    ///
    /// [`SimRecording::restart`]: crate::observe::sim_recording::SimRecording::keep_all
    pub(crate) fn trace(&self) -> String {
        let recording = self.recording.borrow();
        let mut names = Names::default();
        recording.existing().iter().for_each(|(entry, detail)| names.learn(self, entry, detail.as_ref()));
        let mut lines = Vec::new();
        for (entry, details) in recording.entries() {
            let detail = details.first().map(|(_, detail)| detail);
            names.learn(self, entry, detail);
            let Some(text) = names.text(self, entry, detail) else { continue };
            let time = entry.time() + self.loop_started;
            // Polls in a row with the same outcome are one line.
            match lines.last_mut() {
                Some((last, at, times)) if entry.kind == EntryKind::PollEnd && *last == text => {
                    (*at, *times) = (time, *times + 1);
                }
                _ => lines.push((text, time, 1)),
            }
        }
        let line = |(text, at, times): (String, Duration, u32)| match times {
            1 => format!("{at:>12.3?} {text}"),
            _ => format!("{at:>12.3?} {text}, {times} times"),
        };
        let left_out = if recording.shows_all() { 0 } else { lines.len().saturating_sub(LINES_MAX) };
        let note = (left_out > 0).then(|| String::from("earlier lines are left out; record_trace() keeps all"));
        note.into_iter().chain(lines.into_iter().skip(left_out).map(line)).collect::<Vec<_>>().join("\n")
    }

    /// Returns the last call on a socket.
    pub(crate) fn last_call(&self) -> Option<String> {
        let recording = self.recording.borrow();
        let mut names = Names::default();
        recording.existing().iter().for_each(|(entry, detail)| names.learn(self, entry, detail.as_ref()));
        recording.entries().for_each(|(entry, details)| {
            names.learn(self, entry, details.first().map(|(_, detail)| detail));
        });
        let is_call = |entry: &Entry| is_call(entry.kind) && entry.object != Object::Loop;
        let (entry, _) = recording.entries().rfind(|(entry, _)| is_call(entry))?;
        names.text(self, entry, None)
    }

    /// The name of a socket in a trace: for a stream, the address of its peer, then the loop's.
    pub(crate) fn name(&self, number: usize) -> String {
        let Some(SimSocket { local, kind, .. }) = self.sockets.get(number) else { return String::from("no socket") };
        match kind {
            SimSocketKind::Listener { .. } => format!("listener {local}"),
            SimSocketKind::Stream(stream) => format!("{} at {local}", stream.peer),
            SimSocketKind::Udp(_) => format!("udp {local}"),
            SimSocketKind::Watched { .. } => format!("watch {number}"),
        }
    }

    /// The name of the socket with a descriptor.
    fn name_of_descriptor(&self, descriptor: u64) -> String {
        self.name(usize::try_from(descriptor).map_or(usize::MAX, |descriptor| descriptor.wrapping_sub(3)))
    }
}

/// The names of the loop's objects, by generation.
#[derive(Default)]
struct Names(BTreeMap<u64, String>);

impl Names {
    /// Keeps the name of an object that an entry introduces.
    fn learn(&mut self, world: &World, entry: &Entry, detail: Option<&Detail>) {
        let descriptor = entry.numbers[0];
        let name = match (entry.kind, detail) {
            _ if entry.generation == 0 => return,
            // Its connect has not started.
            (EntryKind::Opened | EntryKind::Existing, Some(Detail::Address(peer))) if descriptor == 0 => {
                peer.to_string()
            }
            (EntryKind::Connect, _) if entry.errno.is_some() => return,
            (
                EntryKind::Opened
                | EntryKind::Existing
                | EntryKind::Connect
                | EntryKind::Listening
                | EntryKind::Bound
                | EntryKind::Watching,
                _,
            ) => world.name_of_descriptor(descriptor),
            _ => return,
        };
        self.0.insert(entry.generation, name);
    }

    fn name(&self, world: &World, entry: &Entry) -> String {
        let Entry { object, slot, generation, .. } = entry;
        match (object, self.0.get(generation)) {
            (Object::Peer, _) => world.name_of_descriptor(u64::from(*slot)),
            (Object::Loop, _) => String::from("loop"),
            (_, Some(name)) => name.clone(),
            _ => format!("{object} {slot}"),
        }
    }

    /// The line of an entry, without its time; `None` for the entries that are in no trace.
    fn text(&self, world: &World, entry: &Entry, detail: Option<&Detail>) -> Option<String> {
        let Entry { kind, numbers: [first, second], .. } = *entry;
        let name = self.name(world, entry);
        let address = || match detail {
            Some(Detail::Address(address)) => *address,
            _ => SocketAddr::from(([0, 0, 0, 0], 0)),
        };
        Some(match kind {
            EntryKind::PollBegin | EntryKind::TurnEnd => return None,
            EntryKind::PollEnd => format!("loop poll -> {}", outcome(entry)),
            EntryKind::Lost => format!("{first} entries are left out"),
            EntryKind::Accept if entry.errno.is_none() => {
                format!("loop accept {name} -> {}", world.name_of_descriptor(first))
            }
            EntryKind::Readiness | EntryKind::StaleEvent => {
                let is_set = |bit: &usize| first >> bit & 1 == 1;
                let flags: Vec<&str> = (0..EVENT_FLAGS.len()).filter(is_set).map(|bit| EVENT_FLAGS[bit]).collect();
                format!("loop {kind} {name}: {}", flags.join(" "))
            }
            EntryKind::CallbackBegin | EntryKind::CallbackEnd => {
                let callback = Callback::from_index(first).map_or("", Callback::as_str);
                match (kind, second) {
                    (EntryKind::CallbackEnd, u64::MAX) => format!("loop {kind} {name}: {callback} panicked"),
                    _ => format!("loop {kind} {name}: {callback} {second}"),
                }
            }
            EntryKind::Closed if entry.object == Object::Connection => {
                let reason = CloseReason::from_index(first);
                let reason = reason.map_or_else(|| String::from("it never opened"), |reason| reason.to_string());
                format!("loop closed {name}: {reason}{}", if second == 1 { ", with a reset" } else { "" })
            }
            EntryKind::DeadlineSet | EntryKind::DeadlineFired => {
                format!("loop {kind} {name}: {:.3?}", Duration::from_nanos(first) + world.loop_started)
            }
            EntryKind::Write | EntryKind::SendBatch => format!("loop {kind} {name} -> {} of {second}", outcome(entry)),
            EntryKind::DatagramIn | EntryKind::DatagramOut => {
                format!("loop {kind} {name}: {}, with {}", outcome(entry), address())
            }
            EntryKind::Backoff => {
                format!("loop {kind} {name}: {:.3?} after {}", Duration::from_nanos(first), outcome(entry))
            }
            EntryKind::Message => format!("loop {kind}: {}", if first == 0 { "a job" } else { "a note" }),
            EntryKind::PeerConnect => format!("peer {name} connects"),
            EntryKind::PeerSend => format!("peer {name} sends {first} bytes"),
            EntryKind::PeerReceive => format!("peer {name} receives {first} bytes"),
            EntryKind::PeerUrgent => format!("peer {name} sends an urgent byte"),
            EntryKind::PeerFin => format!("peer {name} ends its side"),
            EntryKind::PeerReset => format!("peer {name} resets"),
            EntryKind::PeerEof => format!("peer {name} sees the end"),
            EntryKind::PeerWasReset => format!("peer {name} sees a reset"),
            EntryKind::PeerDatagramOut => format!("peer {} sends a datagram of {first} bytes", address()),
            EntryKind::PeerDatagramIn => format!("peer {} receives a datagram of {first} bytes", address()),
            EntryKind::PeerDatagramLost => format!("peer {} loses a datagram of {first} bytes", address()),
            _ if is_call(kind) => format!("loop {kind} {name} -> {}", outcome(entry)),
            _ => format!("loop {kind} {name}"),
        })
    }
}

/// Whether an entry is about a system call of the loop, with its outcome.
fn is_call(kind: EntryKind) -> bool {
    matches!(
        kind,
        EntryKind::Accept
            | EntryKind::Connect
            | EntryKind::Connected
            | EntryKind::Registered
            | EntryKind::Read
            | EntryKind::Write
            | EntryKind::ShutdownWrite
            | EntryKind::OptionSet
            | EntryKind::InputStopped
            | EntryKind::ReceiveBatch
            | EntryKind::SendBatch
    )
}

/// The result of a call: its first number, or the error.
fn outcome(entry: &Entry) -> String {
    entry.errno().map_or_else(|| entry.numbers[0].to_string(), |errno| format!("{:?}", Errno::from_raw(errno)))
}
