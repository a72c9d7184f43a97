//! The rules of this repository that a machine can check.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 400;
const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MIN: usize = 40;
const HEADER_WORDS_MAX: usize = 12;
const SOURCE_ENTRIES_MAX: usize = 18;
/// The twelve cases of the tour, and their list.
const FOLDER_FILES_MAX: usize = 11;

/// The cases of the tour have a file each.
const CASES_FOLDER: &str = "server/src/tour/cases";
const CASES_FILES_MAX: usize = 13;

/// Files of little code, each with the reason why it is not a part of another.
const SMALL_FILES: &[(&str, &str)] = &[
    ("src/context/handle.rs", "a public type, most of it documentation"),
    ("src/net/io_error_class.rs", "every caller of the kernel needs it"),
    ("src/state/timestamp.rs", "the clock of all deadlines, with its tests"),
    ("server/src/cli/flags/generate_options.rs", "the argument of one command"),
    ("server/src/cli/flags/view_options.rs", "the flags of one command"),
    ("server/src/process/server_state.rs", "what other threads read, apart from its writers"),
    ("server/src/process/worker_loops.rs", "what other threads reach of a worker"),
    ("server/src/text/byte_size.rs", "a format of its own, with its tests"),
    ("server/src/text/protocol.rs", "a type that every folder names"),
];

/// The dependencies of the library, each with a reason in Cargo.toml.
const LIBRARY_DEPENDENCIES: [&str; 6] = ["log", "memchr", "mio", "nix", "slab", "socket2"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}

/// The folders with the Rust files of all packages. In an unpacked crate those of other packages are missing.
const SOURCE_FOLDERS: [&str; 5] = ["src", "server", "tests", "examples", "benches"];

/// Every Rust file of the project below some folders.
fn rust_files(folders: &[&str]) -> Vec<PathBuf> {
    let is_there = |folder: &PathBuf| folder.exists();
    let folders: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).filter(is_there).collect();
    let files: Vec<PathBuf> = folders.iter().flat_map(|folder| rust_files_below(folder)).collect();
    assert!(!files.is_empty(), "no file was found");
    files
}

fn rust_files_below(folder: &Path) -> Vec<PathBuf> {
    let (mut folders, mut files) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("cannot list {}: {error}", folder.display()));
        for path in entries.map(|entry| entry.expect("an entry").path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}

/// The lines of code of a file, without documentation, comments, blank lines and the test module.
fn code(text: &str) -> Vec<&str> {
    let mut lines = text.lines().peekable();
    let mut code = Vec::new();
    while let Some(line) = lines.next() {
        let is_test_module = |next: &&str| next.starts_with("mod ") && next.ends_with('{');
        if line.starts_with("#[cfg(") && line.contains("test") && lines.peek().is_some_and(is_test_module) {
            lines.by_ref().take_while(|line| *line != "}").for_each(drop);
        } else if !line.trim().is_empty() && !line.trim_start().starts_with("//") {
            code.push(line);
        }
    }
    code
}

/// The functions among formatted lines of code, by name and length in lines.
fn functions(lines: &[&str]) -> Vec<(String, usize)> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let words: Vec<&str> = line.split_whitespace().take_while(|word| !word.contains('"')).collect();
        let Some(at) = words.iter().position(|word| *word == "fn") else { continue };
        if !words[..at].iter().all(|word| word.starts_with("pub") || matches!(*word, "const" | "async" | "extern")) {
            continue;
        }
        let is_end = |end: &&str| {
            let code = end.trim();
            indent(end) == indent(line) && (code.starts_with('}') || code.ends_with(['}', ';']))
        };
        let end = lines[start..].iter().position(is_end);
        let end = end.unwrap_or_else(|| panic!("{line} has no end; is the file formatted?"));
        found.push(((*words.get(at + 1).unwrap_or(&"?")).to_owned(), end + 1));
    }
    found
}

#[test]
fn no_file_has_more_than_400_lines_of_code_and_no_function_more_than_70() {
    let mut counted = 0;
    for path in rust_files(&SOURCE_FOLDERS) {
        let text = read(&path);
        let lines = code(&text);
        assert!(lines.len() <= FILE_LINES_MAX, "{} has {} lines of code: split it", path.display(), lines.len());
        for (name, length) in functions(&lines) {
            counted += 1;
            assert!(length <= FUNCTION_LINES_MAX, "{name} in {} has {length} lines of code", path.display());
        }
    }
    assert!(counted > 100, "only {counted} functions were found: the search is broken");
}

#[test]
fn documentation_comments_and_the_test_module_do_not_count_as_code() {
    let text = "//! Page.\n\n/// Doc.\npub fn one() {\n    // Why.\n    two();\n}\n\n#[cfg(test)]\nmod tests {\n    \
                use super::*;\n}\nfn three() -> u8;\n";
    let lines = code(text);
    assert_eq!(lines, ["pub fn one() {", "    two();", "}", "fn three() -> u8;"]);
    assert_eq!(functions(&lines), [("one()".to_owned(), 3), ("three()".to_owned(), 1)]);
}

#[test]
fn every_file_begins_with_what_it_contains_in_at_most_12_words() {
    for path in rust_files(&SOURCE_FOLDERS) {
        let text = read(&path);
        let first = text.lines().next().unwrap_or_default();
        let header = first.strip_prefix("//! ").unwrap_or_else(|| panic!("{} has no header", path.display()));
        let words = header.split_whitespace().count();
        let is_one_sentence = header.ends_with('.') && words <= HEADER_WORDS_MAX;
        assert!(is_one_sentence, "{}: not one sentence of {HEADER_WORDS_MAX} words: {header}", path.display());
    }
}

/// The folder of the package that a file belongs to.
fn package(path: &Path) -> &Path {
    path.ancestors().find(|folder| folder.join("Cargo.toml").exists()).expect("a package")
}

#[test]
fn no_two_files_of_a_package_share_a_name() {
    let mut paths_by_name = BTreeMap::new();
    for path in rust_files(&SOURCE_FOLDERS).into_iter().filter(|path| !path.ends_with("mod.rs")) {
        let name = path.file_name().expect("a name").to_owned();
        if let Some(other) = paths_by_name.insert((package(&path).to_owned(), name), path.clone()) {
            panic!("{} and {} have the same name", other.display(), path.display());
        }
    }
}

#[test]
fn folders_have_few_entries() {
    let entries = fs::read_dir(root().join("src")).expect("src").count();
    assert!(entries <= SOURCE_ENTRIES_MAX, "src shows {entries} entries");
    let mut files = BTreeMap::new();
    for path in rust_files(&SOURCE_FOLDERS) {
        *files.entry(path.parent().expect("a folder").to_owned()).or_insert(0) += 1;
    }
    for (folder, count) in files {
        let max = if folder.ends_with(CASES_FOLDER) { CASES_FILES_MAX } else { FOLDER_FILES_MAX };
        assert!(count <= max, "{} has {count} files: group them", folder.display());
    }
}

#[test]
fn a_source_file_of_less_than_40_lines_of_code_has_a_reason() {
    let mut small_files = BTreeSet::new();
    for path in rust_files(&["src", "server/src"]).into_iter().filter(|path| !path.ends_with("mod.rs")) {
        if code(&read(&path)).len() < FILE_LINES_MIN {
            small_files.insert(path.strip_prefix(root()).expect("it is below").display().to_string());
        }
    }
    // In an unpacked crate the server is missing.
    let has_server = root().join("server").exists();
    let listed = SMALL_FILES.iter().map(|(path, _)| *path).filter(|path| has_server || path.starts_with("src"));
    let listed: BTreeSet<String> = listed.map(ToOwned::to_owned).collect();
    assert_eq!(small_files, listed, "left: the small files; right: the files with a reason");
}

/// The order of folders in a page: a paragraph between backticks, such as `leaf files -> options -> ...`.
fn stated_order(page: &str) -> Vec<String> {
    let lines: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("//!")).map(str::trim).collect();
    let text = lines.join("\n");
    let mut paragraphs = text.split("\n\n").map(str::trim);
    let order = paragraphs
        .find_map(|paragraph| paragraph.strip_prefix("`leaf files -> ")?.strip_suffix('`'))
        .expect("the page has the order of its folders");
    order.split(" -> ").map(|folder| folder.trim().to_owned()).collect()
}

/// The modules of its own crate that code names: the first word after `crate::`. Comments do not count.
fn named_modules(text: &str) -> Vec<&str> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| line.split("crate::").skip(1))
        .map(|rest| rest.split(|c: char| !(c.is_ascii_lowercase() || c == '_')).next().unwrap_or_default())
        .filter(|module| !module.is_empty())
        .collect()
}

/// The position of a folder, or of a file in no folder, in the order. A name that is not in the order is a leaf file.
fn rank(order: &[String], name: &str) -> usize {
    order.iter().position(|folder| folder == name).map_or(0, |index| index + 1)
}

/// The number of references between the folders of a crate, and a text for each one against the order.
fn order_violations(source: &Path, root_file: &str) -> (usize, Vec<String>) {
    let order = stated_order(&read(&source.join(root_file)));
    let (mut references, mut violations) = (0, Vec::new());
    for path in rust_files_below(source) {
        let relative = path.strip_prefix(source).expect("it is below");
        let folder = relative.components().next().expect("it has a name").as_os_str().to_str().expect("plain names");
        // The root names all folders, and so may tests inside the crate.
        if relative == Path::new(root_file) || folder == "tests" {
            continue;
        }
        for module in named_modules(&read(&path)) {
            references += 1;
            if rank(&order, module) > rank(&order, folder.trim_end_matches(".rs")) {
                violations.push(format!("{} names {module}", relative.display()));
            }
        }
    }
    (references, violations)
}

#[test]
fn folders_of_the_library_name_only_folders_before_them() {
    let (references, violations) = order_violations(&root().join("src"), "lib.rs");
    assert!(references > 60, "only {references} references were found: the search is broken");
    assert!(violations.is_empty(), "{violations:#?}");
}

#[test]
fn folders_of_the_server_name_only_folders_before_them() {
    let (references, violations) = order_violations(&root().join("server/src"), "main.rs");
    assert!(references > 60, "only {references} references were found: the search is broken");
    assert!(violations.is_empty(), "{violations:#?}");
}

/// The calls of the seam to the kernel that move bytes or wait.
const CALLS_OF_SOCKETS: [&str; 7] =
    [".accept()", ".poll(", ".recv(", ".recv_datagrams(", ".send_datagrams(", "stream.send(", "stream.shutdown_write("];

#[test]
fn no_code_that_callbacks_reach_reads_from_a_socket_or_writes_to_one() {
    let calls_in = |folder| {
        let texts: Vec<String> = rust_files(&[folder]).iter().map(|path| code(&read(path)).join("\n")).collect();
        CALLS_OF_SOCKETS.into_iter().filter(|call| texts.iter().any(|text| text.contains(call))).collect::<Vec<_>>()
    };
    assert_eq!(calls_in("src/event_loop"), CALLS_OF_SOCKETS, "the loop makes these calls: the search is broken");
    assert_eq!(calls_in("src/context"), [""; 0], "a file that callbacks reach makes these calls");
}

#[test]
fn the_steps_of_the_life_of_a_byte_are_at_most_eleven_existing_files_each_once() {
    let page = read(&root().join("docs/life-of-a-byte.md"));
    let sources: Vec<String> = rust_files(&["src"]).iter().map(|path| read(path)).collect();
    let is_function = |word: &str, text: &str| text.contains(&format!("fn {word}("));
    let mut files = BTreeSet::new();
    for (number, step) in (1..).zip(page.split("\n## ").skip(1)) {
        let mut words = step.split('`').skip(1).step_by(2);
        let file = words.next().filter(|file| step.starts_with(&format!("{number}. `{file}`\n")));
        let file = file.unwrap_or_else(|| panic!("step {number} does not begin with a file: {step}"));
        assert!(files.insert(file), "{file} has two steps");
        let source = read(&root().join(file));
        let is_lowercase = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        let mut functions = words.take_while(|word| !word.contains('/')).filter(is_lowercase).peekable();
        let first = functions.peek().filter(|function| is_function(function, &source));
        assert!(first.is_some(), "the first function of step {number} is not in {file}");
        for word in functions {
            let is_known = sources.iter().any(|text| is_function(word, text) || text.contains(&format!("{word}:")));
            assert!(is_known, "step {number}: the source has no {word}");
        }
    }
    assert!((9..=11).contains(&files.len()), "{} files", files.len());
    let has_server = root().join("server").exists();
    let paths = page.split('`').filter(|word| word.contains('/') && word.ends_with("rs"));
    for path in paths.filter(|path| has_server || path.starts_with("src")) {
        assert!(root().join(path).exists(), "{path} does not exist");
    }
}

/// The name by which a link leads to a heading.
fn anchor(heading: &str) -> String {
    let is_kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    heading.trim().to_lowercase().chars().filter(is_kept).collect::<String>().replace(' ', "-")
}

/// The text of a page outside of its blocks of code.
fn without_code_blocks(page: &str) -> String {
    page.split("\n```").step_by(2).collect::<Vec<_>>().join("\n")
}

/// Relative targets of the links of a page: `](target)`, and `[name]: target` at its end.
fn link_targets(text: &str) -> Vec<&str> {
    let inline = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    let by_name = text.lines().filter(|line| line.starts_with('[')).filter_map(|line| line.split_once("]: "));
    let targets = inline.map(|(target, _)| target).chain(by_name.map(|(_, target)| target));
    targets.filter(|target| !target.contains("::") && !target.contains("//")).collect()
}

#[test]
fn links_between_pages_lead_to_files_and_headings() {
    let mut links = 0;
    let pages = fs::read_dir(root().join("docs")).expect("docs").map(|entry| entry.expect("an entry").path());
    let pages: Vec<PathBuf> = pages.filter(|path| path.extension() == Some("md".as_ref())).collect();
    for page in &pages {
        let text = without_code_blocks(&read(page));
        // Only the pages are in every package; other files are where the repository is.
        for target in link_targets(&text).into_iter().filter(|target| !target.starts_with("..")) {
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let linked = if file.is_empty() { page.clone() } else { page.with_file_name(file) };
            assert!(linked.exists(), "{}: {target} leads to no file", page.display());
            let linked = without_code_blocks(&read(&linked));
            let is_heading =
                |line: &str| line.strip_prefix('#').is_some_and(|rest| anchor(rest.trim_start_matches('#')) == heading);
            assert!(
                heading.is_empty() || linked.lines().any(is_heading),
                "{}: {target} leads to no heading",
                page.display()
            );
            links += 1;
        }
    }
    assert!(links > 30, "only {links} links were found: the search is broken");
}

#[test]
fn the_library_never_prints() {
    for path in rust_files(&["src"]) {
        for (number, line) in read(&path).lines().enumerate() {
            let is_code = !line.trim_start().starts_with("//");
            let prints = ["println!", "eprintln!", "print!", "eprint!", "dbg!"].iter().any(|word| line.contains(word));
            assert!(!(is_code && prints), "{}:{}: {line}", path.display(), number + 1);
        }
    }
}

#[test]
fn the_library_uses_only_the_monotonic_clock() {
    for path in rust_files(&["src"]) {
        assert!(!read(&path).contains("SystemTime"), "{} uses the time of day, which may jump", path.display());
    }
}

#[test]
fn tests_wait_for_conditions_and_do_not_sleep() {
    let support = root().join("tests/support");
    for path in rust_files(&["tests", "server/tests", "examples/protocols/tests"]) {
        let may_sleep = path.starts_with(&support) || path.ends_with("conventions.rs");
        let sleeps = read(&path).contains("thread::sleep");
        assert!(may_sleep || !sleeps, "{} sleeps: wait for a condition with `support::wait`", path.display());
    }
}

fn manifest() -> String {
    read(&root().join("Cargo.toml"))
}

#[test]
fn the_changelog_has_a_heading_for_this_version() {
    let version = env!("CARGO_PKG_VERSION");
    let changelog = read(&root().join("CHANGELOG.md"));
    assert!(changelog.contains(&format!("\n## {version}")), "CHANGELOG.md has no heading `## {version}`");
}

#[test]
fn the_library_depends_on_six_crates() {
    let mut section = String::new();
    let mut found = Vec::new();
    for line in manifest().lines() {
        if line.starts_with('[') {
            line.clone_into(&mut section);
        } else if section.ends_with("dependencies]") && !section.contains("dev-") {
            found.extend(line.split_once(" = ").map(|(name, _)| name.to_owned()));
        }
    }
    found.sort();
    assert_eq!(found, LIBRARY_DEPENDENCIES);
}

#[test]
fn no_source_file_is_unfinished() {
    for path in rust_files(&SOURCE_FOLDERS) {
        if path.ends_with("conventions.rs") {
            continue;
        }
        let text = read(&path);
        for word in ["todo!(", "unimplemented!(", "FIXME", "TODO", "allow(dead_code)", "#[ignore]"] {
            assert!(!text.contains(word), "{} has a {word}", path.display());
        }
    }
}
