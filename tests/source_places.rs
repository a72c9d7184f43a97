//! The functions that the page names for each step exist.
//!
//! A function takes a step if it notes the kind of its entry, itself or in a function that it calls.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use halloo::observe::{Callback, EntryKind};

/// A function notes a kind within this many calls.
const CALLS_MAX: usize = 2;

/// The bodies of the functions of the library, by name and file. Functions of several types may share both.
type Functions = BTreeMap<String, Vec<(String, String)>>;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}

/// The paths of the files below a folder, from the root of the repository.
fn files_below(folder: &str) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut folders, mut files) = (vec![PathBuf::from(folder)], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder)).expect("a folder of the library") {
            let path = folder.join(entry.expect("an entry").file_name());
            if root.join(&path).is_dir() { folders.push(path) } else { files.push(path.display().to_string()) }
        }
    }
    files
}

/// Formatted functions end at a brace with the indent of their first line.
fn functions() -> Functions {
    let mut functions = Functions::new();
    for file in files_below("src").into_iter().filter(|file| !file.starts_with("src/tests/")) {
        let text = read(&file);
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let lines: Vec<&str> = code.lines().collect();
        for (start, line) in lines.iter().enumerate() {
            let Some((before, name)) = line.split_once("fn ") else { continue };
            if line.trim_start().starts_with("//") || !(before.is_empty() || before.ends_with(' ')) {
                continue;
            }
            let name: String = name.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
            let end = format!("{}}}", &line[..line.len() - line.trim_start().len()]);
            let length = lines[start..].iter().position(|line| *line == end).unwrap_or(0);
            let body = lines[start + 1..=start + length].iter().filter(|line| !line.trim_start().starts_with("//"));
            functions.entry(name).or_default().push((file.clone(), body.copied().collect::<Vec<_>>().join("\n")));
        }
    }
    functions
}

/// The words of a body that are followed by a parenthesis.
fn calls_in(body: &str) -> impl Iterator<Item = &str> {
    let ends = body.match_indices('(').map(|(end, _)| &body[..end]);
    ends.filter_map(|text| text.rsplit(|letter: char| !(letter.is_alphanumeric() || letter == '_')).next())
}

/// Whether a body contains a name that no letter follows, itself or in a function that it calls.
fn contains(functions: &Functions, body: &str, name: &str, calls_max: usize) -> bool {
    let is_end = |(at, _): (usize, &str)| !body[at + name.len()..].starts_with(char::is_alphanumeric);
    body.match_indices(name).any(is_end)
        || calls_max > 0
            && calls_in(body)
                .filter_map(|call| functions.get(call))
                .flatten()
                .any(|(_, called)| contains(functions, called, name, calls_max - 1))
}

/// The places in the page: the key, the function and the file.
fn places() -> Vec<[String; 3]> {
    let text = read("server/page/words/source_places.js");
    let (_, list) = text.split_once("SOURCE_PLACES = {\n").expect("the list");
    let (list, _) = list.split_once("\n};").expect("the end of the list");
    let mut words = list.split('\'').skip(1).step_by(2).map(str::to_owned);
    let mut places = Vec::new();
    while let (Some(key), Some(function), Some(file)) = (words.next(), words.next(), words.next()) {
        places.push([key, function, file]);
    }
    places
}

#[test]
fn every_kind_of_entry_has_a_function_that_notes_it() {
    let (functions, places) = (functions(), places());
    let mut kinds = BTreeSet::new();
    for [key, function, file] in &places {
        let (kind, variant) = key.split_once(' ').unwrap_or((key, ""));
        let kind = EntryKind::from_word(kind).unwrap_or_else(|| panic!("{kind} is no kind of entry"));
        kinds.insert(kind);
        let named = functions.get(function).into_iter().flatten().filter(|(of, _)| of == file);
        let bodies: Vec<&str> = named.map(|(_, body)| body.as_str()).collect();
        assert!(!bodies.is_empty(), "{key}: {file} has no function {function}");
        // A callback is noted by one function for all, which gets its name.
        let word = variant.split(' ').next().unwrap_or_default();
        let callback = Callback::from_word(word).filter(|_| kind == EntryKind::CallbackBegin);
        let name =
            callback.map_or_else(|| format!("EntryKind::{kind:?}"), |callback| format!("Callback::{callback:?}"));
        let notes = |body: &&str| contains(&functions, body, &name, CALLS_MAX);
        assert!(bodies.iter().any(notes), "{key}: {function} in {file} does not note {name}");
    }
    let all: BTreeSet<EntryKind> = EntryKind::ALL.iter().copied().collect();
    assert_eq!(kinds, all, "a kind has no place");
}

#[test]
fn every_callback_has_the_function_that_calls_it() {
    let places = places();
    for callback in Callback::ALL {
        let key = format!("callback-begin {callback}");
        assert!(places.iter().any(|[of, ..]| *of == key), "{callback} has no place");
    }
}
