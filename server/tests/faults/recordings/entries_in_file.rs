//! Reads the entries in a recording.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroU16;
use std::path::Path;

use halloo::observe::{Entry, EntryKind, Object};
use serde_json::Value;

/// The entries of each loop, by its name.
#[track_caller]
pub(crate) fn read_recording(path: &Path) -> BTreeMap<String, Vec<Entry>> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    let file: Value = serde_json::from_str(&text).expect("a recording is JSON");
    let loops = file["otherData"]["loops"].as_array().expect("a recording has loops");
    let entries_of = |process: &Value| -> Vec<Entry> {
        let events = file["traceEvents"].as_array().expect("a recording has events").iter();
        events.filter(|event| event["pid"] == *process).filter_map(|event| entry_of(&event["args"])).collect()
    };
    loops.iter().map(|part| (part["name"].as_str().expect("a name").to_owned(), entries_of(&part["pid"]))).collect()
}

/// The entry in the fields of an event. Events without a kind are for the eye.
fn entry_of(fields: &Value) -> Option<Entry> {
    let kind = EntryKind::from_word(fields["kind"].as_str()?).expect("a known kind");
    let object = fields["object"].as_str().and_then(Object::from_word).expect("a known object");
    let slot = u32::try_from(number_of(&fields["slot"])).expect("a slot");
    let numbers = kind.number_names().map(|name| name.map_or(0, |name| number_of(&fields[name])));
    let mut entry = Entry::new(kind, object, slot, number_of(&fields["generation"])).numbers(numbers);
    entry.errno = u16::try_from(number_of(&fields["errno"])).ok().and_then(NonZeroU16::new);
    Some(entry)
}

/// A missing number is zero. Numbers that JSON readers may round are text; other words are for callbacks and reasons,
/// which no system call has.
fn number_of(field: &Value) -> u64 {
    match field {
        Value::Number(number) => number.as_u64().expect("a whole number"),
        Value::String(text) if text == "none" => u64::MAX,
        Value::String(text) => text.parse().unwrap_or(0),
        _ => 0,
    }
}
