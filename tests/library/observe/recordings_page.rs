//! The tables of the page about recordings.

use halloo::observe::{EntryKind, FindingKind};

const PAGE: &str = include_str!("../../../docs/recordings.md");

/// The rows of the table with this first column, each as its cells.
fn rows(first_column: &str) -> Vec<Vec<&str>> {
    let header = format!("| {first_column} |");
    let lines = PAGE.lines().skip_while(|line| !line.starts_with(&header)).skip(2);
    let rows = lines.take_while(|line| line.starts_with('|'));
    rows.map(|line| line.trim_matches('|').split(" | ").map(|cell| cell.trim_matches([' ', '|'])).collect()).collect()
}

#[track_caller]
fn assert_rows(rows: &[Vec<&str>], expected: &[String], has_row: impl Fn(&[&str], &str) -> bool) {
    for one in expected {
        assert!(rows.iter().any(|row| has_row(row, one)), "docs/recordings.md has no row {one}");
    }
    assert_eq!(rows.len(), expected.len(), "a row too many: {rows:?}");
}

#[test]
fn the_page_has_a_row_for_each_kind_of_entry_with_the_names_of_its_numbers() {
    let row_of = |kind: &EntryKind| {
        let names = kind.number_names().into_iter().flatten();
        let names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
        format!("`{kind}` with the numbers {}", names.join(", "))
    };
    let expected: Vec<_> = EntryKind::ALL.iter().map(row_of).collect();
    assert_rows(&rows("kind"), &expected, |row, one| format!("{} with the numbers {}", row[0], row[2]) == one);
}

#[test]
fn the_page_has_a_row_for_each_kind_of_finding() {
    let expected: Vec<_> = FindingKind::ALL.iter().map(|kind| format!("`{kind}`")).collect();
    assert_rows(&rows("finding"), &expected, |row, one| row[0] == one);
}
