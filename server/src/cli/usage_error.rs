//! Usage errors: one line each, with the cause and a hint.
//!
//! A long argument is truncated, so that cause and hint stay visible.

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command, CommandFactory};

use crate::cli::flags::CommandLine;
use crate::cli::flags::probe_options::ProxySource;
use crate::cli::flags::values::{is_page, parse_occurrences, parse_yes_or_no};
use crate::cli::near_miss::{are_targets, is_address, nearest, with_port};
use crate::exit::{ExitError, ExitStatus};
use crate::text::address::UNIX_PREFIX;
use crate::text::{LEAVE_FLAG_OUT, escape};

/// The longest error message, in bytes. Messages of halloo are shorter; this bounds those of other parsers.
const MESSAGE_BYTES_MAX: usize = 1024;

/// Flags of other programs that mean the same as `--listen`.
const ADDRESS_FLAGS: [&str; 7] = ["-p", "-l", "--port", "--host", "--bind", "--address", "--addr"];

/// The commands.
const COMMANDS: [&str; 5] = ["serve", "probe", "view", "tour", "generate"];

/// A usage error with that message.
pub(crate) fn usage_error(message: &str) -> ExitError {
    ExitError::new(ExitStatus::UsageError, escape::message(message, MESSAGE_BYTES_MAX))
}

/// The command line, as error messages refer to it.
pub(crate) struct Arguments<'a> {
    arguments: &'a [OsString],
    /// All commands, with the flags that clap adds.
    root: Command,
}

impl<'a> Arguments<'a> {
    pub(crate) fn new(arguments: &'a [OsString]) -> Self {
        let mut root = CommandLine::command();
        root.build();
        Self { arguments, root }
    }

    /// The command whose flags apply.
    fn command(&self) -> &Command {
        self.arguments.get(1).and_then(|name| self.root.find_subcommand(name)).unwrap_or(&self.root)
    }

    /// The name of that command.
    fn command_name(&self) -> &'static str {
        COMMANDS.into_iter().find(|name| *name == self.command().get_name()).unwrap_or("serve")
    }

    fn help_command(&self) -> String {
        match self.command_name() {
            "serve" => "halloo --help".to_owned(),
            name => format!("halloo {name} --help"),
        }
    }

    /// Returns an error if the value of a flag is itself a flag: the value was left out.
    pub(crate) fn check_values(&self) -> Result<(), ExitError> {
        let mut rest = self.arguments.iter().skip(1).map(|argument| argument.to_string_lossy());
        while let Some(argument) = rest.next().filter(|argument| argument != "--") {
            let Some(flag) = self.flag(&argument).filter(|flag| needs_value(flag)) else { continue };
            let Some(value) = rest.next() else { break };
            if self.flag(value.split('=').next().unwrap_or_default()).is_some() {
                let shown = escape::excerpt(&value);
                let (example, is_text) = (example(flag), value_name(flag) == "TEXT");
                let literal =
                    if is_text { format!(", or {argument}={shown} if that is the text") } else { String::new() };
                return Err(usage_error(&format!(
                    "a value is required for {argument}, but {shown} is a flag; write {example}{literal}"
                )));
            }
        }
        Ok(())
    }

    /// The flag of this command with that name, dashes included.
    fn flag(&self, name: &str) -> Option<&Arg> {
        flag_of(self.command(), name)
    }

    /// The argument of `halloo generate`, the only one without a flag that has known values.
    fn documents(&self) -> Option<&Arg> {
        self.command().get_positionals().next()
    }

    /// Turns clap's error into a line of our own.
    pub(crate) fn describe(&self, error: &clap::Error) -> ExitError {
        let text = |kind| match error.get(kind) {
            Some(ContextValue::String(text)) => text.as_str(),
            _ => "",
        };
        // The text is `--greeting <TEXT>`, `--proxy[=<SOURCE>]`, `--verbose...` or `<ADDRESS>`.
        let flag =
            text(ContextKind::InvalidArg).split([' ', '=', '[']).next().unwrap_or_default().trim_end_matches("...");
        let value = escape::excerpt(text(ContextKind::InvalidValue));
        let word = text(ContextKind::InvalidSubcommand);
        let may_be_no_text = match error.kind() {
            ErrorKind::InvalidUtf8 | ErrorKind::InvalidSubcommand | ErrorKind::InvalidValue => true,
            ErrorKind::UnknownArgument => {
                flag.contains(char::REPLACEMENT_CHARACTER) && self.nearest_flag(flag).is_none()
            }
            _ => false,
        };
        if let Some(message) = self.invalid_utf8().filter(|_| may_be_no_text) {
            return usage_error(&message);
        }
        usage_error(&match error.kind() {
            ErrorKind::UnknownArgument if self.flag(flag).is_some() => flag_behind_dashes(&escape::excerpt(flag)),
            ErrorKind::UnknownArgument if flag.starts_with("--") => self.unknown_flag(flag),
            ErrorKind::UnknownArgument if flag.starts_with('-') => self.unknown_letter(text(ContextKind::InvalidArg)),
            ErrorKind::UnknownArgument => self.unexpected_argument(text(ContextKind::InvalidArg)),
            ErrorKind::InvalidSubcommand => self.unknown_command(word),
            ErrorKind::ArgumentConflict if self.root.find_subcommand(word).is_some() => {
                format!("there is a flag before the command {word}; write halloo {word} first, and its flags after it")
            }
            ErrorKind::ArgumentConflict if !word.is_empty() => self.unexpected_argument(word),
            ErrorKind::ArgumentConflict => format!("{flag} is given twice; leave one of the two out"),
            ErrorKind::MissingRequiredArgument if self.command_name() == "view" => "the <FILE> of the recording is \
                                                                                   missing; write one, such as halloo \
                                                                                   view --findings run.json"
                .to_owned(),
            ErrorKind::MissingRequiredArgument if self.command_name() == "generate" => {
                format!("the <DOCUMENT> is missing; write {}", self.documents().map_or_else(String::new, example))
            }
            ErrorKind::MissingRequiredArgument => "the <ADDRESS> of the server is missing; write one, such as halloo \
                                                   probe localhost:8888"
                .to_owned(),
            ErrorKind::TooManyValues => self.superfluous_value(flag, &format!("={value}")),
            ErrorKind::InvalidValue if value.is_empty() => {
                let example = self.flag(flag).or_else(|| self.documents()).map_or_else(String::new, example);
                let leave_out = format!("write {example}, or {LEAVE_FLAG_OUT}");
                format!("a value is required {}; {}", self.origin(flag), self.way_out(flag, &leave_out))
            }
            ErrorKind::InvalidValue => self.unknown_value(error, flag, text(ContextKind::InvalidValue)),
            ErrorKind::ValueValidation if flag == "<ADDRESS>" && self.flag(&value).is_some() => {
                flag_behind_dashes(&value)
            }
            ErrorKind::ValueValidation if self.flag_before_yes_or_no(flag, &value).is_some() => {
                self.superfluous_value(self.flag_before_yes_or_no(flag, &value).unwrap_or_default(), &value)
            }
            ErrorKind::ValueValidation if flag == "<ADDRESS>" && are_targets(text(ContextKind::InvalidValue)) => {
                let apart = escape::excerpt(&text(ContextKind::InvalidValue).replace(',', " "));
                format!("invalid value '{value}' for <ADDRESS>: separate targets by spaces, as in halloo probe {apart}")
            }
            ErrorKind::ValueValidation => {
                let reason = error.source().map_or_else(String::new, ToString::to_string);
                let is_quoted = |quote| value.len() > 1 && value.starts_with(quote) && value.ends_with(quote);
                // Some programs that read variables from a file keep the quotes.
                let quotes = if is_quoted('"') || is_quoted('\'') { "leave out the quotes; " } else { "" };
                format!("invalid value '{value}' {}: {quotes}{}", self.origin(flag), self.way_out(flag, &reason))
            }
            _ => error.to_string().lines().next().unwrap_or_default().replace("error: ", ""),
        })
    }

    /// The flag without a value before a word for yes or no, which was parsed as the address of a probe.
    fn flag_before_yes_or_no(&self, argument: &str, word: &str) -> Option<&str> {
        let index = self.arguments.iter().position(|argument| argument == word)?;
        let previous = self.arguments[index.checked_sub(1)?].to_str()?;
        let is_flag = self.flag(previous).is_some_and(|flag| !flag.get_action().takes_values());
        (argument == "<ADDRESS>" && is_flag && parse_yes_or_no(word).is_ok()).then_some(previous)
    }

    /// Returns an error for two words of the probe that are more likely one: a host and its port, or `--proxy` and its
    /// source.
    pub(crate) fn check_targets(&self, targets: &[&str]) -> Result<(), ExitError> {
        let after_proxy = self.arguments.windows(2).find(|pair| pair[0] == "--proxy").and_then(|pair| pair[1].to_str());
        if let Some(word) =
            after_proxy.filter(|word| targets.len() > 1 && matches!(word.parse(), Ok(ProxySource::Ip(_))))
        {
            let shown = escape::excerpt(word);
            return Err(usage_error(&format!(
                "unexpected argument {shown}; write --proxy={shown} for the client in the header, or --proxy after the \
                 addresses"
            )));
        }
        for pair in targets.windows(2) {
            if let Some(address) = with_port(pair[0], pair[1]) {
                let shown = escape::excerpt(pair[1]);
                return Err(usage_error(&format!(
                    "unexpected argument {shown}; put a colon before a port, as in halloo probe {address}; a second \
                     server is written localhost:{shown}"
                )));
            }
        }
        Ok(())
    }

    fn unknown_flag(&self, flag: &str) -> String {
        match self.nearest_flag(flag) {
            Some(meant) if self.other_command_with(flag).is_none() => {
                let (flag, help) = (escape::excerpt(flag), self.help_command());
                format!("unknown flag {flag}; did you mean --{meant}? {help} lists all flags")
            }
            _ => self.foreign_flag(flag, ""),
        }
    }

    /// An unknown flag of one letter. Clap takes each letter after one hyphen for a flag.
    fn unknown_letter(&self, flag: &str) -> String {
        let is_letter_in =
            |argument: &&str| argument.starts_with('-') && !argument.starts_with("--") && argument.contains(&flag[1..]);
        let argument = self.arguments.iter().filter_map(|argument| argument.to_str()).find(is_letter_in);
        match argument.filter(|argument| *argument != flag) {
            Some(argument) if self.nearest_flag(argument).is_some() => self.unknown_flag(argument),
            Some(argument) => self.foreign_flag(flag, &format!(" in {}", escape::excerpt(argument))),
            None => self.foreign_flag(flag, ""),
        }
    }

    /// A flag that resembles none of this command.
    fn foreign_flag(&self, flag: &str, place: &str) -> String {
        let (shown, help) = (format!("{}{place}", escape::excerpt(flag)), self.help_command());
        if let Some(other) = self.other_command_with(flag) {
            let this = self.command_name();
            return format!("{shown} is a flag of halloo {other}; {help} lists those of {this}");
        }
        let is_address_flag = ADDRESS_FLAGS.contains(&flag) && self.command_name() != "view";
        match self.command_name() {
            "probe" if is_address_flag => {
                format!("unknown flag {shown}; write the address alone, as in halloo probe localhost:9000")
            }
            "tour" if is_address_flag => {
                format!("unknown flag {shown}; write the address as --against 9000 or --against name:9000")
            }
            _ if is_address_flag => {
                format!("unknown flag {shown}; write the address as --listen 9000 or --listen 0.0.0.0:9000")
            }
            _ => format!("unknown flag {shown}; {help} lists all flags"),
        }
    }

    /// The name of another command that has this flag.
    fn other_command_with(&self, flag: &str) -> Option<&'static str> {
        let has_flag = |name: &str| self.root.find_subcommand(name).is_some_and(|one| flag_of(one, flag).is_some());
        let mut others = COMMANDS.into_iter().filter(|name| *name != self.command_name());
        others.find(|name| has_flag(name))
    }

    fn nearest_flag(&self, flag: &str) -> Option<&str> {
        nearest(flag.trim_start_matches('-'), self.command().get_arguments().filter_map(Arg::get_long))
    }

    /// A value for a flag that takes none.
    fn superfluous_value(&self, flag: &str, value: &str) -> String {
        let count = self.flag(flag).filter(|flag| matches!(flag.get_action(), ArgAction::Count));
        let letter = count.and_then(Arg::get_short);
        let repeat = letter.map_or_else(String::new, |letter| format!(", or write -{letter}{letter} for two"));
        format!("{flag} takes no value; leave out {value}{repeat}")
    }

    /// An unexpected word after a command or after flags.
    fn unexpected_argument(&self, word: &str) -> String {
        let shown = escape::excerpt(word);
        let index = self.arguments.iter().rposition(|argument| argument == word).unwrap_or_default();
        let before = |count: usize| index.checked_sub(count).and_then(|index| self.arguments[index].to_str());
        let previous = before(1).unwrap_or_default();
        // A larger number is more likely a port.
        let is_count = parse_occurrences(word).is_ok_and(|count| count < 10);
        if is_count && self.flag(previous).is_some_and(|flag| !flag.get_action().takes_values()) {
            return self.superfluous_value(previous, &shown);
        }
        // The host and the port are two words.
        let (flag, host) = previous.split_once('=').unwrap_or((before(2).unwrap_or_default(), previous));
        if self.flag(flag).is_some_and(|flag| value_name(flag) == "ADDRESS")
            && let Some(address) = with_port(host, word)
        {
            return format!("unexpected argument {shown}; put a colon before the port: write {flag} {address}");
        }
        match self.command_name() {
            "probe" => format!("unexpected argument {shown}; halloo probe --help lists the flags"),
            "view" if is_page(Path::new(word)) => {
                format!("unexpected argument {shown}: a page is written with a flag; write --html {shown}")
            }
            "view" => {
                format!("unexpected argument {shown}: one recording is read; halloo view --help lists the flags")
            }
            _ if self.command_name() == "generate" => {
                format!("unexpected argument {shown}: one document is printed; halloo generate --help lists them")
            }
            _ if is_address(word) => {
                let port = self.arguments.get(index + 1).and_then(|next| next.to_str());
                let address = port.and_then(|port| with_port(word, port)).unwrap_or_else(|| shown.clone());
                format!("unexpected argument {shown}; to serve there write --listen {address}")
            }
            _ => format!("unexpected argument {shown}; halloo --help lists the flags"),
        }
    }

    fn unknown_command(&self, word: &str) -> String {
        let shown = if word.is_empty() { "''".to_owned() } else { escape::excerpt(word) };
        let is_help = self.arguments.get(1).is_some_and(|command| command == "help");
        if word.starts_with("--") && !is_help {
            return flag_behind_dashes(&shown);
        }
        // Text processors replace one or two hyphens by these dashes.
        let without_dash = word.trim_start_matches(['\u{2010}', '\u{2011}', '\u{2013}', '\u{2014}', '\u{2212}']);
        if let Some(meant) = self.nearest_flag(without_dash).filter(|_| without_dash != word) {
            return format!("unknown flag {shown}; did you mean --{meant}? It is written with two hyphens (-)");
        }
        if is_help && (word.starts_with('-') || self.arguments.get(2).is_some_and(|name| name != word)) {
            return format!("unexpected argument {shown}; halloo help takes one command: {}", COMMANDS.join(", "));
        }
        if let Some(meant) = nearest(word, self.root.get_subcommands().map(Command::get_name)) {
            return format!("unknown command {shown}; did you mean {meant}?");
        }
        if self.flag(&format!("--{word}")).is_some() {
            return format!("unknown command {shown}; did you mean --{shown}?");
        }
        let path =
            word.strip_prefix(UNIX_PREFIX).or_else(|| (word.contains('/') || word.starts_with('@')).then_some(word));
        if let Some(path) = path.filter(|path| !path.contains("://")).map(escape::excerpt) {
            return format!(
                "unknown command {shown}; to serve there write --unix {path}, to ask it write halloo probe \
                 {UNIX_PREFIX}{path}"
            );
        }
        if is_address(word) {
            // The host and the port are two words, as other programs take them.
            let port =
                self.arguments.get(1).filter(|first| *first == word).and_then(|_| self.arguments.get(2)?.to_str());
            let address = port.and_then(|port| with_port(word, port)).unwrap_or_else(|| shown.clone());
            return format!(
                "unknown command {shown}; to serve there write --listen {address}, to ask it write halloo probe \
                 {address}"
            );
        }
        format!(
            "unknown command {shown}; the commands are {}, an address to serve is written --listen ADDRESS, and halloo \
             --help lists all flags",
            COMMANDS.join(", ")
        )
    }

    fn unknown_value(&self, error: &clap::Error, flag: &str, value: &str) -> String {
        let Some(ContextValue::Strings(known)) = error.get(ContextKind::ValidValue) else {
            return error.to_string().lines().next().unwrap_or_default().to_owned();
        };
        let (shown, origin, list) = (escape::excerpt(value), self.origin(flag), known.join(", "));
        match nearest(value, known.iter().map(String::as_str)) {
            Some(meant) => format!("invalid value '{shown}' {origin}; did you mean {meant}? Known values are {list}"),
            None => format!("invalid value '{shown}' {origin}; known values are {list}"),
        }
    }

    /// The origin of a wrong value: the flag, or its environment variable.
    fn origin(&self, flag: &str) -> String {
        self.variable(flag).map_or_else(|| format!("for {flag}"), |variable| format!("of {variable}"))
    }

    /// The reason with the right hint: a flag is left out, a variable is unset. The address of a probe is required.
    fn way_out(&self, flag: &str, reason: &str) -> String {
        match self.variable(flag) {
            Some(variable) => reason.replace(LEAVE_FLAG_OUT, &format!("unset {variable}")),
            None if flag.starts_with('-') => reason.to_owned(),
            None => reason.replace(&format!(", or {LEAVE_FLAG_OUT}"), ""),
        }
    }

    /// The environment variable that gave the value of this flag.
    fn variable(&self, flag: &str) -> Option<String> {
        self.flag(flag).and_then(|argument| self.variable_of(argument))
    }

    /// The environment variable that gave the value, unless the flag itself did.
    fn variable_of(&self, argument: &Arg) -> Option<String> {
        let is_this = |name: &OsString| {
            let name = name.to_string_lossy();
            self.flag(name.split('=').next().unwrap_or_default())
                .is_some_and(|found| found.get_id() == argument.get_id())
        };
        let variable = argument.get_env().filter(|variable| std::env::var_os(variable).is_some())?;
        (!self.arguments.iter().any(is_this)).then(|| variable.to_string_lossy().into_owned())
    }

    /// The error for an argument or a variable that is not UTF-8. A path may contain any bytes.
    fn invalid_utf8(&self) -> Option<String> {
        let sentence = |subject: &str, value: &OsStr| {
            format!("{subject} is not valid UTF-8: {}; write it in UTF-8", escape::text(value.as_bytes()))
        };
        let mut previous = "";
        for argument in self.arguments.iter().skip(1) {
            let Some(text) = argument.to_str() else {
                let bytes = argument.as_bytes();
                let (name, value) = bytes.split_at(bytes.iter().position(|byte| *byte == b'=').unwrap_or(0));
                return Some(match (std::str::from_utf8(name), self.flag(previous)) {
                    (Ok(name), _) if self.flag(name).is_some_and(|flag| !takes_a_path(flag)) => {
                        sentence(&format!("the value of {name}"), OsStr::from_bytes(&value[1..]))
                    }
                    (_, Some(flag)) if flag.get_action().takes_values() && !takes_a_path(flag) => {
                        sentence(&format!("the value of {previous}"), argument)
                    }
                    _ => sentence("the argument", argument),
                });
            };
            previous = text;
        }
        self.command().get_arguments().filter(|argument| !takes_a_path(argument)).find_map(|argument| {
            let variable = self.variable_of(argument)?;
            let value = std::env::var_os(&variable).filter(|value| value.to_str().is_none())?;
            Some(sentence(&format!("the value of {variable}"), &value))
        })
    }
}

/// After `--` nothing is a flag.
fn flag_behind_dashes(shown: &str) -> String {
    format!("{shown} is not a flag after --; leave out the --")
}

/// The flag of a command with that name, dashes included.
fn flag_of<'c>(command: &'c Command, name: &str) -> Option<&'c Arg> {
    let is_named = |flag: &&Arg| match (name.strip_prefix("--"), name.strip_prefix('-')) {
        (Some(long), _) => flag.get_long() == Some(long),
        (None, Some(letter)) => flag.get_short().is_some_and(|short| letter.chars().eq([short])),
        (None, None) => false,
    };
    command.get_arguments().find(is_named)
}

/// Whether the value of an argument is a path, by its name.
pub(crate) fn takes_a_path(argument: &Arg) -> bool {
    matches!(value_name(argument), "PATH" | "FILE" | "OUT" | "FOLDER")
}

fn value_name(argument: &Arg) -> &str {
    argument.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str())
}

/// Whether the next argument is the value of this flag.
fn needs_value(argument: &Arg) -> bool {
    argument.get_action().takes_values() && !argument.is_require_equals_set()
}

/// An example of a flag with its value.
fn example(argument: &Arg) -> String {
    let values: Vec<String> = argument.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
    if !values.is_empty() {
        return format!("one of {}", values.join(", "));
    }
    let flag = argument.get_long();
    let value = match value_name(argument) {
        "FILE" if flag == Some("ready-file") => "/run/halloo/ready",
        "FILE" if flag == Some("greeting-file") => "greeting.txt",
        "ADDRESS" => "9000",
        "PATH" => "/run/halloo.sock",
        "FILE" => "run.json",
        "OUT" => "run.html",
        "FOLDER" => "recordings",
        "SOURCE" => "192.0.2.7",
        "MODE" => "660",
        "SIZE" => "64MiB",
        "TEXT" => "'Hello!'",
        "TIME" => "10s",
        "N" => "10",
        "USER[:GROUP]" => "halloo",
        "FAULT" => "delay=100ms",
        other => other,
    };
    let separator = if argument.is_require_equals_set() { '=' } else { ' ' };
    flag.map_or_else(|| value.to_owned(), |flag| format!("--{flag}{separator}{value}"))
}
