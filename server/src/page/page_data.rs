//! The recording inside the page: JSON with packed columns.
//!
//! The entries of all loops are one sequence, ordered by time. `decode.js` reads it.

use std::collections::HashMap;
use std::io::{self, Write};
use std::iter::Peekable;
use std::os::unix::ffi::OsStrExt;
use std::slice;

use base64::prelude::{BASE64_STANDARD, Engine};
use halloo::observe::{CLOSE_REASONS, Callback, Detail, Entry, EntryKind, Finding, LoopRecording, Object, Recording};
use nix::errno::Errno;
use serde_json::{Value, json};

use crate::text::escape;

/// Writes the JSON. It has no `<`, which could end the script that contains it.
pub(super) fn write(recording: &Recording, findings: &[Finding], title: &str, out: &mut dyn Write) -> io::Result<()> {
    let data = Encoder::new(recording).encode(findings, title);
    out.write_all(data.to_string().replace('<', "\\u003c").as_bytes())
}

/// An object of a loop: the index of the loop, then the lane of [`Entry::lane`].
type Lane = (usize, (Object, u32, u64));

/// What entries have in common: kind, object, error number, and which columns have more of them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Shape {
    kind: EntryKind,
    object: Object,
    errno: u16,
    has_address: bool,
    has_payload: bool,
    /// Whether the slot is not that of the lane.
    has_slot: bool,
}

/// The columns of the entries: numbers of 7 bits a byte, the lowest first.
#[derive(Default)]
struct Columns {
    shape: Vec<u8>,
    lane: Vec<u8>,
    time: Vec<u8>,
    first: Vec<u8>,
    second: Vec<u8>,
    slot: Vec<u8>,
    address: Vec<u8>,
    payload_len: Vec<u8>,
    payload: Vec<u8>,
}

/// Items, each with the number of its first occurrence.
struct Table<T> {
    items: Vec<T>,
    numbers: HashMap<T, usize>,
}

struct Encoder<'a> {
    recording: &'a Recording,
    shapes: Table<Shape>,
    lanes: Table<Lane>,
    /// The address of each lane, by its number in `addresses`.
    lane_addresses: Vec<Option<usize>>,
    addresses: Table<String>,
    columns: Columns,
    /// For each loop, the index in the sequence of each of its entries.
    indexes: Vec<Vec<usize>>,
    last_lane: u64,
    last_time: u64,
}

impl<T: Clone + Eq + std::hash::Hash> Table<T> {
    fn new() -> Self {
        Self { items: Vec::new(), numbers: HashMap::new() }
    }

    fn number(&mut self, item: T) -> usize {
        let next = self.items.len();
        *self.numbers.entry(item).or_insert_with_key(|item| {
            self.items.push(item.clone());
            next
        })
    }
}

/// The part of a loop that is not encoded yet.
struct Cursor<'a> {
    part: &'a LoopRecording,
    index: usize,
    details: Peekable<slice::Iter<'a, (usize, Detail)>>,
    /// The lanes of the callbacks that have begun.
    callbacks: Vec<(u64, Lane)>,
}

impl Cursor<'_> {
    fn next_time(&self) -> Option<u64> {
        let entry = self.part.entries.get(self.index)?;
        Some(start_of(self.part).saturating_add(entry.nanoseconds))
    }
}

fn start_of(part: &LoopRecording) -> u64 {
    u64::try_from(part.started_after.as_nanos()).unwrap_or(u64::MAX)
}

impl<'a> Encoder<'a> {
    fn new(recording: &'a Recording) -> Self {
        let mut lanes = Table::new();
        for index in 0..recording.loops.len() {
            lanes.number((index, (Object::Loop, 0, 0)));
        }
        Self {
            recording,
            shapes: Table::new(),
            lane_addresses: vec![None; lanes.items.len()],
            lanes,
            addresses: Table::new(),
            columns: Columns::default(),
            indexes: vec![Vec::new(); recording.loops.len()],
            last_lane: 0,
            last_time: 0,
        }
    }

    fn encode(mut self, findings: &[Finding], title: &str) -> Value {
        let parts = &self.recording.loops;
        let to_cursor = |part: &'a LoopRecording| Cursor {
            part,
            index: 0,
            details: part.details.iter().peekable(),
            callbacks: Vec::new(),
        };
        let mut cursors: Vec<Cursor<'_>> = parts.iter().map(to_cursor).collect();
        let mut entry_count = 0;
        while let Some((time, loop_index)) = earliest(&cursors) {
            self.indexes[loop_index].push(entry_count);
            self.push_entry(loop_index, time, &mut cursors[loop_index]);
            entry_count += 1;
        }
        let findings: Vec<Value> = findings.iter().map(|finding| self.finding(finding)).collect();
        let column = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
        let columns = &self.columns;
        json!({
            "title": title,
            "kinds": EntryKind::ALL.iter().map(|kind| json!([kind.as_str(), kind.number_names()])).collect::<Vec<_>>(),
            "objectKinds": Object::ALL.iter().map(|object| object.as_str()).collect::<Vec<_>>(),
            "callbacks": Callback::ALL.iter().map(|callback| callback.as_str()).collect::<Vec<_>>(),
            "reasons": CLOSE_REASONS.iter().map(|reason| reason.as_str()).collect::<Vec<_>>(),
            "errors": self.errors(),
            "loops": parts.iter().map(|part| json!([part.name, number(start_of(part))])).collect::<Vec<_>>(),
            "lanes": self.lanes.items.iter().zip(&self.lane_addresses).map(|((part, (object, slot, generation)), address)| {
                json!([part, *object as u8, slot, number(*generation), address])
            }).collect::<Vec<_>>(),
            "addresses": self.addresses.items,
            "shapes": self.shapes.items.iter().map(|shape| {
                let flags = [shape.has_address, shape.has_payload, shape.has_slot].map(u8::from);
                json!([shape.kind as u8, shape.object as u8, shape.errno, flags[0] | flags[1] << 1 | flags[2] << 2])
            }).collect::<Vec<_>>(),
            "findings": findings,
            "entryCount": entry_count,
            "columns": {
                "shape": column(&columns.shape),
                "lane": column(&columns.lane),
                "time": column(&columns.time),
                "first": column(&columns.first),
                "second": column(&columns.second),
                "slot": column(&columns.slot),
                "address": column(&columns.address),
                "payloadLength": column(&columns.payload_len),
                "payload": column(&columns.payload),
            },
        })
    }

    fn push_entry(&mut self, loop_index: usize, time: u64, cursor: &mut Cursor<'_>) {
        let entry = &cursor.part.entries[cursor.index];
        let lane = lane_of(loop_index, entry, &mut cursor.callbacks);
        let lane_number = self.lanes.number(lane);
        self.lane_addresses.resize(self.lanes.items.len(), None);
        let (mut address, mut payload) = (None, None);
        while let Some((_, detail)) = cursor.details.next_if(|(of, _)| *of <= cursor.index) {
            match detail {
                Detail::Payload { start, len } => {
                    let rest = cursor.part.payload.get(*start as usize..).unwrap_or_default();
                    payload = Some(rest.get(..*len as usize).unwrap_or_default());
                }
                detail => address = Some(self.addresses.number(display(detail))),
            }
        }
        cursor.index += 1;
        if entry.kind.names_object() && address.is_some() {
            self.lane_addresses[lane_number] = address;
        }
        let shape = Shape {
            kind: entry.kind,
            object: entry.object,
            errno: entry.errno.map_or(0, std::num::NonZeroU16::get),
            has_address: address.is_some(),
            has_payload: payload.is_some(),
            has_slot: entry.slot != lane.1.1,
        };
        let columns = &mut self.columns;
        push(&mut columns.shape, self.shapes.number(shape) as u64);
        push_difference(&mut columns.lane, &mut self.last_lane, lane_number as u64);
        push_difference(&mut columns.time, &mut self.last_time, time);
        // The largest number means none, and becomes 0.
        push(&mut columns.first, entry.numbers[0].wrapping_add(1));
        push(&mut columns.second, entry.numbers[1].wrapping_add(1));
        if shape.has_slot {
            push(&mut columns.slot, entry.slot.into());
        }
        if let Some(address) = address {
            push(&mut columns.address, address as u64);
        }
        if let Some(payload) = payload {
            push(&mut columns.payload_len, payload.len() as u64);
            columns.payload.extend_from_slice(payload);
        }
    }

    /// The names of the error numbers that occur, and their descriptions.
    fn errors(&self) -> Value {
        let numbers = self.shapes.items.iter().map(|shape| shape.errno).filter(|errno| *errno > 0);
        let names = numbers.map(|errno| {
            let error = Errno::from_raw(errno.into());
            let name = match error {
                Errno::UnknownErrno => format!("error {errno}"),
                known => format!("{known:?}"),
            };
            (errno.to_string(), json!([name, error.desc()]))
        });
        Value::Object(names.collect())
    }

    fn finding(&self, finding: &Finding) -> Value {
        let lane = (finding.loop_index, (finding.object, finding.slot, finding.generation));
        json!({
            "kind": finding.kind.as_str(),
            "loop": finding.loop_index,
            "index": self.indexes[finding.loop_index].get(finding.entry_index),
            "lane": self.lanes.numbers.get(&lane).copied().unwrap_or(finding.loop_index),
            "name": finding.name,
            "sentence": finding.sentence,
            "number": number(finding.number),
            "unit": finding.kind.unit(),
            "count": finding.count,
            "time": number(u64::try_from(finding.time.as_nanos()).unwrap_or(u64::MAX)),
        })
    }
}

/// The time and the loop of the earliest entry that is not encoded yet.
fn earliest(cursors: &[Cursor<'_>]) -> Option<(u64, usize)> {
    let times = cursors.iter().enumerate().filter_map(|(index, cursor)| Some((cursor.next_time()?, index)));
    times.min()
}

/// The lane of an entry. `callbacks` are those that have begun in its loop.
fn lane_of(loop_index: usize, entry: &Entry, callbacks: &mut Vec<(u64, Lane)>) -> Lane {
    let lane = (loop_index, entry.lane());
    match entry.kind {
        EntryKind::CallbackBegin => callbacks.push((entry.numbers[0], lane)),
        EntryKind::CallbackEnd => {
            if let Some(depth) = callbacks.iter().rposition(|(callback, _)| *callback == entry.numbers[0]) {
                callbacks.truncate(depth + 1);
                return callbacks.pop().map_or(lane, |(_, lane)| lane);
            }
        }
        EntryKind::PollBegin | EntryKind::Lost => callbacks.clear(),
        _ => {}
    }
    lane
}

/// An address, or a path, as text. It is empty for a unix socket without a name.
fn display(detail: &Detail) -> String {
    match detail {
        Detail::Address(address) => address.to_string(),
        Detail::Path(path) => match path.as_os_str().as_bytes() {
            [0, name @ ..] => format!("@{}", escape::path(name)),
            path => escape::path(path),
        },
        _ => String::new(),
    }
}

/// A JSON number, or a string of digits if JavaScript would round it.
fn number(number: u64) -> Value {
    if number < 1 << 53 { number.into() } else { number.to_string().into() }
}

fn push(column: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        column.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    column.push(number.to_le_bytes()[0]);
}

/// Appends the difference to the number before. The lowest bit is its sign.
fn push_difference(column: &mut Vec<u8>, last: &mut u64, number: u64) {
    let difference = number.wrapping_sub(*last).cast_signed();
    push(column, (difference << 1 ^ difference >> 63).cast_unsigned());
    *last = number;
}
