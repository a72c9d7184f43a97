//! The page that plays a recording: one HTML file.

#[cfg(test)]
pub(crate) mod any_recording;
mod page_data;

use std::io::{self, Write};

use halloo::observe::{Finding, Recording};

/// The page without styles, scripts and data. Each has its mark.
const PAGE: &str = include_str!("../../page/page.html");

/// The style sheets, in their order.
const STYLES: &[&str] = &[
    include_str!("../../page/page.css"),
    include_str!("../../page/panels/panels.css"),
    include_str!("../../page/tables/tables.css"),
    include_str!("../../page/timeline/timeline.css"),
];

/// The modules of the script. A module comes after those that its top level uses.
const SCRIPTS: &[&str] = &[
    include_str!("../../page/recording/decode.js"),
    include_str!("../../page/words/kinds.js"),
    include_str!("../../page/words/source_places.js"),
    include_str!("../../page/words/step_facts.js"),
    include_str!("../../page/words/sentences_of_loop.js"),
    include_str!("../../page/words/sentences_of_listeners.js"),
    include_str!("../../page/words/sentences_of_connections.js"),
    include_str!("../../page/words/sentences_of_datagrams.js"),
    include_str!("../../page/words/system_call.js"),
    include_str!("../../page/words/sentences.js"),
    include_str!("../../page/words/finding_help.js"),
    include_str!("../../page/recording/paged_map.js"),
    include_str!("../../page/recording/loop_state.js"),
    include_str!("../../page/recording/replay_steps.js"),
    include_str!("../../page/recording/replay.js"),
    include_str!("../../page/words/formatting.js"),
    include_str!("../../page/tables/table_rows.js"),
    include_str!("../../page/tables/table_parts.js"),
    include_str!("../../page/tables/slab_table.js"),
    include_str!("../../page/tables/tables.js"),
    include_str!("../../page/timeline/axis.js"),
    include_str!("../../page/timeline/spans.js"),
    include_str!("../../page/timeline/lanes.js"),
    include_str!("../../page/timeline/glyphs.js"),
    include_str!("../../page/timeline/overview.js"),
    include_str!("../../page/timeline/timeline_painter.js"),
    include_str!("../../page/timeline/timeline_labels.js"),
    include_str!("../../page/timeline/timeline_input.js"),
    include_str!("../../page/controls/navigation.js"),
    include_str!("../../page/timeline/timeline.js"),
    include_str!("../../page/controls/keys.js"),
    include_str!("../../page/controls/links.js"),
    include_str!("../../page/panels/search.js"),
    include_str!("../../page/panels/summary.js"),
    include_str!("../../page/controls/theme.js"),
    include_str!("../../page/controls/controls.js"),
    include_str!("../../page/controls/player.js"),
    include_str!("../../page/panels/help.js"),
    include_str!("../../page/panels/legend.js"),
    include_str!("../../page/panels/search_box.js"),
    include_str!("../../page/panels/step_panel.js"),
    include_str!("../../page/panels/findings_panel.js"),
    include_str!("../../page/main.js"),
];

/// The marks in [`PAGE`].
const MARKS: [&str; 3] = ["/* styles */", "/* recording */", "/* scripts */"];

/// Writes the page of a recording. `title` is its name for people.
pub(crate) fn write(recording: &Recording, findings: &[Finding], title: &str, out: &mut dyn Write) -> io::Result<()> {
    let mut rest = PAGE;
    for mark in MARKS {
        let (before, after) = rest.split_once(mark).expect("the page has each mark, in their order");
        out.write_all(before.as_bytes())?;
        match mark {
            "/* styles */" => STYLES.iter().try_for_each(|style| out.write_all(style.as_bytes()))?,
            "/* recording */" => page_data::write(recording, findings, title, out)?,
            _ => write_scripts(out)?,
        }
        rest = after;
    }
    out.write_all(rest.as_bytes())
}

/// Joins the modules to one: their imports are dropped, and their exports become plain declarations.
fn write_scripts(out: &mut dyn Write) -> io::Result<()> {
    for line in SCRIPTS.iter().flat_map(|script| script.lines()).filter(|line| !line.starts_with("import ")) {
        out.write_all(line.strip_prefix("export ").unwrap_or(line).as_bytes())?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use halloo::observe::{Callback, Detail, Entry, EntryKind, LoopRecording, Object};

    use super::*;

    /// The largest page of 100,000 entries, in bytes.
    const PAGE_BYTES_MAX: usize = 2_000_000;

    fn page(part: LoopRecording, title: &str) -> String {
        let mut recording = Recording::default();
        recording.loops.push(part);
        let (mut page, findings) = (Vec::new(), halloo::observe::findings(&recording));
        write(&recording, &findings, title, &mut page).unwrap();
        String::from_utf8(page).unwrap()
    }

    /// The entries of a client that connects, asks and leaves, in the proportions and with the times of a busy server.
    fn push_exchange(part: &mut LoopRecording, number: u64) {
        use EntryKind::{
            Accept, CallbackBegin, CallbackEnd, Closed, DeadlineSet, Freed, Opened, PollBegin, PollEnd, Read,
            Readiness, Registered, ShutdownWrite, TurnEnd, Write,
        };
        let start = 616_863_619 + number * 97_003;
        let (generation, slot) = (1_048_576 + number, u32::try_from(number % 7).unwrap());
        let (open, data, close) = (Callback::Open as u64, Callback::Data as u64, Callback::Close as u64);
        for (kind, object, numbers, after) in [
            (PollBegin, Object::Loop, [499_999_871 - number % 1_000, 0], 1_579),
            (PollEnd, Object::Loop, [1, 0], 25_346),
            (Readiness, Object::Listener, [1, 1_048_578], 25_346),
            (Accept, Object::Listener, [8, 0], 25_346),
            (Opened, Object::Connection, [8, 0], 25_346),
            (CallbackBegin, Object::Connection, [open, 0], 25_346),
            (CallbackEnd, Object::Connection, [open, 0], 29_654 + number % 991),
            (Read, Object::Connection, [0, 65_536], 29_654 + number % 991),
            (Registered, Object::Connection, [0, 0], 29_654 + number % 991),
            (DeadlineSet, Object::Connection, [60_000_000_000 + start, 0], 29_654 + number % 991),
            (TurnEnd, Object::Loop, [1, 0], 36_910 + number % 983),
            (PollBegin, Object::Loop, [60_009_989_031 - number % 977, 0], 38_833 + number % 983),
            (PollEnd, Object::Loop, [1, 0], 53_659 + number % 971),
            (Readiness, Object::Connection, [3, generation], 53_659 + number % 971),
            (Read, Object::Connection, [19, 65_536], 53_659 + number % 971),
            (CallbackBegin, Object::Connection, [data, 19], 53_659 + number % 971),
            (CallbackEnd, Object::Connection, [data, 19], 57_382 + number % 967),
            (Write, Object::Connection, [18, 18], 57_382 + number % 967),
            (ShutdownWrite, Object::Connection, [0, 0], 57_382 + number % 967),
            (Closed, Object::Connection, [0, 0], 57_382 + number % 967),
            (CallbackBegin, Object::Connection, [close, 0], 57_382 + number % 967),
            (CallbackEnd, Object::Connection, [close, 0], 94_823 + number % 953),
            (Freed, Object::Connection, [0, 0], 94_823 + number % 953),
            (TurnEnd, Object::Loop, [1, 0], 95_937 + number % 953),
        ] {
            let (slot, generation) = match object {
                Object::Connection => (slot, generation),
                Object::Listener => (0, 1_048_578),
                _ => (0, 0),
            };
            if kind == Opened {
                let client = ([192, 168, 100, 7], u16::try_from(1_024 + number * 8 % 60_000).unwrap());
                part.details.push((part.entries.len(), Detail::Address(client.into())));
            }
            let entry = Entry::new(kind, object, slot, generation).numbers(numbers);
            part.entries.push(Entry { nanoseconds: start + after, ..entry });
        }
    }

    #[test]
    fn the_page_of_100_000_entries_has_at_most_2_000_000_bytes() {
        let mut part = LoopRecording::default();
        for number in 0.. {
            if part.entries.len() >= 100_000 {
                break;
            }
            push_exchange(&mut part, number);
        }
        let bytes = page(part, "run.json").len();
        assert!(bytes <= PAGE_BYTES_MAX, "{bytes} bytes");
    }

    #[test]
    fn text_of_a_recording_cannot_end_its_script_or_begin_another() {
        let hostile = "</script><script>alert(1)</script><!-- \" ' & \u{2028} \\";
        let mut part = LoopRecording::default();
        part.name = hostile.to_owned();
        part.payload = hostile.into();
        for detail in [Detail::Path(hostile.into()), Detail::Payload { start: 0, len: 20 }] {
            part.details.push((part.entries.len(), detail));
            part.entries.push(Entry::new(EntryKind::Opened, Object::Connection, 0, 1));
        }
        let (hostile, plain) = (page(part, hostile), page(LoopRecording::default(), ""));
        for mark in ["<script", "</script", "<!--", "<"] {
            assert_eq!(hostile.matches(mark).count(), plain.matches(mark).count(), "{mark}");
        }
    }

    #[test]
    fn the_page_loads_nothing() {
        let page = page(LoopRecording::default(), "run.json");
        let policy =
            page.find(r#"content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline';"#);
        assert!(policy < page.find("<style") && policy.is_some(), "the policy stands before what it applies to");
        for part in ["src=", "@import", "url(", "<link", "<img", "<iframe", "<base", "<object", "<embed", "import("] {
            assert!(!page.contains(part), "{part}");
        }
        // The name of a language is no address that is loaded.
        let page = page.replace("http://www.w3.org/2000/svg", "");
        for address in ["http:", "https:", "href=\"/"] {
            assert!(!page.contains(address), "{address}");
        }
    }

    #[test]
    fn a_script_of_the_page_neither_imports_nor_exports() {
        let page = page(LoopRecording::default(), "run.json");
        let (_, script) = page.split_once("<script type=\"module\">").unwrap();
        assert!(script.contains("function decodeRecording("));
        for line in script.lines() {
            assert!(!line.starts_with("import") && !line.starts_with("export"), "{line}");
        }
    }

    #[test]
    fn every_file_of_the_page_is_a_part_of_it() {
        let page = page(LoopRecording::default(), "run.json");
        let list = |folder: PathBuf| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let entries: Vec<PathBuf> = list(Path::new(env!("CARGO_MANIFEST_DIR")).join("page")).collect();
        let is_outside = |folder: &&PathBuf| folder.ends_with("tests") || folder.ends_with("node_modules");
        let folders = entries.iter().filter(|path| path.is_dir() && !is_outside(path));
        let files: Vec<PathBuf> = folders.flat_map(|folder| list(folder.clone())).collect();
        let mut count = 0;
        for path in entries.into_iter().chain(files) {
            if !path.extension().is_some_and(|extension| ["css", "js"].iter().any(|known| extension == *known)) {
                continue;
            }
            // The first comment of a file says what it contains, so no two are equal.
            let text = fs::read_to_string(&path).unwrap();
            let first = text.lines().next().unwrap();
            assert_eq!(page.matches(first).count(), 1, "{} in the page", path.display());
            count += 1;
        }
        assert_eq!(count, STYLES.len() + SCRIPTS.len());
    }
}
