//! The pages of `docs/tour`: sections, lines of code, bugs, links.
//!
//! Their lines of code are those of the source.

use std::fs;
use std::path::{Path, PathBuf};

/// The cases, in order.
const CASES: [&str; 12] = [
    "accept-once",
    "one-datagram",
    "read-once",
    "ignored-eof",
    "partial-write",
    "fatal-reset",
    "half-close",
    "no-descriptors",
    "slot-reuse",
    "starvation",
    "slow-handler",
    "udp-source",
];

const SECTIONS: [&str; 7] =
    ["The rule", "Broken", "Right", "Run it", "What the recording shows", "Real bugs", "Read next"];

/// The size of a picture, in bytes.
const PICTURE_BYTES_MAX: u64 = 90_000;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/tour")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The page of each case: its name without the extension, and its text.
fn case_pages() -> Vec<(String, String)> {
    let names = (1..).zip(CASES).map(|(number, name)| format!("{number:02}-{name}"));
    names.map(|name| (name.clone(), read(&folder().join(name + ".md")))).collect()
}

/// All pages of the folder.
fn pages() -> Vec<(PathBuf, String)> {
    let entries = fs::read_dir(folder()).expect("the folder").map(|entry| entry.expect("an entry").path());
    let pages = entries.filter(|path| path.extension() == Some("md".as_ref()));
    pages.map(|path| (path.clone(), read(&path))).collect()
}

/// The text of a section of a page.
#[track_caller]
fn section<'a>(name: &str, page: &'a str, heading: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("{name}: no {heading}"));
    rest.split("\n## ").next().unwrap_or_default()
}

/// The file and the lines of each block of Rust in a text: the block follows the link to its file.
fn blocks(text: &str) -> Vec<(&str, Vec<&str>)> {
    let parts: Vec<&str> = text.split("```rust,ignore\n").collect();
    let pairs = parts.windows(2).map(|pair| {
        let file = pair[0].rsplit_once("](").and_then(|(_, rest)| rest.split_once(')')).map_or("", |(file, _)| file);
        (file, pair[1].split("\n```").next().unwrap_or_default().lines().collect())
    });
    pairs.collect()
}

/// Whether the lines are in a file, one after the other, at the same indentation.
fn contains_lines(source: &str, lines: &[&str]) -> bool {
    let source: Vec<&str> = source.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    source.windows(lines.len()).any(|window| {
        let offset = indent(window[0]);
        window
            .iter()
            .zip(lines)
            .all(|(there, here)| there.get(offset.min(there.len())..).is_some_and(|rest| rest == *here))
    })
}

#[test]
fn every_case_has_a_page_with_the_same_sections() {
    for (name, page) in case_pages() {
        let number_and_name = name.trim_start_matches('0').replacen('-', ". ", 1);
        assert!(page.starts_with(&format!("# {number_and_name}\n\n")), "{name}: its heading");
        let headings: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        assert_eq!(headings, SECTIONS, "{name}");
        for heading in SECTIONS {
            assert!(!section(&name, &page, heading).trim().is_empty(), "{name}: {heading} is empty");
        }
    }
}

#[test]
fn the_lines_of_code_of_every_page_are_lines_of_the_source() {
    for (name, page) in case_pages() {
        let [broken, right] = ["Broken", "Right"].map(|heading| blocks(section(&name, &page, heading)));
        let case = name.split_once('-').map_or("", |(_, case)| case).replace('-', "_");
        assert_eq!(broken.len(), 1, "{name}: one mistake");
        assert!(broken[0].0.ends_with(&format!("/cases/{case}.rs")), "{name}: the mistake is in the file of its case");
        assert!(!right.is_empty(), "{name}: the right lines");
    }
    for (path, page) in pages() {
        for (file, lines) in blocks(&page) {
            let source = read(&folder().join(file));
            assert!(contains_lines(&source, &lines), "{}: {file} has no {lines:#?}", path.display());
        }
    }
}

#[test]
fn every_page_begins_with_the_mistake_that_the_tour_prints() {
    for (name, page) in case_pages() {
        let case = name.split_once('-').map_or("", |(_, case)| case).replace('-', "_");
        let source = read(&folder().join(format!("../../server/src/tour/cases/{case}.rs")));
        let (_, rest) = source.split_once("mistake:").unwrap_or_else(|| panic!("{name}: its case has no mistake"));
        let literal = rest.trim_start().strip_prefix('"').and_then(|rest| rest.split("\",\n").next());
        let literal = literal.unwrap_or_default().replace("\\\"", "\"").replace('\\', "");
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let sentence = page.split("\n\n").nth(1).unwrap_or_default();
        assert_eq!(words(sentence), words(&literal), "{name}");
    }
}

#[test]
fn every_page_names_at_least_two_public_bugs() {
    for (name, page) in case_pages() {
        let bugs = section(&name, &page, "Real bugs").split("](https://").skip(1);
        let is_number = |rest: &str| rest.split(')').next().and_then(|url| url.rsplit('/').next()?.parse().ok());
        let numbers: Vec<u64> = bugs.filter_map(is_number).collect();
        assert!(numbers.len() >= 2, "{name}: {numbers:?}");
    }
}

#[test]
fn every_page_has_a_picture_of_its_recording_of_at_most_90_kilobytes() {
    for (name, page) in case_pages() {
        let picture = format!("images/{name}.png");
        assert!(section(&name, &page, "What the recording shows").contains(&format!("]({picture})")), "{name}");
        let bytes = fs::metadata(folder().join(&picture)).unwrap_or_else(|error| panic!("{picture}: {error}")).len();
        assert!(bytes <= PICTURE_BYTES_MAX, "{picture} has {bytes} bytes");
    }
}

#[test]
fn every_link_of_the_tour_leads_to_a_file() {
    let mut links = 0;
    for (path, page) in pages() {
        for target in page.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            if !target.is_empty() && !target.contains("://") {
                assert!(folder().join(target).exists(), "{} links to {target}", path.display());
                links += 1;
            }
        }
    }
    assert!(links > 80, "only {links} links were found: the search is broken");
}
