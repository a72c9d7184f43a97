//! `halloo generate`: documents about the command line, from its definition.
//!
//! They are written here, without `clap_complete` and `clap_mangen`. The scripts of `clap_complete` 4 offer files for
//! numbers and times in bash, and for `--mode` in fish: its fish condition parses the words before the cursor with
//! `argparse`, which fails while the last flag has no value. The pages of `clap_mangen` have the text after the flags in
//! one piece, without sections. mandoc reports errors in their title, their date and their spaces.

mod bash_script;
mod documented;
mod fish_script;
mod flag_list;
mod man_page;
mod zsh_script;

use crate::cli::flags::generate_options::Document;
use crate::generate::documented::commands;

/// The text of a document.
pub(crate) fn document(document: Document) -> String {
    match document {
        Document::Man => man_page::man_page("serve"),
        Document::ManProbe => man_page::man_page("probe"),
        Document::ManView => man_page::man_page("view"),
        Document::ManTour => man_page::man_page("tour"),
        Document::Bash => bash_script::bash_script(&commands()),
        Document::Zsh => zsh_script::zsh_script(&commands()),
        Document::Fish => fish_script::fish_script(&commands()),
        Document::Flags => flag_list::flag_list(&commands()),
        Document::EventSchema => include_str!("../../schemas/event.schema.json").to_owned(),
        Document::LogSchema => include_str!("../../schemas/log.schema.json").to_owned(),
        Document::ProbeSchema => include_str!("../../schemas/probe.schema.json").to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::ffi::OsString;

    use clap::Arg;

    use super::document;
    use crate::cli::flags::generate_options::Document;
    use crate::cli::parse::{Invocation, parse_arguments};
    use crate::cli::usage_error::takes_a_path;
    use crate::generate::documented::{Completion, commands, completion, names, value_name};

    /// The names that a document has an entry for: flags, arguments, variables, words that are values.
    type Entries = BTreeSet<String>;

    /// The names in a text: what other characters separate.
    fn names_in(text: &str) -> Vec<String> {
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        text.split(|c| !is_of_name(c)).filter(|name| !name.is_empty()).map(str::to_owned).collect()
    }

    /// The part of a text between two others.
    fn between<'t>(text: &'t str, start: &str, end: &str) -> &'t str {
        let (_, rest) = text.split_once(start).unwrap_or_else(|| panic!("there is no {start}"));
        rest.split(end).next().unwrap_or_default()
    }

    fn of_help(command: &str) -> Entries {
        let arguments: Vec<OsString> = ["halloo", command, "--help"].map(OsString::from).to_vec();
        let Ok(Invocation::HelpOrVersion(text)) = parse_arguments(&arguments) else { panic!("no help of {command}") };
        let text = text.split("\nExamples:").next().unwrap_or_default();
        let entries = text.lines().map(str::trim_start).filter(|line| line.starts_with(['-', '<', '[']));
        entries.flat_map(|line| names_in(line.split([':']).next().unwrap_or_default())).collect()
    }

    fn of_man_page(command: &str) -> Entries {
        let page = document(match command {
            "probe" => Document::ManProbe,
            "view" => Document::ManView,
            "tour" => Document::ManTour,
            _ => Document::Man,
        });
        let terms = page.split("\n.TP\n").skip(1).filter_map(|entry| entry.lines().next());
        let plain = |term: &str| {
            [r"\fB", r"\fI", r"\fR"].iter().fold(term.replace(r"\-", "-"), |term, font| term.replace(font, " "))
        };
        terms.flat_map(|term| names_in(&plain(term))).collect()
    }

    fn of_flag_list(command: &str) -> Entries {
        let list = document(Document::Flags);
        let rows = between(&list, &format!("\n## halloo {command}\n"), "\n## ").lines();
        let cells = rows.filter(|row| row.starts_with("| `")).flat_map(|row| {
            let name_and_variable = row.split(" | ").take(2).filter(|cell| cell.starts_with(['`', '|']));
            let words = row.split("<br> `").skip(1).filter_map(|word| word.split('`').next());
            name_and_variable.chain(words).flat_map(names_in).collect::<Vec<_>>()
        });
        cells.collect()
    }

    fn of_bash(command: &str) -> Entries {
        let script = document(Document::Bash);
        let flags = between(&script, &format!("\n        {command})\n            if"), ";;");
        let values = between(&script, "case $command:$previous in", "    esac");
        let values = values.split(";;").filter(|one| one.trim_start().starts_with(&format!("{command}:")));
        values.flat_map(|one| names_in(one.split_once(')').unwrap_or_default().1)).chain(names_in(flags)).collect()
    }

    fn of_zsh(command: &str) -> Entries {
        let script = document(Document::Zsh);
        let specs = between(&script, &format!("\n        {command})\n            _arguments"), ";;\n");
        let names = |spec: &str| {
            let words = spec.split("\\:\"").filter_map(|part| part.rsplit([' ', '(']).next().map(str::to_owned));
            names_in(spec.split('[').next().unwrap_or_default()).into_iter().chain(words).collect::<Vec<_>>()
        };
        specs.lines().flat_map(names).collect()
    }

    fn of_fish(command: &str) -> Entries {
        let script = document(Document::Fish);
        let statements = script.split("\ncomplete ").filter(|one| one.contains(&format!("_command {command}'")));
        let names = |statement: &str| {
            let options: Vec<&str> = statement.split([' ', '\n', '\'']).collect();
            let flags = options.windows(2).filter_map(|pair| match pair {
                ["-l", name] => Some(format!("--{name}")),
                ["-s", name] => Some(format!("-{name}")),
                _ => None,
            });
            let words = options.iter().filter_map(|word| word.strip_suffix(r"\\t\")).map(ToString::to_string);
            flags.chain(words).collect::<Vec<_>>()
        };
        statements.flat_map(names).collect()
    }

    /// The names of an argument, and its words. A hidden flag or word has them, too.
    fn expected(argument: &Arg, has_variables: bool, has_positionals: bool) -> Vec<String> {
        let mut expected = names(argument);
        if argument.is_positional() && has_positionals {
            expected.push(value_name(argument));
        }
        if argument.get_action().takes_values() {
            expected.extend(argument.get_possible_values().iter().map(|value| value.get_name().to_owned()));
        }
        let variable = argument.get_env().filter(|_| has_variables);
        expected.extend(variable.map(|name| name.to_string_lossy().into_owned()));
        expected
    }

    #[test]
    fn shells_offer_files_for_every_path_and_for_no_other_value() {
        let commands = commands();
        let arguments: Vec<&Arg> = commands.iter().flat_map(clap::Command::get_arguments).collect();
        for argument in arguments.iter().filter(|argument| argument.get_action().takes_values()) {
            let offers_files = matches!(completion(argument), Completion::Files | Completion::Folders);
            assert_eq!(offers_files, takes_a_path(argument), "{argument}: its value_name and its value_hint");
        }
        assert!(arguments.iter().filter(|argument| takes_a_path(argument)).count() > 4, "the search is broken");
    }

    #[test]
    fn every_flag_value_and_variable_is_in_every_document_that_lists_them() {
        /// The entries of a document about a command.
        type Reader = fn(&str) -> Entries;
        let documents: [(&str, Reader, bool, bool); 6] = [
            ("the help", of_help, false, true),
            ("the man page", of_man_page, true, true),
            ("the list of flags", of_flag_list, true, true),
            ("the script for bash", of_bash, false, false),
            ("the script for zsh", of_zsh, false, false),
            ("the script for fish", of_fish, false, false),
        ];
        let (mut missing, mut checked) = (Vec::new(), 0);
        for command in commands() {
            for (document, entries, has_variables, has_positionals) in documents {
                let (name, is_man_page) = (command.get_name(), document == "the man page");
                let entries = entries(name);
                // The page of the server has the documents of generate, and not the flags that every command has.
                let is_listed = |argument: &&Arg| !(is_man_page && name == "generate" && !argument.is_positional());
                for argument in command.get_arguments().filter(is_listed) {
                    let expected = expected(argument, has_variables, has_positionals);
                    checked += expected.len();
                    let absent = expected.into_iter().filter(|one| !entries.contains(one));
                    missing.extend(absent.map(|one| format!("{one} of halloo {name} is not in {document}")));
                }
            }
        }
        assert!(checked > 500, "only {checked} names were found: the search is broken");
        assert!(missing.is_empty(), "{missing:#?}");
    }
}
