//! The list of all flags and variables, in Markdown.
//!
//! It is committed as `docs/flags.md`.

use clap::{Arg, Command};

use crate::cli::help::{Block, sections};
use crate::generate::documented::{
    ValueUse, arguments_by_heading, help, names, positional_name, value_name, value_use, with_full_stop, words,
};

/// The list of all flags and variables.
pub(crate) fn flag_list(commands: &[Command]) -> String {
    let mut lines = vec![HEAD.to_owned()];
    for command in commands {
        let name = command.get_name();
        let about = command.get_about().map_or_else(String::new, ToString::to_string);
        let sentences = [format!("{about}.")].into_iter().chain(environment(command));
        lines.push(format!("\n## halloo {name}"));
        lines.extend(sentences.map(|sentence| format!("\n{}", code_of_flags(&escape(&sentence)))));
        for (heading, arguments) in arguments_by_heading(command) {
            let has_variables = arguments.iter().any(|argument| argument.get_env().is_some());
            let (names, rule) = if has_variables {
                ("| flag | variable | effect |", "|---|---|---|")
            } else {
                ("| argument | effect |", "|---|---|")
            };
            lines.push(format!("\n### {heading}\n\n{names}\n{rule}"));
            for argument in arguments {
                let variable = argument.get_env().map(|name| format!(" `{}` |", name.to_string_lossy()));
                let variable = variable.unwrap_or_else(|| if has_variables { " |".to_owned() } else { String::new() });
                lines.push(format!("| {} |{variable} {} |", signature(argument), effect(argument)));
            }
        }
    }
    lines.join("\n") + "\n"
}

const HEAD: &str = "\
# Flags and variables

`halloo generate flags` prints this page, from the definition of the command line.
[Running halloo](running.md) explains the flags with examples.";

/// The sentences about variables after the flags.
fn environment(command: &Command) -> Vec<String> {
    let notes = command.get_after_help().map_or_else(String::new, ToString::to_string);
    let sections = sections(&notes);
    let blocks = sections.into_iter().filter(|section| section.heading == "Environment").flat_map(|one| one.blocks);
    blocks.filter_map(|block| if let Block::Paragraph(text) = block { Some(text) } else { None }).collect()
}

/// The names of an argument and its value.
fn signature(argument: &Arg) -> String {
    let value = value_name(argument);
    if argument.is_positional() {
        let (start, name, end) = positional_name(argument);
        return format!("`{start}{name}{end}`");
    }
    let mut names = names(argument);
    if let Some(last) = names.last_mut() {
        match value_use(argument) {
            ValueUse::None => {}
            ValueUse::Optional => *last = format!("{last}[={value}]"),
            ValueUse::Required => *last = format!("{last} {value}"),
        }
    }
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// What an argument does, and its words, in a cell of a table.
fn effect(argument: &Arg) -> String {
    let words =
        words(argument).into_iter().map(|(word, help)| format!(" <br> `{word}`: {}", cell(&with_full_stop(&help))));
    format!("{}{}", cell(&help(argument)), words.collect::<String>())
}

fn cell(text: &str) -> String {
    code_of_flags(&escape(text)).replace('|', r"\|").replace('\n', " ")
}

/// Escapes what Markdown would read.
fn escape(text: &str) -> String {
    text.replace('\\', r"\\").replace('<', "&lt;").replace('*', r"\*").replace('[', r"\[").replace('`', r"\`")
}

/// Sets the names of flags in code.
fn code_of_flags(text: &str) -> String {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let word = |word: &str| {
        let end = word.find(|c: char| !is_of_name(c)).unwrap_or(word.len());
        let is_flag = word.strip_prefix("--").is_some_and(|name| name.starts_with(|c: char| c.is_ascii_lowercase()));
        if is_flag { format!("`{}`{}", &word[..end], &word[end..]) } else { word.to_owned() }
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}
