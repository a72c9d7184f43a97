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

    /// The names of the error numbers that occur, and their descriptions by the C library, as strace(1) prints them.
    fn errors(&self) -> Value {
        let numbers = self.shapes.items.iter().map(|shape| shape.errno).filter(|errno| *errno > 0);
        let names = numbers.map(|errno| {
            let error = Errno::from_raw(errno.into());
            let name = match error {
                Errno::UnknownErrno => format!("error {errno}"),
                known => format!("{known:?}"),
            };
            let text = io::Error::from_raw_os_error(errno.into()).to_string();
            let text = text.rsplit_once(" (os error").map_or(text.as_str(), |(text, _)| text);
            (errno.to_string(), json!([name, text]))
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

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::page::any_recording::any_recording;

    /// An entry as a reader of the JSON sees it.
    #[derive(Debug, PartialEq)]
    struct Decoded {
        loop_index: u64,
        lane: (Object, u32, u64),
        kind: EntryKind,
        object: Object,
        slot: u32,
        numbers: [u64; 2],
        errno: u16,
        time: u64,
        address: Option<String>,
        payload: Option<Vec<u8>>,
    }

    /// A column that is read from its start.
    struct Column {
        bytes: Vec<u8>,
        at: usize,
        last: u64,
    }

    impl Column {
        fn new(data: &Value, name: &str) -> Self {
            let text = data["columns"][name].as_str().unwrap();
            Self { bytes: BASE64_STANDARD.decode(text).unwrap(), at: 0, last: 0 }
        }

        fn next(&mut self) -> u64 {
            let (mut number, mut shift) = (0, 0);
            loop {
                let byte = self.bytes[self.at];
                self.at += 1;
                number |= u64::from(byte & 0x7f) << shift;
                shift += 7;
                if byte < 0x80 {
                    return number;
                }
            }
        }

        /// The number before, and a difference: 2n for n, 2n - 1 for -n.
        fn next_of_differences(&mut self) -> u64 {
            let number = self.next();
            let half = number / 2;
            let difference = if number.is_multiple_of(2) { half } else { half.wrapping_add(1).wrapping_neg() };
            self.last = self.last.wrapping_add(difference);
            self.last
        }

        fn take(&mut self, len: u64) -> Vec<u8> {
            let start = self.at;
            self.at += usize::try_from(len).unwrap();
            self.bytes[start..self.at].to_vec()
        }
    }

    fn to_number(value: &Value) -> u64 {
        value.as_u64().or_else(|| value.as_str()?.parse().ok()).unwrap()
    }

    fn at(list: &Value, index: u64) -> &Value {
        &list[usize::try_from(index).unwrap()]
    }

    fn word<'a>(words: &'a Value, index: &Value) -> &'a str {
        let word = at(words, to_number(index));
        word.as_str().or_else(|| word[0].as_str()).unwrap()
    }

    fn encoded(recording: &Recording) -> Value {
        let (mut json, findings) = (Vec::new(), halloo::observe::findings(recording));
        write(recording, &findings, "run.json", &mut json).unwrap();
        serde_json::from_slice(&json).unwrap()
    }

    /// The entries of the JSON, by its description in `decode.js`.
    fn decoded(data: &Value) -> Vec<Decoded> {
        let names = ["shape", "lane", "time", "first", "second", "slot", "address", "payloadLength", "payload"];
        let [
            mut shapes,
            mut lanes,
            mut times,
            mut first,
            mut second,
            mut slots,
            mut addresses,
            mut lengths,
            mut payload,
        ] = names.map(|name| Column::new(data, name));
        let entries = (0..to_number(&data["entryCount"])).map(|_| {
            let shape = at(&data["shapes"], shapes.next());
            let lane = at(&data["lanes"], lanes.next_of_differences());
            let has = |bit: u64| to_number(&shape[3]) & bit > 0;
            let to_object = |index| Object::from_word(word(&data["objectKinds"], index)).unwrap();
            let lane_slot = u32::try_from(to_number(&lane[2])).unwrap();
            let text = |number| at(&data["addresses"], number).as_str().unwrap().to_owned();
            Decoded {
                loop_index: to_number(&lane[0]),
                lane: (to_object(&lane[1]), lane_slot, to_number(&lane[3])),
                kind: EntryKind::from_word(word(&data["kinds"], &shape[0])).unwrap(),
                object: to_object(&shape[1]),
                slot: if has(4) { u32::try_from(slots.next()).unwrap() } else { lane_slot },
                numbers: [&mut first, &mut second].map(|column| column.next().wrapping_sub(1)),
                errno: u16::try_from(to_number(&shape[2])).unwrap(),
                time: times.next_of_differences(),
                address: has(1).then(|| text(addresses.next())),
                payload: has(2).then(|| {
                    let len = lengths.next();
                    payload.take(len)
                }),
            }
        });
        let entries = entries.collect();
        for column in [shapes, lanes, times, first, second, slots, addresses, lengths, payload] {
            assert_eq!(column.at, column.bytes.len(), "a column has more than its entries");
        }
        entries
    }

    /// What a reader should see of the entries of one loop.
    fn expected(loop_index: usize, part: &LoopRecording) -> Vec<Decoded> {
        let with_details = |(index, entry): (usize, &Entry)| {
            let details: Vec<&Detail> =
                part.details.iter().filter(|(of, _)| *of == index).map(|(_, detail)| detail).collect();
            let payload = details.iter().find_map(|detail| match detail {
                Detail::Payload { start, len } => Some(part.payload[*start as usize..][..*len as usize].to_vec()),
                _ => None,
            });
            let address = details.iter().find(|detail| !matches!(detail, Detail::Payload { .. }));
            Decoded {
                loop_index: loop_index as u64,
                lane: entry.lane(),
                kind: entry.kind,
                object: entry.object,
                slot: entry.slot,
                numbers: entry.numbers,
                errno: entry.errno.map_or(0, NonZeroU16::get),
                time: start_of(part).saturating_add(entry.nanoseconds),
                address: address.map(|detail| display(detail)),
                payload,
            }
        };
        part.entries.iter().enumerate().map(with_details).collect()
    }

    proptest! {
        #[test]
        fn the_decoded_entries_equal_the_encoded_ones(recording in any_recording()) {
            let mut decoded = decoded(&encoded(&recording));
            let is_end = |entry: &Decoded| entry.kind == EntryKind::CallbackEnd;
            for (loop_index, part) in recording.loops.iter().enumerate() {
                let mut expected = expected(loop_index, part);
                let of_loop = decoded.extract_if(.., |entry| entry.loop_index == loop_index as u64);
                let of_loop: Vec<Decoded> = of_loop.collect();
                for (entry, found) in expected.iter_mut().zip(&of_loop).filter(|(entry, _)| is_end(entry)) {
                    // It may be in the lane of its begin.
                    entry.lane = found.lane;
                }
                prop_assert_eq!(of_loop, expected);
            }
            prop_assert!(decoded.is_empty());
        }

        #[test]
        fn the_entries_of_all_loops_are_in_the_order_of_their_times(recording in any_recording()) {
            let mut recording = recording;
            for part in &mut recording.loops {
                part.entries.sort_by_key(|entry| entry.nanoseconds);
            }
            let times: Vec<u64> = decoded(&encoded(&recording)).iter().map(|entry| entry.time).collect();
            prop_assert!(times.is_sorted(), "{:?}", times);
        }
    }

    fn recording_of(loops: Vec<Vec<Entry>>) -> Recording {
        let mut recording = Recording::default();
        recording.loops = loops
            .into_iter()
            .map(|entries| {
                let mut part = LoopRecording::default();
                part.entries = entries;
                part
            })
            .collect();
        recording
    }

    #[test]
    fn the_end_of_a_callback_is_in_the_lane_of_its_begin() {
        let on_timer =
            |kind, generation| Entry::new(kind, Object::Timer, 2, generation).numbers([Callback::Timer as u64, 0]);
        // The timer removed itself, so the end has no generation.
        let entries = vec![on_timer(EntryKind::CallbackBegin, 9), on_timer(EntryKind::CallbackEnd, 0)];
        let lanes: Vec<_> = decoded(&encoded(&recording_of(vec![entries]))).iter().map(|entry| entry.lane).collect();
        assert_eq!(lanes, [(Object::Timer, 2, 9); 2]);
    }

    #[test]
    fn a_finding_has_the_place_of_its_entry_among_those_of_all_loops() {
        let of_loop = |kind, ms| Entry::new(kind, Object::Loop, 0, 0).at(Duration::from_millis(ms));
        let on_data = |kind, ms| {
            let numbers = [Callback::Data as u64, 5];
            Entry::new(kind, Object::Connection, 3, 17).numbers(numbers).at(Duration::from_millis(ms))
        };
        let quick = vec![of_loop(EntryKind::PollBegin, 1), of_loop(EntryKind::PollEnd, 1)];
        let slow = vec![
            of_loop(EntryKind::PollEnd, 0),
            on_data(EntryKind::CallbackBegin, 2),
            on_data(EntryKind::CallbackEnd, 2_000),
            of_loop(EntryKind::TurnEnd, 2_000),
        ];
        let data = encoded(&recording_of(vec![quick, slow]));
        let finding = &data["findings"][0];
        assert_eq!(
            (&finding["kind"], &finding["loop"], &finding["unit"]),
            (&json!("slow-callback"), &json!(1), &json!("ns"))
        );
        let begin = &decoded(&data)[usize::try_from(to_number(&finding["index"])).unwrap()];
        assert_eq!((begin.loop_index, begin.kind, begin.numbers[1]), (1, EntryKind::CallbackBegin, 5));
        assert_eq!(at(&data["lanes"], to_number(&finding["lane"])), &json!([1, Object::Connection as u8, 3, 17, null]));
    }

    #[test]
    fn an_error_number_has_its_name_or_its_digits() {
        let read =
            |errno| Entry { errno: NonZeroU16::new(errno), ..Entry::new(EntryKind::Read, Object::Connection, 0, 1) };
        let data = encoded(&recording_of(vec![vec![read(11), read(9_999)]]));
        assert_eq!((&data["errors"]["11"][0], &data["errors"]["9999"][0]), (&json!("EAGAIN"), &json!("error 9999")));
    }
}
