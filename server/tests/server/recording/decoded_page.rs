//! The entries of a page, as its own script decodes them.

use std::num::NonZeroU16;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use halloo::observe::{Detail, Entry, EntryKind, LoopRecording, Object, Recording};

use crate::HALLOO;
use crate::recording::recording_reader::RecordingPath;

/// Prints a line for each entry: loop, number, kind, object, lane, slot, numbers, error, time, address, payload.
const PRINT: &str = r"
const { decodeRecording } = await import(process.argv[1]);
const page = (await import('node:fs')).readFileSync(process.argv[2], 'utf8');
const recording = decodeRecording(JSON.parse(/id=.recording.>(.*?)<\/script>/s.exec(page)[1]));
const lines = [];
for (let index = 0; index < recording.entryCount; index += 1) {
  const number = (which) => String(recording.exact(index, which)).replace('Infinity', 'none');
  const { kind, slot, generation } = recording.objects[recording.object[index]];
  const loop = recording.loopOf(index);
  if (recording.indexOf(loop, recording.numberOf(index)) !== index) throw new Error(`entry ${index} is not found`);
  if (!recording.entriesOf(recording.object[index]).includes(index)) throw new Error(`entry ${index} is not in its lane`);
  lines.push([loop, recording.numberOf(index), recording.kindName(index), recording.objectKinds[recording.objectKind[index]],
    `${kind}/${slot}/${generation}`, recording.slot[index], number(0), number(1), recording.errno[index],
    recording.time[index], recording.addressOf(index) ?? '-',
    recording.payloadOf(index)?.join('.') ?? '-'].join(' '));
}
console.log(lines.join('\n'));
";

/// The line of an entry.
fn line(loop_index: usize, part: &LoopRecording, index: usize) -> String {
    let entry = &part.entries[index];
    let (kind, slot, generation) = entry.lane();
    let number = |number| if number == u64::MAX { "none".to_owned() } else { u64::to_string(&number) };
    let (mut address, mut payload) = ("-".to_owned(), "-".to_owned());
    for (_, detail) in part.details.iter().filter(|(of, _)| *of == index) {
        match detail {
            Detail::Address(of_peer) => address = of_peer.to_string(),
            Detail::Payload { start, len } => {
                let bytes = &part.payload[*start as usize..][..*len as usize];
                payload = bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(".");
            }
            _ => {}
        }
    }
    format!(
        "{loop_index} {index} {} {} {kind}/{slot}/{generation} {} {} {} {} {} {address} {payload}",
        entry.kind,
        entry.object,
        entry.slot,
        number(entry.numbers[0]),
        number(entry.numbers[1]),
        entry.errno().unwrap_or(0),
        part.started_after.as_nanos() + u128::from(entry.nanoseconds),
    )
}

/// A loop with every kind of entry, of every kind of object, and numbers of every length.
fn part(loop_index: u32) -> LoopRecording {
    let mut part = LoopRecording::default();
    part.name = format!("loop {loop_index}");
    part.started_after = Duration::from_nanos(u64::from(loop_index) * 777);
    // The end of a callback may be in the lane of its begin; without a begin it is in its own.
    let kinds = EntryKind::ALL.iter().filter(|kind| **kind != EntryKind::CallbackBegin);
    for (kind, object) in kinds.flat_map(|kind| Object::ALL.iter().map(move |object| (*kind, *object))) {
        let index = part.entries.len();
        let step = u64::try_from(index).expect("few");
        let numbers = [u64::MAX >> (step % 65).min(63), (1 << (step % 64)) - 1];
        let mut entry = Entry::new(kind, object, u32::try_from(step % 5).expect("small"), step % 3).numbers(numbers);
        entry.nanoseconds = step * 1_000_003;
        entry.errno = NonZeroU16::new(u16::try_from(step % 7 * 9_362).expect("small"));
        part.entries.push(entry);
        if index % 3 == 0 {
            part.details
                .push((index, Detail::Address(([10, 0, 0, 9], 4_000 + u16::try_from(index % 5).unwrap()).into())));
        }
        if index % 4 == 0 {
            let bytes = "<payload> \u{e9}".repeat(index % 9);
            let (start, len) = (part.payload.len(), bytes.len());
            let to_u32 = |number| u32::try_from(number).expect("few");
            part.details.push((index, Detail::Payload { start: to_u32(start), len: to_u32(len) }));
            part.payload.extend(bytes.bytes());
        }
    }
    part
}

#[test]
#[ignore = "needs node"]
fn the_script_of_a_page_decodes_every_entry() {
    let path = RecordingPath::new();
    let mut recording = Recording::default();
    recording.loops = vec![part(0), part(1), LoopRecording::default(), part(3)];
    recording.save(path.path()).expect("a new file");
    let page = path.path().with_file_name("run.html");
    let page = page.to_str().expect("a plain path");
    assert_eq!(HALLOO.run(&["view", &path.text(), "--html", page]).status, 0);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("page/recording/decode.js");
    let mut node = Command::new("node");
    node.args(["--input-type=module", "--eval", PRINT]).arg(script).arg(page);
    let output = node.output().expect("node is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    let lines: Vec<&str> = text.lines().collect();
    let mut expected = Vec::new();
    for (loop_index, part) in recording.loops.iter().enumerate() {
        expected.extend((0..part.entries.len()).map(|index| {
            let time = part.started_after.as_nanos() + u128::from(part.entries[index].nanoseconds);
            ((time, loop_index, index), line(loop_index, part, index))
        }));
    }
    expected.sort();
    assert!(lines.len() == expected.len() && lines.len() > 1_000, "{} lines", lines.len());
    for (line, (_, expected)) in lines.into_iter().zip(expected) {
        assert_eq!(line, expected);
    }
}
