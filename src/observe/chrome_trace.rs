//! Recordings as Chrome trace JSON, one event a line.
//!
//! The same recording gives the same bytes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;

use crate::address::Address;
use crate::close_reason::CloseReason;
use crate::observe::entry::{Callback, Entry, EntryKind, Object, nanoseconds};
use crate::observe::journal::Detail;
use crate::observe::recording::{LoopRecording, Recording};

/// Raised when a reader of an older version would misunderstand a file.
const VERSION: u32 = 1;

/// Integers above it are not exact in all JSON readers (RFC 7493, 2.2).
const EXACT_MAX: u64 = (1 << 53) - 1;

/// The names of numbers without a meaning, which are zero in the entries of a loop.
const UNNAMED: [&str; 2] = ["first", "second"];

impl EntryKind {
    /// Returns the names of the two numbers in files; `None` for a number without a meaning, which is zero. In a file
    /// that number, if it is not zero, has the name `first` or `second`.
    ///
    /// The number `callback` is written as [`Callback::as_str`], and `reason` as
    /// [`CloseReason::as_str`](crate::CloseReason::as_str). Only connections have `listener_slot`, `reason` and `reset`.
    ///
    /// ```
    /// use halloo::observe::EntryKind;
    ///
    /// assert_eq!(EntryKind::Read.number_names(), [Some("bytes"), Some("of")]);
    /// ```
    #[must_use]
    pub fn number_names(self) -> [Option<&'static str>; 2] {
        let (first, second) = match self {
            Self::PollBegin | Self::Drain => ("timeout_ns", ""),
            Self::PollEnd => ("events", "more"),
            Self::TurnEnd => ("progress", ""),
            Self::Lost => ("entries", "same_turn"),
            Self::Readiness | Self::StaleEvent => ("flags", "event_generation"),
            Self::Existing | Self::Opened => ("descriptor", "listener_slot"),
            Self::Accept => ("descriptor", "no_client"),
            Self::Listening | Self::Bound => ("descriptor", ""),
            Self::Connect => ("descriptor", "inherited"),
            Self::Watching => ("descriptor", "interests"),
            Self::Refused => ("per_source", ""),
            Self::Full => ("connections", ""),
            Self::Read | Self::Write => ("bytes", "of"),
            Self::OptionSet => ("level", "option"),
            Self::ReceiveBatch => ("datagrams", "of"),
            Self::DatagramIn => ("bytes", "cut"),
            Self::SendBatch => ("messages", "of"),
            Self::DatagramOut
            | Self::PeerSend
            | Self::PeerReceive
            | Self::PeerDatagramOut
            | Self::PeerDatagramIn
            | Self::PeerDatagramLost => ("bytes", ""),
            Self::CallbackBegin => ("callback", "input"),
            Self::CallbackEnd => ("callback", "consumed"),
            Self::DeadlineSet | Self::DeadlineFired => ("deadline_ns", ""),
            Self::Message => ("is_note", "value"),
            Self::Backoff => ("pause_ns", ""),
            Self::Recovered => ("failures", "elapsed_ns"),
            Self::InputStopped => ("shutdown", ""),
            Self::ShutdownWrite => ("", "both"),
            Self::Closed => ("reason", "reset"),
            Self::Connected
            | Self::Registered
            | Self::Deregistered
            | Self::Paused
            | Self::Resumed
            | Self::Deferred
            | Self::AwaitsMemory
            | Self::Freed
            | Self::PeerConnect
            | Self::PeerUrgent
            | Self::PeerFin
            | Self::PeerReset
            | Self::PeerEof
            | Self::PeerWasReset => ("", ""),
        };
        [first, second].map(|name| Some(name).filter(|name| !name.is_empty()))
    }
}

/// Writes a recording, as [`Recording::write_to`] describes.
pub(super) fn write(recording: &Recording, out: &mut impl io::Write) -> io::Result<()> {
    let mut ids = 0;
    let groups: Vec<Group<'_>> = recording.loops.iter().map(|part| Group::new(part, &mut ids)).collect();
    let mut file = FileWriter { out, line: header(&groups), has_events: false };
    for group in &groups {
        group.write_names(&mut file)?;
    }
    for group in groups {
        LoopWriter { file: &mut file, group, nanoseconds: 0, slice: None, callbacks: Vec::new() }.write_entries()?;
    }
    file.line.push_str("\n]}\n");
    file.out.write_all(file.line.as_bytes())
}

/// The first line.
fn header(groups: &[Group<'_>]) -> String {
    let mut line = format!(r#"{{"otherData":{{"format":"halloo recording","version":{VERSION},"loops":["#);
    for (index, Group { part, pid, peers, .. }) in groups.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        let _ = write!(line, r#"{comma}{{"pid":{pid},"peers":{peers},"name":"#);
        push_string(&mut line, part.name.chars());
        push_number(&mut line, "started_after_ns", nanoseconds(part.started_after));
        line.push('}');
    }
    line.push_str(r#"]},"displayTimeUnit":"ns","traceEvents":["#);
    line
}

/// The process group of a loop in the file, and its lanes.
struct Group<'a> {
    part: &'a LoopRecording,
    pid: u64,
    /// The process group of simulated peers.
    peers: u64,
    /// The thread id and the name of each lane. All ids of a file differ, because Perfetto joins threads with the same
    /// id.
    lanes: BTreeMap<Lane, (u64, String)>,
}

/// An object of a loop: its kind, slot and generation.
type Lane = (Object, u32, u64);

/// The lane of the loop itself.
const LOOP_LANE: Lane = (Object::Loop, 0, 0);

impl<'a> Group<'a> {
    /// Gives each object a lane, in the order of their first entries.
    fn new(part: &'a LoopRecording, ids: &mut u64) -> Self {
        let mut next_id = || {
            *ids += 1;
            *ids
        };
        let (pid, peers) = (next_id(), next_id());
        let mut lanes = BTreeMap::from([(LOOP_LANE, (pid, "loop".to_owned()))]);
        for (entry, details) in part.entries_with_details() {
            let address = details.iter().find_map(|(_, detail)| address_of(detail));
            let lane = entry.lane();
            let (_, name) = lanes.entry(lane).or_insert_with(|| (next_id(), String::new()));
            let has_address = entry.kind.names_object();
            if name.is_empty() || (has_address && address.is_some()) && lane != LOOP_LANE {
                *name = lane_name(lane, address.filter(|_| has_address));
            }
        }
        Self { part, pid, peers, lanes }
    }

    /// The process id and the thread id of a lane.
    fn ids(&self, lane: Lane) -> (u64, u64) {
        let tid = self.lanes.get(&lane).map_or(self.pid, |(tid, _)| *tid);
        (if lane.0 == Object::Peer { self.peers } else { self.pid }, tid)
    }

    /// Writes the names of the process groups and lanes.
    fn write_names(&self, file: &mut FileWriter<impl io::Write>) -> io::Result<()> {
        let mut lanes: Vec<_> = self.lanes.iter().map(|(lane, (tid, name))| (*tid, *lane, name)).collect();
        lanes.sort_unstable();
        file.write_name("process_name", self.pid, self.pid, &self.part.name)?;
        if lanes.iter().any(|(_, lane, _)| lane.0 == Object::Peer) {
            let name = format!("{}: simulated peers", self.part.name);
            file.write_name("process_name", self.peers, self.peers, &name)?;
        }
        for (tid, lane, name) in lanes {
            file.write_name("thread_name", self.ids(lane).0, tid, name)?;
        }
        Ok(())
    }
}

fn address_of(detail: &Detail) -> Option<Address> {
    match detail {
        Detail::Address(address) => Some(Address::Inet(*address)),
        Detail::Path(path) => Some(Address::Unix(path.clone())),
        Detail::Payload { .. } => None,
    }
}

fn lane_name((object, slot, generation): Lane, address: Option<Address>) -> String {
    let number = if object == Object::Peer { slot.into() } else { generation };
    match address {
        Some(address) => format!("{object} {address} #{number}"),
        None => format!("{object} #{number}"),
    }
}

/// Writes events, one a line.
struct FileWriter<W> {
    out: W,
    line: String,
    has_events: bool,
}

impl<W: io::Write> FileWriter<W> {
    /// Writes the line before, and begins an event.
    fn begin(&mut self, phase: &str, (pid, tid): (u64, u64)) -> io::Result<&mut String> {
        self.line.push_str(if self.has_events { ",\n" } else { "\n" });
        self.has_events = true;
        self.out.write_all(self.line.as_bytes())?;
        self.line.clear();
        let _ = write!(self.line, r#"{{"ph":"{phase}","pid":{pid},"tid":{tid}"#);
        Ok(&mut self.line)
    }

    fn write_name(&mut self, what: &str, pid: u64, tid: u64, name: &str) -> io::Result<()> {
        let line = self.begin("M", (pid, tid))?;
        let _ = write!(line, r#","name":"{what}","args":{{"name":"#);
        push_string(line, name.chars());
        line.push_str("}}");
        Ok(())
    }
}

/// What the loop does between two entries.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Slice {
    Poll,
    Work,
}

/// What the begin and the end of a callback have in common. The generation is not: the object may be removed meanwhile.
type CallbackKey = (Object, u32, u64);

/// Writes the entries of one loop.
struct LoopWriter<'a, W> {
    file: &'a mut FileWriter<W>,
    group: Group<'a>,
    /// The time of the last event.
    nanoseconds: u64,
    /// The open slice in the lane of the loop.
    slice: Option<Slice>,
    /// Callbacks that have not ended, with their lanes. One callback may call another.
    callbacks: Vec<(CallbackKey, Lane)>,
}

impl<W: io::Write> LoopWriter<'_, W> {
    fn write_entries(mut self) -> io::Result<()> {
        let part = self.group.part;
        let started_after = nanoseconds(part.started_after);
        for (entry, details) in part.entries_with_details() {
            self.nanoseconds = self.nanoseconds.max(started_after.saturating_add(entry.nanoseconds));
            self.write_entry(entry, details)?;
        }
        self.end_callbacks(0)?;
        if self.slice.is_some() { self.end_slice(LOOP_LANE) } else { Ok(()) }
    }

    fn write_entry(&mut self, entry: &Entry, details: &[(usize, Detail)]) -> io::Result<()> {
        let (mut lane, key) = (entry.lane(), (entry.object, entry.slot, entry.numbers[0]));
        let phase = match entry.kind {
            EntryKind::PollBegin => {
                self.end_callbacks(0)?;
                if self.slice.replace(Slice::Poll).is_some() {
                    self.end_slice(LOOP_LANE)?;
                }
                "B"
            }
            EntryKind::PollEnd | EntryKind::TurnEnd => {
                self.end_callbacks(0)?;
                let slice = if entry.kind == EntryKind::PollEnd { Slice::Poll } else { Slice::Work };
                if self.slice == Some(slice) { "E" } else { "i" }
            }
            EntryKind::CallbackBegin => {
                self.callbacks.push((key, lane));
                "B"
            }
            EntryKind::CallbackEnd => match self.callbacks.iter().rposition(|(open, _)| *open == key) {
                Some(depth) => {
                    self.end_callbacks(depth + 1)?;
                    lane = self.callbacks.pop().map_or(lane, |(_, lane)| lane);
                    "E"
                }
                None => "i",
            },
            _ => "i",
        };
        let (ids, part) = (self.group.ids(lane), self.group.part);
        let text = self.begin(phase, ids)?;
        push_name(text, entry, phase);
        push_args(text, entry, part, details);
        if entry.kind == EntryKind::PollEnd && self.slice != Some(Slice::Work) {
            self.slice = Some(Slice::Work);
            let ids = self.group.ids(LOOP_LANE);
            self.begin("B", ids)?.push_str(r#","name":"work"}"#);
        }
        if entry.kind == EntryKind::TurnEnd && self.slice.take() == Some(Slice::Poll) {
            self.end_slice(LOOP_LANE)?;
        }
        Ok(())
    }

    /// Ends the open callbacks from a depth on. Their end is missing: they panicked, or entries were lost.
    fn end_callbacks(&mut self, depth: usize) -> io::Result<()> {
        while self.callbacks.len() > depth
            && let Some((_, lane)) = self.callbacks.pop()
        {
            self.end_slice(lane)?;
        }
        Ok(())
    }

    fn end_slice(&mut self, lane: Lane) -> io::Result<()> {
        let ids = self.group.ids(lane);
        self.begin("E", ids)?.push('}');
        Ok(())
    }

    /// Begins an event at the present time.
    fn begin(&mut self, phase: &str, ids: (u64, u64)) -> io::Result<&mut String> {
        let nanoseconds = self.nanoseconds;
        let line = self.file.begin(phase, ids)?;
        let _ = write!(line, r#","ts":{}.{:03}"#, nanoseconds / 1_000, nanoseconds % 1_000);
        Ok(line)
    }
}

/// The name of an event, which is the title of a slice.
fn push_name(line: &mut String, entry: &Entry, phase: &str) {
    if phase == "E" {
        return;
    }
    let name = match entry.kind {
        EntryKind::PollBegin => "poll",
        EntryKind::CallbackBegin => Callback::from_index(entry.numbers[0]).map_or("callback", Callback::as_str),
        kind => kind.as_str(),
    };
    let scope = if phase == "i" { r#","s":"t""# } else { "" };
    let _ = write!(line, r#"{scope},"name":"{name}""#);
}

/// All fields of an entry.
fn push_args(line: &mut String, entry: &Entry, part: &LoopRecording, details: &[(usize, Detail)]) {
    let _ = write!(line, r#","args":{{"kind":"{}","object":"{}""#, entry.kind, entry.object);
    if (entry.slot, entry.generation) != (0, 0) {
        push_number(line, "slot", entry.slot.into());
        push_number(line, "generation", entry.generation);
    }
    for (index, name) in entry.kind.number_names().into_iter().enumerate() {
        let number = entry.numbers[index];
        let is_of_connections = matches!(name, Some("listener_slot" | "reason" | "reset"));
        let is_unused = name.is_none() || is_of_connections && entry.object != Object::Connection;
        let word = match name {
            _ if is_unused && number == 0 => continue,
            Some("callback") => Callback::from_index(number).map(Callback::as_str),
            Some("reason") => CloseReason::from_index(number).map(CloseReason::as_str),
            _ => None,
        };
        let name = name.unwrap_or(UNNAMED[index]);
        match word {
            Some(word) => drop(write!(line, r#","{name}":"{word}""#)),
            None => push_number(line, name, number),
        }
    }
    if let Some(errno) = entry.errno {
        push_number(line, "errno", errno.get().into());
        #[cfg(target_os = "linux")]
        match nix::errno::Errno::from_raw(errno.get().into()) {
            nix::errno::Errno::UnknownErrno => {}
            known => drop(write!(line, r#","error":"{known:?}""#)),
        }
    }
    for (_, detail) in details {
        push_detail(line, detail, &part.payload);
    }
    push_number(line, "time_ns", entry.nanoseconds);
    line.push_str("}}");
}

fn push_detail(line: &mut String, detail: &Detail, payload: &[u8]) {
    let as_chars = |bytes: &[u8]| -> String { bytes.iter().map(|byte| char::from(*byte)).collect() };
    let (name, text) = match detail {
        Detail::Address(address) => ("address", address.to_string()),
        Detail::Path(path) => ("path", as_chars(path.as_os_str().as_encoded_bytes())),
        Detail::Payload { start, len } => {
            let bytes = payload.get(*start as usize..).and_then(|rest| rest.get(..*len as usize));
            ("payload", as_chars(bytes.unwrap_or_default()))
        }
    };
    let _ = write!(line, r#","{name}":"#);
    push_string(line, text.chars());
}

/// Appends a named number to an object that has a member already.
fn push_number(line: &mut String, name: &str, number: u64) {
    let _ = match number {
        u64::MAX => write!(line, r#","{name}":"none""#),
        _ if number > EXACT_MAX => write!(line, r#","{name}":"{number}""#),
        _ => write!(line, r#","{name}":{number}"#),
    };
}

/// Appends a JSON string of ASCII characters. `<` is escaped, because `</script>` would end a script of an HTML page.
fn push_string(line: &mut String, chars: impl Iterator<Item = char>) {
    line.push('"');
    for char in chars {
        match char {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            ' '..='~' if char != '<' => line.push(char),
            _ => {
                for unit in char.encode_utf16(&mut [0; 2]) {
                    let _ = write!(line, "\\u{unit:04x}");
                }
            }
        }
    }
    line.push('"');
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn text(loops: Vec<LoopRecording>) -> String {
        let mut file = Vec::new();
        Recording { loops }.write_to(&mut file).expect("memory takes everything");
        String::from_utf8(file).expect("ASCII")
    }

    fn of_loop(kind: EntryKind, nanoseconds: u64, numbers: [u64; 2]) -> Entry {
        Entry { nanoseconds, ..Entry::new(kind, Object::Loop, 0, 0).numbers(numbers) }
    }

    fn of_connection(kind: EntryKind, nanoseconds: u64, numbers: [u64; 2]) -> Entry {
        Entry { nanoseconds, ..Entry::new(kind, Object::Connection, 3, 17).numbers(numbers) }
    }

    #[test]
    fn every_entry_is_one_line() {
        let on_data = Callback::Data as u64;
        let part = LoopRecording {
            name: "worker 1".to_owned(),
            started_after: Duration::from_nanos(1_000_001),
            entries: vec![
                of_loop(EntryKind::PollBegin, 5, [u64::MAX, 0]),
                of_loop(EntryKind::PollEnd, 1_005, [1, 0]),
                of_connection(EntryKind::Opened, 1_005, [9, 0]),
                of_connection(EntryKind::Read, 1_005, [5, 65_536]),
                of_connection(EntryKind::CallbackBegin, 2_000, [on_data, 5]),
                of_connection(EntryKind::CallbackEnd, 3_000, [on_data, 5]),
                of_connection(EntryKind::Read, 3_000, [0, 65_536]).error(&io::Error::from_raw_os_error(11)),
                of_connection(EntryKind::Closed, 3_000, [0, 1]),
                Entry::new(EntryKind::PeerSend, Object::Peer, 2, 0).numbers([1 << 53, 7]),
                of_loop(EntryKind::TurnEnd, 4_000, [1, 0]),
            ],
            details: vec![
                (2, Detail::Address(([10, 0, 0, 1], 5_000).into())),
                (3, Detail::Payload { start: 0, len: 5 }),
                (8, Detail::Path("/run/a\u{e9}".into())),
            ],
            payload: b"<a>\xff\n".to_vec(),
        };
        let expected = r#"{"otherData":{"format":"halloo recording","version":1,"loops":[{"pid":1,"peers":2,"name":"worker 1","started_after_ns":1000001}]},"displayTimeUnit":"ns","traceEvents":[
{"ph":"M","pid":1,"tid":1,"name":"process_name","args":{"name":"worker 1"}},
{"ph":"M","pid":2,"tid":2,"name":"process_name","args":{"name":"worker 1: simulated peers"}},
{"ph":"M","pid":1,"tid":1,"name":"thread_name","args":{"name":"loop"}},
{"ph":"M","pid":1,"tid":3,"name":"thread_name","args":{"name":"connection 10.0.0.1:5000 #17"}},
{"ph":"M","pid":2,"tid":4,"name":"thread_name","args":{"name":"peer #2"}},
{"ph":"B","pid":1,"tid":1,"ts":1000.006,"name":"poll","args":{"kind":"poll-begin","object":"loop","timeout_ns":"none","time_ns":5}},
{"ph":"E","pid":1,"tid":1,"ts":1001.006,"args":{"kind":"poll-end","object":"loop","events":1,"more":0,"time_ns":1005}},
{"ph":"B","pid":1,"tid":1,"ts":1001.006,"name":"work"},
{"ph":"i","pid":1,"tid":3,"ts":1001.006,"s":"t","name":"opened","args":{"kind":"opened","object":"connection","slot":3,"generation":17,"descriptor":9,"listener_slot":0,"address":"10.0.0.1:5000","time_ns":1005}},
{"ph":"i","pid":1,"tid":3,"ts":1001.006,"s":"t","name":"read","args":{"kind":"read","object":"connection","slot":3,"generation":17,"bytes":5,"of":65536,"payload":"\u003ca>\u00ff\n","time_ns":1005}},
{"ph":"B","pid":1,"tid":3,"ts":1002.001,"name":"on_data","args":{"kind":"callback-begin","object":"connection","slot":3,"generation":17,"callback":"on_data","input":5,"time_ns":2000}},
{"ph":"E","pid":1,"tid":3,"ts":1003.001,"args":{"kind":"callback-end","object":"connection","slot":3,"generation":17,"callback":"on_data","consumed":5,"time_ns":3000}},
{"ph":"i","pid":1,"tid":3,"ts":1003.001,"s":"t","name":"read","args":{"kind":"read","object":"connection","slot":3,"generation":17,"bytes":0,"of":65536,"errno":11,"error":"EAGAIN","time_ns":3000}},
{"ph":"i","pid":1,"tid":3,"ts":1003.001,"s":"t","name":"closed","args":{"kind":"closed","object":"connection","slot":3,"generation":17,"reason":"eof","reset":1,"time_ns":3000}},
{"ph":"i","pid":2,"tid":4,"ts":1003.001,"s":"t","name":"peer-send","args":{"kind":"peer-send","object":"peer","slot":2,"generation":0,"bytes":"9007199254740992","second":7,"path":"/run/a\u00c3\u00a9","time_ns":0}},
{"ph":"E","pid":1,"tid":1,"ts":1004.001,"args":{"kind":"turn-end","object":"loop","progress":1,"time_ns":4000}}
]}
"#;
        assert_eq!(text(vec![part]), expected);
        assert_eq!(
            text(Vec::new()).lines().next(),
            Some(
                r#"{"otherData":{"format":"halloo recording","version":1,"loops":[]},"displayTimeUnit":"ns","traceEvents":["#
            )
        );
    }

    #[test]
    fn no_name_of_a_number_is_that_of_another_field() {
        let fields =
            ["kind", "object", "slot", "generation", "errno", "error", "address", "path", "payload", "time_ns"];
        for kind in EntryKind::ALL {
            let [first, second] = kind.number_names();
            assert_ne!(first.unwrap_or(UNNAMED[0]), second.unwrap_or(UNNAMED[1]), "{kind}");
            for name in [first, second].into_iter().flatten() {
                assert!(!fields.contains(&name) && !UNNAMED.contains(&name), "{name} of {kind}");
            }
        }
    }

    #[test]
    fn strings_are_ascii_and_cannot_end_a_script() {
        let mut line = String::new();
        push_string(&mut line, "\"\\\n\r\t\0\u{7f}</script>\u{1f600}".chars());
        assert_eq!(line, r#""\"\\\n\r\t\u0000\u007f\u003c/script>\ud83d\ude00""#);
    }

    /// The text of a field of an event.
    fn field<'a>(line: &'a str, name: &str) -> &'a str {
        let rest = line.split_once(&format!("\"{name}\":")).map_or("", |(_, rest)| rest);
        rest.split([',', '}']).next().unwrap_or_default()
    }

    /// Checks that slices end in their lane and in order, and that time does not go back.
    fn check_slices(text: &str) {
        let (mut depths, mut last, mut entries) = (HashMap::new(), 0.0, 0);
        for line in text.lines().filter(|line| line.contains("\"ts\"")) {
            let time: f64 = field(line, "ts").parse().expect("a number");
            assert!(time >= last, "{line}");
            last = time;
            let depth: &mut i32 = depths.entry(field(line, "tid")).or_default();
            *depth += match field(line, "ph") {
                "\"B\"" => 1,
                "\"E\"" => -1,
                _ => 0,
            };
            assert!(*depth >= 0, "nothing to end: {line}");
            entries += usize::from(line.contains("\"kind\""));
        }
        assert!(depths.values().all(|depth| *depth == 0), "not all slices end: {depths:?}");
        assert_eq!(entries, text.matches("\"time_ns\"").count());
    }

    #[test]
    fn callbacks_without_an_end_end_with_the_turn() {
        let (outer, inner) = (Callback::Data as u64, Callback::Start as u64);
        let part = LoopRecording {
            entries: vec![
                of_loop(EntryKind::PollEnd, 1, [0; 2]),
                of_connection(EntryKind::CallbackBegin, 2, [outer, 0]),
                of_loop(EntryKind::CallbackBegin, 3, [inner, 0]),
                of_connection(EntryKind::CallbackEnd, 4, [outer, 0]),
                of_connection(EntryKind::CallbackBegin, 5, [outer, 0]),
                of_loop(EntryKind::TurnEnd, 6, [0; 2]),
                of_loop(EntryKind::CallbackEnd, 7, [inner, 0]),
            ],
            ..LoopRecording::default()
        };
        let text = text(vec![part]);
        check_slices(&text);
        let phases: Vec<_> = text.lines().filter(|line| line.contains("\"ts\"")).map(|line| &line[7..8]).collect();
        assert_eq!(phases, ["i", "B", "B", "B", "E", "E", "B", "E", "E", "i"]);
    }

    #[test]
    fn a_callback_that_removes_its_own_object_ends_in_the_same_lane() {
        let on_timer = [Callback::Timer as u64, 0];
        let begin = Entry::new(EntryKind::CallbackBegin, Object::Timer, 2, 9).numbers(on_timer);
        let end = Entry { kind: EntryKind::CallbackEnd, generation: 0, ..begin };
        let text = text(vec![LoopRecording { entries: vec![begin, end], ..LoopRecording::default() }]);
        check_slices(&text);
        assert_eq!(text.matches("\"tid\":3,\"ts\"").count(), 2, "{text}");
    }

    proptest! {
        #[test]
        fn slices_of_any_entries_are_nested(
            entries in prop::collection::vec((0..7_usize, 0..3_u32, 0..2_u64, 0..100_u64), 0..60),
        ) {
            use EntryKind::{CallbackBegin, CallbackEnd, Lost, PollBegin, PollEnd, Read, TurnEnd};
            let kinds = [PollBegin, PollEnd, TurnEnd, CallbackBegin, CallbackEnd, Read, Lost];
            let entries = entries.into_iter().map(|(kind, slot, number, nanoseconds)| {
                let object = if slot == 0 { Object::Loop } else { Object::Connection };
                Entry { nanoseconds, ..Entry::new(kinds[kind], object, slot, slot.into()).numbers([number, 0]) }
            });
            let part = LoopRecording { entries: entries.collect(), ..LoopRecording::default() };
            let count = part.entries.len();
            let text = text(vec![part]);
            check_slices(&text);
            prop_assert_eq!(text.matches("\"kind\"").count(), count);
        }
    }
}
