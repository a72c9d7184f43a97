//! Parses the file of a recording, one line at a time.
//!
//! It returns the recording that was written, or an error that names the line.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{BufRead, Read};
use std::num::NonZeroU16;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use halloo::observe::{CLOSE_REASONS, Callback, Detail, Entry, EntryKind, LoopRecording, Object, Recording};
use serde_json::{Map, Value};

use crate::exit::cause_and_hint;
use crate::text::escape;

/// The version of the format that this parser reads.
const VERSION: u64 = 1;

/// Longer than any line of a recording: a payload of 64 KiB takes 384 KiB.
const LINE_BYTES_MAX: u64 = 4 << 20;

/// The last line of a recording.
const END: &[u8] = b"]}";

/// A JSON object.
type Json = Map<String, Value>;

/// Parses the whole file. The error is its cause and a hint.
pub(crate) fn parse(input: impl BufRead) -> Result<Recording, String> {
    let mut lines = Lines { input, number: 0, line: Vec::new() };
    let first = lines.next()?.ok_or("it is empty; record again with halloo --record FILE")?;
    let (mut recording, loops) = parse_header(first)?;
    while let Some(line) = lines.next()? {
        if line == END {
            return match lines.next()? {
                None => Ok(recording),
                Some(_) => Err(lines.not_an_event("it is behind the end of the recording")),
            };
        }
        let added = parse_event(line).and_then(|event| add_event(&event, &mut recording, &loops));
        added.map_err(|cause| lines.not_an_event(&cause))?;
    }
    Err(lines.cut_off())
}

/// The lines of a file.
struct Lines<R> {
    input: R,
    number: u64,
    line: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    /// The next line without its newline; `None` at the end of the file. Only the last line of a recording may lack its
    /// newline.
    fn next(&mut self) -> Result<Option<&[u8]>, String> {
        self.line.clear();
        let hint = "check the file, or record again";
        let read = self.input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut self.line);
        let count = read.map_err(|error| cause_and_hint(&error, hint))?;
        if count == 0 {
            return Ok(None);
        }
        self.number += 1;
        if self.line.pop_if(|byte| *byte == b'\n').is_none() && self.line != END {
            return Err(match (self.number, count as u64) {
                (1, _) => NOT_A_RECORDING.to_owned(),
                (_, LINE_BYTES_MAX) => self.not_an_event("it is too long"),
                _ => self.cut_off(),
            });
        }
        Ok(Some(&self.line))
    }

    fn cut_off(&self) -> String {
        format!("it is cut off after line {}; copy it again, or record again", self.number)
    }

    fn not_an_event(&self, cause: &str) -> String {
        format!("line {} is no event of a recording: {cause}; record again", self.number)
    }
}

const NOT_A_RECORDING: &str =
    "line 1 is not the first line of a recording; name a file that halloo --record has written";

/// The first bytes of an HTML page.
const PAGE_START: &[u8] = b"<!doctype html";

const IS_A_PAGE: &str =
    "it is an HTML page; open it in a browser, or name a JSON file that halloo --record has written";

/// Parses the first line, which lacks the brackets of the last. Returns the loops without entries, and the index of the
/// loop of each process id.
fn parse_header(line: &[u8]) -> Result<(Recording, HashMap<u64, usize>), String> {
    if line.get(..PAGE_START.len()).is_some_and(|start| start.eq_ignore_ascii_case(PAGE_START)) {
        return Err(IS_A_PAGE.to_owned());
    }
    let header: Option<Value> = serde_json::from_slice(&[line, END].concat()).ok();
    let header =
        header.as_ref().map(|header| &header["otherData"]).filter(|other| other["format"] == "halloo recording");
    let header = header.ok_or(NOT_A_RECORDING)?;
    match header["version"].as_u64() {
        Some(VERSION) => {}
        Some(version) if version > VERSION => {
            return Err(format!(
                "it has version {version} of the format, and this halloo reads version {VERSION}; use a newer halloo"
            ));
        }
        _ => return Err(NOT_A_RECORDING.to_owned()),
    }
    let mut recording = Recording::default();
    let mut loops = HashMap::new();
    for part in header["loops"].as_array().ok_or(NOT_A_RECORDING)? {
        let number = |name| part.get(name).and_then(to_number).ok_or(NOT_A_RECORDING);
        loops.insert(number("pid")?, recording.loops.len());
        loops.insert(number("peers")?, recording.loops.len());
        let mut of_loop = LoopRecording::default();
        part["name"].as_str().ok_or(NOT_A_RECORDING)?.clone_into(&mut of_loop.name);
        of_loop.started_after = Duration::from_nanos(number("started_after_ns")?);
        recording.loops.push(of_loop);
    }
    Ok((recording, loops))
}

fn parse_event(line: &[u8]) -> Result<Json, String> {
    let event = line.strip_suffix(b",").unwrap_or(line);
    match serde_json::from_slice(event) {
        Ok(Value::Object(event)) => Ok(event),
        Ok(_) => Err("it is no JSON object".to_owned()),
        // The line number of the parser is always 1.
        Err(error) => Err(format!("invalid JSON in column {}", error.column())),
    }
}

/// Adds an entry. Events without a kind are for the eye: names of lanes, and work between two polls.
fn add_event(event: &Json, recording: &mut Recording, loops: &HashMap<u64, usize>) -> Result<(), String> {
    let Some(fields) = event.get("args").and_then(Value::as_object).filter(|fields| fields.contains_key("kind")) else {
        return Ok(());
    };
    let part = event.get("pid").and_then(to_number).and_then(|pid| loops.get(&pid)).ok_or("it is of no loop")?;
    let part = &mut recording.loops[*part];
    let fields = Fields(fields);
    add_details(&fields, part)?;
    part.entries.push(parse_entry(&fields)?);
    Ok(())
}

/// The fields of an entry.
struct Fields<'a>(&'a Json);

impl Fields<'_> {
    fn text(&self, name: &str) -> Result<Option<&str>, String> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(value) => Err(wrong(name, value)),
        }
    }

    /// A word that must be there.
    fn word<T>(&self, name: &str, from_word: fn(&str) -> Option<T>) -> Result<T, String> {
        let word = self.text(name)?.ok_or_else(|| format!("{name} is missing"))?;
        from_word(word).ok_or_else(|| format!("the {name} {} is unknown", escape::excerpt(word)))
    }

    fn number(&self, name: &str) -> Result<Option<u64>, String> {
        self.0.get(name).map(|value| to_number(value).ok_or_else(|| wrong(name, value))).transpose()
    }

    /// A number of an entry, which some kinds have as a word.
    fn number_or_word(&self, name: &str) -> Result<Option<u64>, String> {
        let index = match (name, self.0.get(name).and_then(Value::as_str)) {
            ("callback", Some(word)) => Callback::from_word(word).map(|callback| callback as u64),
            ("reason", Some(word)) => {
                CLOSE_REASONS.iter().position(|reason| reason.as_str() == word).map(|index| index as u64)
            }
            _ => None,
        };
        index.map_or_else(|| self.number(name), |index| Ok(Some(index)))
    }

    /// Bytes that the file has as one character each.
    fn bytes(&self, name: &str) -> Result<Option<Vec<u8>>, String> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let bytes: Result<_, _> = text.chars().map(u8::try_from).collect();
        bytes.map(Some).map_err(|_| format!("{name} has a character that is no byte"))
    }
}

fn wrong(name: &str, value: &Value) -> String {
    format!("{name} has the wrong value {}", escape::excerpt(&value.to_string()))
}

/// A number; large ones are strings, and the largest is a word.
fn to_number(value: &Value) -> Option<u64> {
    match value {
        Value::String(word) if word == "none" => Some(u64::MAX),
        Value::String(digits) => digits.parse().ok(),
        number => number.as_u64(),
    }
}

fn parse_entry(fields: &Fields<'_>) -> Result<Entry, String> {
    let kind = fields.word("kind", EntryKind::from_word)?;
    let object = fields.word("object", Object::from_word)?;
    let slot = fields.number("slot")?.unwrap_or(0);
    let slot = u32::try_from(slot).map_err(|_| format!("there is no slot {slot}"))?;
    let mut entry = Entry::new(kind, object, slot, fields.number("generation")?.unwrap_or(0));
    for (index, name) in kind.number_names().into_iter().enumerate() {
        let number = match name {
            Some(name) => fields.number_or_word(name)?,
            None => fields.number(["first", "second"][index])?,
        };
        let is_of_connections = matches!(name, Some("listener_slot" | "reason" | "reset"));
        // Older files lack these two.
        let may_be_missing =
            matches!(name, None | Some("same_turn" | "no_client")) || is_of_connections && object != Object::Connection;
        entry.numbers[index] = match (number, name) {
            (Some(number), _) => number,
            (None, Some(name)) if !may_be_missing => return Err(format!("{name} is missing")),
            (None, _) => 0,
        };
    }
    if let Some(errno) = fields.number("errno")? {
        let errno = u16::try_from(errno).ok().and_then(NonZeroU16::new);
        entry.errno = Some(errno.ok_or("there is no such errno")?);
    }
    entry.nanoseconds = fields.number("time_ns")?.ok_or("time_ns is missing")?;
    Ok(entry)
}

/// Adds the details of the entry that comes next.
fn add_details(fields: &Fields<'_>, part: &mut LoopRecording) -> Result<(), String> {
    let index = part.entries.len();
    if let Some(address) = fields.text("address")? {
        let address = address.parse().map_err(|_| format!("{} is no address", escape::excerpt(address)))?;
        part.details.push((index, Detail::Address(address)));
    }
    if let Some(path) = fields.bytes("path")? {
        part.details.push((index, Detail::Path(PathBuf::from(OsString::from_vec(path)))));
    }
    if let Some(bytes) = fields.bytes("payload")? {
        let to_u32 = |number: usize| u32::try_from(number).map_err(|_| "the payload of its loop is longer than 4 GiB");
        let (start, len) = (to_u32(part.payload.len())?, to_u32(bytes.len())?);
        part.payload.extend(bytes);
        part.details.push((index, Detail::Payload { start, len }));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::page::any_recording::any_recording;

    fn written(recording: &Recording) -> Vec<u8> {
        let mut file = Vec::new();
        recording.write_to(&mut file).unwrap();
        file
    }

    proptest! {
        #[test]
        fn a_parsed_recording_equals_the_written_one(recording in any_recording()) {
            prop_assert_eq!(parse(&*written(&recording)), Ok(recording));
        }

        #[test]
        fn a_part_of_a_recording_is_an_error(recording in any_recording(), len in any::<prop::sample::Index>()) {
            let whole = written(&recording);
            // Only the newline at the end may be missing.
            let part = &whole[..len.index(whole.len() - 1)];
            let error = parse(part).unwrap_err();
            prop_assert!(["cut off", "first line", "empty"].iter().any(|cause| error.contains(cause)), "{}", error);
        }

        #[test]
        fn a_damaged_recording_never_panics(
            recording in any_recording(),
            at in any::<prop::sample::Index>(),
            bytes in any::<Vec<u8>>(),
        ) {
            let mut file = written(&recording);
            let at = at.index(file.len());
            file.splice(at..(at + bytes.len() / 2).min(file.len()), bytes);
            if let Err(error) = parse(&*file) {
                prop_assert!(error.contains("; ") && !error.contains(char::is_control), "{}", error);
            }
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_an_error_before_it_is_read() {
        let endless = std::io::repeat(b' ');
        let header = written(&Recording::default()).split_inclusive(|byte| *byte == b'\n').next().unwrap().to_vec();
        let error = parse(std::io::BufReader::new(header.chain(endless))).unwrap_err();
        assert_eq!(error, "line 2 is no event of a recording: it is too long; record again");
    }
}
