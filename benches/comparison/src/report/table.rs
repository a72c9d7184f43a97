//! Tables for a terminal and for a README.

/// The cell of a server that cannot do this.
pub(crate) const UNSUPPORTED: &str = "–";

/// A table with a title above and notes below.
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) header: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
    pub(crate) notes: Vec<String>,
}

impl Table {
    pub(crate) fn new(title: &str, header: &[&str]) -> Self {
        let header = header.iter().map(|&cell| cell.to_owned()).collect();
        Self { title: title.to_owned(), header, rows: Vec::new(), notes: Vec::new() }
    }

    /// Adds a row, unless the server can do nothing of what the table shows.
    pub(crate) fn push_unless_empty(&mut self, row: Vec<String>) {
        if row.iter().skip(1).any(|cell| cell != UNSUPPORTED) {
            self.rows.push(row);
        }
    }

    /// Adds a line below the table, unless it is there already.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        let note = note.into();
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// The table as text; all columns but the first are right-aligned.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{}\n", self.title);
        for row in std::iter::once(&self.header).chain(&self.rows) {
            let cells = row.iter().zip(self.widths()).enumerate().map(|(column, (cell, width))| match column {
                0 => format!("{cell:width$}"),
                _ => format!("{cell:>width$}"),
            });
            text += format!("  {}", cells.collect::<Vec<_>>().join("  ")).trim_end();
            text.push('\n');
        }
        text.extend(self.notes.iter().map(|note| format!("  {note}\n")));
        text
    }

    /// The same as Markdown.
    pub(crate) fn markdown(&self) -> String {
        let row = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let mut text = format!("**{}**\n\n{}|---", self.title, row(&self.header));
        text += &"|---:".repeat(self.header.len() - 1);
        text += "|\n";
        text.extend(self.rows.iter().map(|cells| row(cells)));
        if !self.notes.is_empty() {
            text.push('\n');
            text.extend(self.notes.iter().map(|note| format!("{note}\n")));
        }
        text
    }

    fn widths(&self) -> Vec<usize> {
        let all = || std::iter::once(&self.header).chain(&self.rows);
        let width = |column: usize| all().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        (0..self.header.len()).map(|column| width(column).unwrap_or(0)).collect()
    }
}

/// A figure without a fraction and with thousands separators: `12,345`.
pub(crate) fn thousands(figure: f64) -> String {
    let digits = format!("{:.0}", figure.abs());
    let mut text = if figure.is_sign_negative() && digits != "0" { "-".to_owned() } else { String::new() };
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new("Ages", &["name", "years"]);
        table.rows = vec![vec!["Ann".into(), "7".into()], vec!["Methuselah".into(), "969".into()]];
        table.note("by hearsay");
        table.note("by hearsay");
        table
    }

    #[test]
    fn columns_are_aligned() {
        let expected = "Ages\n  name        years\n  Ann             7\n  Methuselah    969\n  by hearsay\n";
        assert_eq!(table().text(), expected);
    }

    #[test]
    fn a_server_that_can_do_nothing_has_no_row() {
        let mut table = table();
        table.push_unless_empty(vec!["Eve".into(), UNSUPPORTED.into()]);
        table.push_unless_empty(vec!["Eva".into(), "absent".into()]);
        assert_eq!(table.rows.len(), 3);
    }

    #[test]
    fn thousands_are_separated_by_commas() {
        for (figure, text) in [(0.0, "0"), (999.4, "999"), (1000.0, "1,000"), (-1_234_567.0, "-1,234,567"), (-0.2, "0")]
        {
            assert_eq!(thousands(figure), text);
        }
    }

    #[test]
    fn markdown_has_a_rule_below_the_header_and_notes_below_the_rows() {
        let expected = "**Ages**\n\n| name | years |\n|---|---:|\n| Ann | 7 |\n| Methuselah | 969 |\n\nby hearsay\n";
        assert_eq!(table().markdown(), expected);
    }
}
