//! The man pages, in the macros of man(7).
//!
//! `mandoc -T lint` prints nothing about a page: no empty section, no line of more than 80 columns.

use clap::{Arg, Command};

use crate::cli::help::{Block, Section, sections};
use crate::generate::documented::{
    ValueUse, arguments_by_heading, commands, flags, help, names, positional_name, root, value_name, value_use,
    with_full_stop, words,
};

/// The day of the last change of the pages, which mandoc requires.
const DATE: &str = "2026-11-27";

/// The longest line of a page.
const LINE_BYTES_MAX: usize = 78;

/// The headings of the text after the flags that have a place of their own.
const ENVIRONMENT: &str = "Environment";
const EXAMPLES: &str = "Examples";
const EXIT_STATUS: &str = "Exit status";
const FILES: &str = "Files";
const OTHER_VARIABLES: &str = "Other variables";

/// Related pages of the system.
const SYSTEM_PAGES: [&str; 4] = ["nc(1)", "systemd.socket(5)", "epoll(7)", "signal(7)"];

/// The page of a command; `serve` is also the page of the program.
pub(crate) fn man_page(name: &str) -> String {
    let (root, commands) = (root(), commands());
    let is_root = name == "serve";
    let command = commands.iter().find(|command| command.get_name() == name).filter(|_| !is_root).unwrap_or(&root);
    let page = page_name(name);
    let notes = command.get_after_long_help().map_or_else(String::new, ToString::to_string);
    let notes = sections(&notes);
    let mut man = Page::default();
    let version = command.get_version().or(root.get_version()).unwrap_or_default();
    let title = page.to_uppercase().replace('-', r"\-");
    man.line(&format!(".TH {title} 1 \"{DATE}\" \"halloo {version}\" \"User Commands\""));
    // Readers search for HALLOO_LISTEN, which a hyphen would split.
    man.line(".nh");
    man.heading("Name");
    let about = command.get_about().map_or_else(String::new, ToString::to_string);
    man.text(&format!("{page} - {}", lower_first(&about)));
    man.heading("Synopsis");
    man.synopsis(command);
    man.heading("Description");
    let description = command.get_long_about().map_or(about, ToString::to_string);
    for (index, paragraph) in description.split("\n\n").enumerate() {
        if index > 0 {
            man.line(".PP");
        }
        man.text(&with_full_stop(paragraph));
    }
    if is_root {
        man.commands(&commands);
    }
    man.options(command);
    let has_own_place = |section: &&Section<'_>| {
        [ENVIRONMENT, OTHER_VARIABLES, FILES, EXAMPLES, EXIT_STATUS].contains(&section.heading)
    };
    for section in notes.iter().filter(|section| !has_own_place(section)) {
        man.section(section);
    }
    let section = |heading: &str| notes.iter().find(|section| section.heading == heading);
    for heading in [ENVIRONMENT, FILES, EXIT_STATUS, EXAMPLES] {
        if let Some(section) = section(heading) {
            man.section(section);
        }
        if heading == ENVIRONMENT {
            man.variables(command);
            man.blocks(section(OTHER_VARIABLES).map_or(&[], |section| &section.blocks));
        }
    }
    man.heading("See also");
    let own = commands.iter().map(|command| page_name(command.get_name())).filter(|other| *other != page);
    let own = own.filter(|page| page != "halloo-generate").map(|page| format!("{page}(1)"));
    man.references(&own.chain(SYSTEM_PAGES.map(str::to_owned)).collect::<Vec<_>>());
    man.text
}

/// The name of a command's page.
fn page_name(command: &str) -> String {
    if command == "serve" { "halloo".to_owned() } else { format!("halloo-{command}") }
}

/// A page in the making.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    /// A line as it is.
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn heading(&mut self, heading: &str) {
        self.line(&format!(".SH {}", escape(&heading.to_uppercase())));
    }

    /// Sentences, in lines of limited length. The names of flags are bold.
    fn text(&mut self, text: &str) {
        let mut line = String::new();
        for word in text.split_whitespace().map(styled) {
            if !line.is_empty() && line.len() + 1 + word.len() > LINE_BYTES_MAX {
                self.text_line(&line);
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(&word);
        }
        if !line.is_empty() {
            self.text_line(&line);
        }
    }

    fn text_line(&mut self, line: &str) {
        // A full stop or an apostrophe at the start would be a request.
        let guard = if line.starts_with(['.', '\'']) { r"\&" } else { "" };
        self.line(&format!("{guard}{line}"));
    }

    fn synopsis(&mut self, command: &Command) {
        let usage = command.clone().render_usage().to_string();
        for (index, line) in usage.trim_start_matches("Usage:").lines().enumerate() {
            if index > 0 {
                self.line(".br");
            }
            let is_name = |word: &&str| !word.starts_with(['<', '[']);
            let word = |word| if is_name(&word) { bold(word) } else { placeholders(word) };
            self.line(&line.split_whitespace().map(word).collect::<Vec<_>>().join(" "));
        }
    }

    fn commands(&mut self, commands: &[Command]) {
        self.heading("Commands");
        for command in commands {
            let about = command.get_about().map_or_else(String::new, ToString::to_string);
            let arguments = command.get_positionals().map(|argument| format!(" {}", signature(argument)));
            let name = format!("{}{}", bold(command.get_name()), arguments.collect::<String>());
            self.term(&name, &with_full_stop(&about));
            if let Some(page) = Some(page_name(command.get_name())).filter(|name| name != "halloo") {
                match command.get_name() {
                    "generate" => command.get_positionals().for_each(|argument| self.words(argument)),
                    _ => self.text(&format!("Its page is {page}(1).")),
                }
            }
        }
        self.term(&format!("{} {}", bold("help"), italic("COMMAND")), "Print the flags of a command.");
    }

    fn options(&mut self, command: &Command) {
        self.heading("Options");
        for (heading, arguments) in arguments_by_heading(command) {
            self.line(&format!(".SS {}", escape(heading)));
            for argument in arguments {
                self.term(&signature(argument), &help(argument));
                self.words(argument);
            }
        }
    }

    /// The words that are the values of an argument, indented.
    fn words(&mut self, argument: &Arg) {
        let words = words(argument);
        if words.is_empty() {
            return;
        }
        self.line(".RS");
        for (word, explanation) in words {
            self.term(&bold(&word), &with_full_stop(&explanation));
        }
        self.line(".RE");
    }

    fn section(&mut self, section: &Section<'_>) {
        self.heading(section.heading);
        self.blocks(&section.blocks);
    }

    fn blocks(&mut self, blocks: &[Block]) {
        for (index, block) in blocks.iter().enumerate() {
            match block {
                Block::Paragraph(text) => {
                    // mandoc reports a paragraph just after the heading.
                    if index > 0 {
                        self.line(".PP");
                    }
                    self.text(text);
                }
                Block::Term { term, explanation } => self.term(&bold(term), explanation),
            }
        }
    }

    fn variables(&mut self, command: &Command) {
        for flag in flags(command) {
            if let Some(variable) = flag.get_env() {
                let names = names(flag).join(", ");
                self.term(&bold(&variable.to_string_lossy()), &format!("The variable of {names}."));
            }
        }
    }

    /// A term and its explanation. A term without one is followed by the next term.
    fn term(&mut self, term: &str, explanation: &str) {
        if explanation.is_empty() {
            self.line(".PP");
            self.text_line(term);
        } else {
            self.line(".TP");
            self.text_line(term);
            self.text(explanation);
        }
    }

    fn references(&mut self, pages: &[String]) {
        for (index, page) in pages.iter().enumerate() {
            let (name, section) = page.split_once('(').unwrap_or((page, "1)"));
            let comma = if index + 1 < pages.len() { " ," } else { "" };
            let section = section.trim_end_matches(')');
            self.line(&format!(".BR {} ({section}){comma}", escape(name)).replace(" ,", ","));
        }
    }
}

/// The names of an argument and its value, as in `-v, --verbose...`.
fn signature(argument: &Arg) -> String {
    let name = italic(&value_name(argument));
    if argument.is_positional() {
        let (start, name, end) = positional_name(argument);
        return format!("{start}{}{end}", italic(&name));
    }
    let names: Vec<String> = names(argument).iter().map(|name| bold(name)).collect();
    let value = match value_use(argument) {
        ValueUse::None => String::new(),
        ValueUse::Optional => format!("[={name}]"),
        ValueUse::Required => format!(" {name}"),
    };
    format!("{}{value}", names.join(", "))
}

/// A word of a text: names of flags are bold.
fn styled(word: &str) -> String {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let end = word.find(|c: char| !is_of_name(c)).unwrap_or(word.len());
    let is_flag = word.strip_prefix("--").is_some_and(|name| name.starts_with(|c: char| c.is_ascii_lowercase()));
    if is_flag { format!("{}{}", bold(&word[..end]), escape(&word[end..])) } else { escape(word) }
}

fn bold(text: &str) -> String {
    format!(r"\fB{}\fR", escape(text))
}

fn italic(text: &str) -> String {
    format!(r"\fI{}\fR", escape(text))
}

/// `[OPTIONS]` and `<ADDRESS>` of a usage line: the names are italic, without angle brackets.
fn placeholders(word: &str) -> String {
    let is_name = |c: char| c.is_ascii_uppercase() || c == '_' || c == '-';
    let (mut styled, mut name) = (String::new(), String::new());
    for c in word.chars().filter(|c| !"<>".contains(*c)).chain(['\0']) {
        if is_name(c) {
            name.push(c);
            continue;
        }
        if !name.is_empty() {
            styled.push_str(&italic(&std::mem::take(&mut name)));
        }
        styled.push(c);
    }
    styled.trim_end_matches('\0').to_owned()
}

/// Escapes what roff would read or replace: a page is copied from, so that each hyphen stays one.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '\\' => escaped.push_str(r"\(rs"),
            '-' => escaped.push_str(r"\-"),
            '\'' => escaped.push_str(r"\(aq"),
            '"' => escaped.push_str(r"\(dq"),
            '`' => escaped.push_str(r"\(ga"),
            '^' => escaped.push_str(r"\(ha"),
            '~' => escaped.push_str(r"\(ti"),
            c => escaped.push(c),
        }
    }
    escaped
}

fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}
