//! The page of guarantees names only existing tests and invariants.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const PAGE: &str = "docs/guarantees.md";

/// The name of the simulation in the page, and the file of its invariants.
const SIMULATION: &str = "simulation";
const INVARIANTS: &str = "src/tests/invariants.rs";

const GROUPS: [&str; 10] = [
    "Accept",
    "Streams",
    "Outbound connections",
    "UDP",
    "The process",
    "Admin endpoint",
    "Faults on purpose",
    "Handlers",
    "Memory and work",
    "The journal",
];

/// Fewer than there are. With less than these the search or the page is broken.
const ROWS_MIN: usize = 85;
const ROWS_IN_A_GROUP_MIN: usize = 6;
const TESTS_MIN: usize = 150;
const INVARIANTS_MIN: usize = 5;

/// One line of the page.
struct Row {
    group: String,
    case: String,
    outcome: String,
    /// The tests that prove it: file, or `simulation` for an invariant, and function.
    tests: Vec<(String, String)>,
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}

fn rows() -> Vec<Row> {
    let (page, mut group) = (read(PAGE), String::new());
    let mut rows = Vec::new();
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("# ") {
            heading.clone_into(&mut group);
        }
        let Some(cells) = line.strip_prefix('|') else { continue };
        if line.starts_with("|---") || line == "| case | what happens | tests |" {
            continue;
        }
        let cells: Vec<&str> = cells.trim_end().trim_end_matches('|').split('|').map(str::trim).collect();
        let [case, outcome, tests] = cells[..] else { panic!("not three cells: {line}") };
        let tests = tests.split("<br>").map(str::trim).filter(|name| !name.is_empty()).map(named_test).collect();
        rows.push(Row { group: group.clone(), case: case.to_owned(), outcome: outcome.to_owned(), tests });
    }
    rows
}

fn named_test(code: &str) -> (String, String) {
    let text = code.strip_prefix('`').and_then(|rest| rest.strip_suffix('`'));
    let (place, name) = text.and_then(|text| text.split_once(": ")).unwrap_or_else(|| panic!("no place: {code}"));
    (place.to_owned(), name.to_owned())
}

/// The name of the function that starts in a line, if one does.
fn function(line: &str) -> Option<&str> {
    let (before, rest) = line.trim_start().split_once("fn ")?;
    let is_declared = before.is_empty() || (before.starts_with("pub") && before.ends_with(' '));
    is_declared.then_some(rest)?.split(['(', '<']).next()
}

/// An ignored test that `.ci/run` runs: the attribute names what it needs of the machine.
const NEEDS: &str = "#[ignore = \"needs ";

/// The tests of a file that run by default or in `.ci/run`, also those inside `proptest!`.
fn tests(text: &str) -> BTreeSet<&str> {
    let mut lines = text.lines().map(str::trim);
    let mut found = BTreeSet::new();
    while lines.any(|line| line == "#[test]") {
        let mut attributes = lines.clone().take_while(|line| line.starts_with("#[") || line.starts_with("//"));
        let is_ignored = attributes.any(|line| line.starts_with("#[ignore") && !line.starts_with(NEEDS));
        let name = lines.by_ref().find_map(function).expect("a test is a function");
        if !is_ignored {
            found.insert(name);
        }
    }
    found
}

#[test]
fn every_case_has_an_outcome_and_tests() {
    let rows = rows();
    assert!(rows.len() >= ROWS_MIN, "only {} rows were found: the search is broken", rows.len());
    for group in GROUPS {
        let count = rows.iter().filter(|row| row.group == group).count();
        assert!(count >= ROWS_IN_A_GROUP_MIN, "only {count} rows under {group}: the search is broken");
    }
    let mut cases = BTreeSet::new();
    for Row { group, case, outcome, tests } in &rows {
        assert!(GROUPS.contains(&group.as_str()), "`{case}` is under {group}, which is no group");
        assert!(!case.is_empty() && cases.insert(case), "this case has two rows: `{case}`");
        assert!(outcome.ends_with('.'), "not a sentence: `{outcome}`");
        assert!(!tests.is_empty(), "no test for `{case}`");
        assert_eq!(tests.iter().collect::<BTreeSet<_>>().len(), tests.len(), "a test is named twice for `{case}`");
    }
}

/// Every `mod.rs` on the way from `tests/` down to the module names the next step.
fn assert_module_is_compiled(folders: &str, module: &str) {
    if folders == "tests" || folders.ends_with("/tests") || !folders.contains("tests/") {
        return;
    }
    let declaration = format!("mod {module};");
    let root = read(&format!("{folders}/mod.rs"));
    assert!(
        root.lines().any(|line| line.trim_start_matches("pub(crate) ") == declaration),
        "{folders}/mod.rs has no `{declaration}`"
    );
    let (parent, folder) = folders.rsplit_once('/').expect("a folder below tests/");
    assert_module_is_compiled(parent, folder);
}

#[test]
fn every_named_test_exists() {
    let mut checked = BTreeSet::new();
    for row in rows() {
        for (path, name) in row.tests.into_iter().filter(|(place, _)| place != SIMULATION) {
            let text = read(&path);
            assert!(tests(&text).contains(name.as_str()), "{path} has no test {name}, named for `{}`", row.case);
            // In a folder of tests only what a `mod.rs` names is compiled.
            if let Some((folders, module)) = path.trim_end_matches(".rs").rsplit_once('/') {
                assert_module_is_compiled(folders, module);
            }
            checked.insert((path, name));
        }
    }
    assert!(checked.len() >= TESTS_MIN, "only {} tests were found: the search is broken", checked.len());
}

#[test]
fn every_named_invariant_exists() {
    let text = read(INVARIANTS);
    let functions: BTreeSet<&str> = text.lines().filter_map(function).collect();
    let mut checked = BTreeSet::new();
    for row in rows() {
        for (_, name) in row.tests.into_iter().filter(|(place, _)| place == SIMULATION) {
            assert!(functions.contains(name.as_str()), "{INVARIANTS} has no {name}, named for `{}`", row.case);
            checked.insert(name);
        }
    }
    assert!(checked.len() >= INVARIANTS_MIN, "only {} invariants were found: the search is broken", checked.len());
}

#[test]
fn only_tests_that_run_are_found() {
    let text = "#[test]\n// why\n#[cfg(unix)]\nfn one() {}\nfn helper() {}\n#[test]\n#[ignore = \"long\"]\nfn two() {}\n\
                proptest! {\n    /// It holds.\n    #[test]\n    fn three(x in 0..9) {}\n}\n// #[test]\nfn four() {}\n\
                #[test]\n#[ignore = \"needs strace\"]\nfn five() {}\n";
    assert_eq!(tests(text), BTreeSet::from(["five", "one", "three"]));
    assert_eq!(function("pub(super) fn hold(core: &Core<'_, Simulated>) {"), Some("hold"));
    assert_eq!(function("    // a fn is a function"), None);
}
