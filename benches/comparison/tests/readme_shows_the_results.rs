//! The README shows the figures that the benchmark printed.

const README: &str = include_str!("../../../README.md");
const RESULTS: &str = include_str!("../results.md");

#[test]
fn the_readme_shows_the_first_table_of_the_results() {
    let table = RESULTS.split("\n\n").nth(1).expect("a title, and a table");
    assert!(table.lines().count() > 3 && table.lines().all(|line| line.starts_with('|')), "{table}");
    assert!(README.contains(table), "copy the first table of benches/comparison/results.md into README.md");
}
