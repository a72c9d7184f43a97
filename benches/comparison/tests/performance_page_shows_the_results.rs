//! The tables of `docs/performance.md` are those of `results.md`.

const PAGE: &str = include_str!("../../../docs/performance.md");
const RESULTS: &str = include_str!("../results.md");

/// The tables of a text, each with its title: a bold line before it.
fn tables(text: &str) -> Vec<&str> {
    let is_title = |block: &str| block.starts_with("**") && block.ends_with("**");
    let blocks: Vec<&str> = text.split("\n\n").map(str::trim).collect();
    let titled = blocks.windows(2).filter(|pair| is_title(pair[0]) && pair[1].starts_with('|'));
    titled.flat_map(|pair| [pair[0], pair[1]]).collect()
}

#[test]
fn the_tables_of_the_performance_page_are_those_of_the_results() {
    let (shown, printed) = (tables(PAGE), tables(RESULTS));
    assert!(shown.len() >= 8 && printed.len() >= shown.len(), "the search is broken: {}", shown.len());
    for pair in shown.chunks(2) {
        let is_printed = printed.chunks(2).any(|table| table == pair);
        assert!(is_printed, "copy this table of benches/comparison/results.md into docs/performance.md: {}", pair[0]);
    }
}
