//! The broken and the right lines of a case, from the source.
//!
//! They are part of the program, so they are what `--serve twin` and `--serve mio` run.

use crate::tour::case::Case;
use crate::tour::screen::{COLUMNS_MAX, wrap};

/// The files of the cases, by number.
const CASE_FILES: [(&str, &str); 12] = [
    ("accept_once.rs", include_str!("../cases/accept_once.rs")),
    ("one_datagram.rs", include_str!("../cases/one_datagram.rs")),
    ("read_once.rs", include_str!("../cases/read_once.rs")),
    ("ignored_eof.rs", include_str!("../cases/ignored_eof.rs")),
    ("partial_write.rs", include_str!("../cases/partial_write.rs")),
    ("fatal_reset.rs", include_str!("../cases/fatal_reset.rs")),
    ("half_close.rs", include_str!("../cases/half_close.rs")),
    ("no_descriptors.rs", include_str!("../cases/no_descriptors.rs")),
    ("slot_reuse.rs", include_str!("../cases/slot_reuse.rs")),
    ("starvation.rs", include_str!("../cases/starvation.rs")),
    ("slow_handler.rs", include_str!("../cases/slow_handler.rs")),
    ("udp_source.rs", include_str!("../cases/udp_source.rs")),
];

/// The file with the right lines of all cases.
const RULES_FILE: &str = "server/src/tour/mio_server/rules.rs";
const RULES: &str = include_str!("../mio_server/rules.rs");

/// How far the lines stand from the margin, in the source and in output.
const INDENT: &str = "    ";

/// What a broken line begins with, and a space that no line is broken at.
const OPERATORS: [&str; 3] = ["->", "&&", "||"];
const GLUE: &str = "\u{a0}";

/// Some lines, and the file that they are from.
pub(crate) struct SourceLines {
    pub(crate) file: String,
    lines: String,
}

impl SourceLines {
    /// The mistake: the one rule that the server of a case breaks.
    pub(crate) fn broken(case: &Case) -> Self {
        let (name, text) = CASE_FILES[usize::from(case.number) - 1];
        let (_, twin) = text.split_once("impl Rules for Twin {\n").unwrap_or_default();
        let (lines, _) = twin.split_once("\n}").unwrap_or_default();
        Self { file: format!("server/src/tour/cases/{name}"), lines: lines.to_owned() }
    }

    /// The same rule in the right server.
    pub(crate) fn right(case: &Case) -> Self {
        let broken = Self::broken(case);
        let rule = format!("{INDENT}fn {}(", broken.rule());
        let at = RULES.find(&rule).unwrap_or_default();
        // The documentation before it.
        let begin = ["\n\n", "{\n"].map(|before| RULES[..at].rfind(before).map(|begin| begin + 2));
        let begin = begin.into_iter().flatten().max().unwrap_or(at);
        let end = RULES[at..].find(&format!("\n{INDENT}}}\n")).map_or(RULES.len(), |end| at + end + INDENT.len() + 2);
        Self { file: RULES_FILE.to_owned(), lines: RULES[begin..end].to_owned() }
    }

    /// The name of the rule.
    fn rule(&self) -> &str {
        let (_, rest) = self.lines.split_once("fn ").unwrap_or_default();
        rest.split('(').next().unwrap_or_default()
    }

    /// The lines with at most 80 columns. Longer lines and comments are broken between words.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for line in self.lines.lines() {
            if line.chars().count() <= COLUMNS_MAX {
                text.push_str(line);
                text.push('\n');
                continue;
            }
            let code = line.trim_start();
            let margin = &line[..line.len() - code.len()];
            let (mark, words) = match code.split_once(' ') {
                Some((mark @ ("//" | "///"), words)) => (mark, words),
                _ => ("", code),
            };
            // What is wrapped below a comment is a comment, and below code it stands further in.
            let label = if mark.is_empty() { format!("{margin}{INDENT}") } else { format!("{margin}{mark} ") };
            // An operator stands before its operand.
            let words = OPERATORS.iter().fold(words.to_owned(), |words, operator| {
                words.replace(&format!(" {operator} "), &format!(" {operator}{GLUE}"))
            });
            for (number, part) in wrap(&label, &words).replace(GLUE, " ").lines().enumerate() {
                let part = part.get(label.len()..).unwrap_or_default();
                let label = if mark.is_empty() && number == 0 { margin } else { &label };
                text.extend([label, part, "\n"]);
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::SourceLines;
    use crate::tour::cases::CASES;
    use crate::tour::screen::COLUMNS_MAX;

    #[test]
    fn every_case_has_its_broken_rule_and_the_right_one() {
        for (case, (_, text)) in CASES.iter().zip(super::CASE_FILES) {
            assert!(text.contains(&format!("number: {},", case.number)), "{}", case.name);
            let (broken, right) = (SourceLines::broken(case), SourceLines::right(case));
            assert!(!broken.rule().is_empty() && broken.rule() == right.rule(), "{}", case.name);
            for text in [broken.text(), right.text()] {
                assert_eq!(text.matches("fn ").count(), 1, "{text}");
                assert!(text.ends_with("    }\n"), "{text}");
                assert!(text.lines().all(|line| line.chars().count() <= COLUMNS_MAX), "{text}");
            }
            assert!(right.text().starts_with("    /// "), "{}", right.text());
        }
    }

    #[test]
    fn a_long_line_of_code_loses_nothing_but_its_layout() {
        for case in CASES {
            let right = SourceLines::right(case);
            let words = |text: &str| text.split_whitespace().filter(|word| !word.starts_with("//")).collect::<String>();
            assert_eq!(words(&right.text()), words(&right.lines));
        }
    }
}
