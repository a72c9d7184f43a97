//! The rules of the files in `server/page` that a machine can check.
//!
//! The page is their text, joined: all scripts are one module.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const FILE_LINES_MAX: usize = 400;
const FUNCTION_LINES_MAX: usize = 70;
const HEADER_WORDS_MAX: usize = 12;

/// The list of the files of the page.
const LIST: &str = include_str!("../src/page/mod.rs");

/// What would make HTML or code of the text of a recording, or reach the network.
const FORBIDDEN: [&str; 14] = [
    "innerHTML",
    "outerHTML",
    "insertAdjacentHTML",
    "document.write",
    "setHTMLUnsafe",
    "createContextualFragment",
    "DOMParser",
    "eval(",
    "Function(",
    "fetch(",
    "XMLHttpRequest",
    "WebSocket",
    "EventSource",
    "sendBeacon",
];

struct PageFile {
    name: String,
    text: String,
}

/// The files with this extension, those of the tests included or not.
fn files(extension: &str, with_tests: bool) -> Vec<PageFile> {
    let (mut folders, mut files) = (vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("page")], Vec::new());
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            // Packages of the tests in a browser are not ours.
            if path.is_dir() && (with_tests || !path.ends_with("tests")) && !path.ends_with("node_modules") {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                files.push(PageFile { name: name_of(&path), text: fs::read_to_string(&path).expect("text") });
            }
        }
    }
    assert!(!files.is_empty(), "no .{extension} file was found");
    files
}

fn name_of(path: &Path) -> String {
    path.file_name().and_then(|name| name.to_str()).expect("a plain name").to_owned()
}

/// The lines of code, without comments and blank lines.
fn code(text: &str) -> Vec<&str> {
    let is_comment = |line: &str| ["//", "/*", "* ", "*/"].iter().any(|start| line.starts_with(start)) || line == "*";
    text.lines().filter(|line| !line.trim().is_empty() && !is_comment(line.trim())).collect()
}

/// The functions and methods among lines of code, by their first line and length.
fn functions<'a>(lines: &[&'a str]) -> Vec<(&'a str, usize)> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let control = ["if", "for", "while", "switch", "catch", "with", "else", "do", "try", "return", "class"];
    let is_function = |line: &str| {
        let line = line.trim();
        let first = line.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
        line.ends_with('{') && line.contains('(') && !control.contains(&first)
    };
    let starts = lines.iter().enumerate().filter(|(_, line)| is_function(line));
    let length = |(start, line): (usize, &&'a str)| {
        let is_end = |end: &&str| indent(end) == indent(line) && end.trim_start().starts_with('}');
        let end = lines[start..].iter().position(is_end);
        (*line, end.unwrap_or_else(|| panic!("{line} has no end; is the file formatted?")) + 1)
    };
    starts.map(length).collect()
}

/// The names that a module declares at its top level.
fn top_level_names(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let line = line.strip_prefix("export ").unwrap_or(line);
        let line = line.strip_prefix("async ").unwrap_or(line);
        let kinds = ["function* ", "function ", "class ", "const ", "let ", "var "];
        let rest = kinds.iter().find_map(|kind| line.strip_prefix(kind))?;
        rest.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '$').next()
    })
}

/// The imports of a module: the names, and the file.
fn imports(file: &PageFile) -> impl Iterator<Item = (Vec<&str>, &str)> {
    file.text.lines().filter(|line| line.starts_with("import")).map(|line| {
        let parts = line.strip_prefix("import {").and_then(|rest| rest.strip_suffix("';")?.split_once("} from '"));
        let (names, path) = parts.unwrap_or_else(|| {
            panic!("{}: not `import {{ name }} from './file.js';` on one line: {line}", file.name);
        });
        (names.split(',').map(str::trim).collect(), path.rsplit('/').next().unwrap_or(path))
    })
}

#[test]
fn a_file_of_the_page_begins_with_what_it_contains_in_at_most_12_words() {
    for file in files("js", true).into_iter().chain(files("css", true)) {
        let first = file.text.lines().next().unwrap_or_default();
        let header = first.strip_prefix("// ").or_else(|| first.strip_prefix("/* ")?.strip_suffix(" */"));
        let header = header.unwrap_or_else(|| panic!("{} does not begin with a comment", file.name));
        let words = header.split_whitespace().count();
        assert!(header.ends_with('.') && words <= HEADER_WORDS_MAX, "{}: not one short sentence: {header}", file.name);
    }
}

#[test]
fn no_script_has_more_than_400_lines_of_code_and_no_function_more_than_70() {
    let mut counted = 0;
    for file in files("js", true) {
        let lines = code(&file.text);
        assert!(lines.len() <= FILE_LINES_MAX, "{} has {} lines of code: split it", file.name, lines.len());
        for (first, length) in functions(&lines) {
            counted += 1;
            assert!(length <= FUNCTION_LINES_MAX, "{}: {length} lines of code: {first}", file.name);
        }
    }
    assert!(counted > 20, "only {counted} functions were found: the search is broken");
}

#[test]
fn functions_and_methods_are_found_and_comments_do_not_count() {
    let text = "// Head.\nexport function one(a) {\n  // Why.\n  if (a) {\n    two();\n  }\n}\n\nclass Three {\n  \
                /** Doc. */\n  four() {\n    return [];\n  }\n}\n";
    assert_eq!(functions(&code(text)), [("export function one(a) {", 5), ("  four() {", 3)]);
    assert_eq!(top_level_names(text).collect::<Vec<_>>(), ["one", "Three"]);
}

#[test]
fn no_script_makes_html_or_code_of_text_or_reaches_the_network() {
    for file in files("js", false) {
        for word in FORBIDDEN {
            assert!(!file.text.contains(word), "{} has {word}", file.name);
        }
        // It would end the script, or begin a comment, in the page.
        for mark in ["</script", "<script", "<!--"] {
            assert!(!file.text.contains(mark), "{} has {mark}", file.name);
        }
    }
}

#[test]
fn a_name_at_the_top_level_is_declared_in_one_script_only() {
    let (scripts, mut files_by_name) = (files("js", false), BTreeMap::new());
    for file in &scripts {
        for name in top_level_names(&file.text) {
            if let Some(other) = files_by_name.insert(name, &file.name) {
                panic!("{other} and {} declare {name}: all scripts are one module", file.name);
            }
        }
    }
}

#[test]
fn a_script_comes_after_those_whose_exports_it_imports() {
    let position = |name: &str| LIST.find(&format!("/{name}\")"));
    let scripts = files("js", false);
    for file in &scripts {
        for line in file.text.lines().filter(|line| line.starts_with("export")) {
            let is_plain = ["function", "class", "const", "async"].iter().any(|kind| line[7..].starts_with(kind));
            assert!(is_plain, "{}: not an export of one function, class or const: {line}", file.name);
        }
        for (names, path) in imports(file) {
            let imported = scripts.iter().find(|other| other.name == path);
            let imported =
                imported.unwrap_or_else(|| panic!("{} imports from {path}, which does not exist", file.name));
            for name in names {
                let exports = imported.text.lines().filter(|line| line.starts_with("export ")).collect::<Vec<_>>();
                let is_exported = top_level_names(&exports.join("\n")).any(|exported| exported == name);
                assert!(is_exported, "{} imports {name}, which {path} does not export", file.name);
            }
            let is_before = position(path).is_some() && position(path) < position(&file.name);
            assert!(is_before, "{path} is not before {} in the list of src/page/mod.rs", file.name);
        }
    }
}
