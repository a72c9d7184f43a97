//! What the documents have in common: the commands, their arguments and values.
//!
//! A hidden argument is in no document.

use clap::builder::ValueHint;
use clap::{Arg, ArgAction, Command, CommandFactory};

use crate::cli::flags::CommandLine;

/// The heading of clap's own flags.
const OPTIONS: &str = "Options";

/// The heading of the arguments without a flag.
const ARGUMENTS: &str = "Arguments";

/// The commands, each with its flags, also those that clap adds.
pub(crate) fn commands() -> Vec<Command> {
    root().get_subcommands().filter(|command| command.get_name() != "help").cloned().collect()
}

/// The program, with the flags of `halloo serve`.
pub(crate) fn root() -> Command {
    let mut root = CommandLine::command();
    root.build();
    root
}

/// The arguments of a command by heading, in the order of its help.
pub(crate) fn arguments_by_heading(command: &Command) -> Vec<(&str, Vec<&Arg>)> {
    let mut groups: Vec<(&str, Vec<&Arg>)> = vec![(ARGUMENTS, Vec::new()), (OPTIONS, Vec::new())];
    for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
        let default = if argument.is_positional() { ARGUMENTS } else { OPTIONS };
        let heading = argument.get_help_heading().unwrap_or(default);
        match groups.iter_mut().find(|(known, _)| *known == heading) {
            Some((_, arguments)) => arguments.push(argument),
            None => groups.push((heading, vec![argument])),
        }
    }
    groups.retain(|(_, arguments)| !arguments.is_empty());
    groups
}

/// The flags of a command.
pub(crate) fn flags(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|argument| !argument.is_hide_set() && !argument.is_positional())
}

/// The names of a flag with their hyphens, the short one first.
pub(crate) fn names(flag: &Arg) -> Vec<String> {
    let short = flag.get_short().map(|letter| format!("-{letter}"));
    let long = flag.get_long().map(|name| format!("--{name}"));
    short.into_iter().chain(long).collect()
}

/// What a shell offers for a value.
pub(crate) enum Completion {
    /// Nothing: a number, a time, an address, a text.
    Nothing,
    /// These words, each with its explanation.
    Words(Vec<(String, String)>),
    Files,
    Folders,
}

/// What a shell offers for the value of this argument.
pub(crate) fn completion(argument: &Arg) -> Completion {
    let words = words(argument);
    match argument.get_value_hint() {
        _ if !words.is_empty() => Completion::Words(words),
        ValueHint::AnyPath | ValueHint::FilePath | ValueHint::ExecutablePath => Completion::Files,
        ValueHint::DirPath => Completion::Folders,
        _ => Completion::Nothing,
    }
}

/// The words that are the values of this argument, each with its explanation.
pub(crate) fn words(argument: &Arg) -> Vec<(String, String)> {
    // A flag without a value has the words true and false.
    let values = if argument.get_action().takes_values() { argument.get_possible_values() } else { Vec::new() };
    let shown = values.iter().filter(|value| !value.is_hide_set());
    let help = |value: &clap::builder::PossibleValue| value.get_help().map_or_else(String::new, ToString::to_string);
    shown.map(|value| (value.get_name().to_owned(), help(value))).collect()
}

/// How an argument takes its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ValueUse {
    None,
    /// `--flag` or `--flag=VALUE`.
    Optional,
    /// `--flag VALUE` or `--flag=VALUE`.
    Required,
}

/// How an argument takes its value.
pub(crate) fn value_use(argument: &Arg) -> ValueUse {
    let is_optional = argument.get_num_args().is_some_and(|count| count.min_values() == 0);
    match argument.get_action().takes_values() {
        false => ValueUse::None,
        true if is_optional && !argument.is_positional() => ValueUse::Optional,
        true => ValueUse::Required,
    }
}

/// The name of an argument's value.
pub(crate) fn value_name(argument: &Arg) -> String {
    match argument.get_value_names().and_then(|names| names.first()) {
        Some(name) => name.to_string(),
        None => argument.get_id().as_str().to_uppercase(),
    }
}

/// The name of an argument without a flag, as in `[CASE]...`.
pub(crate) fn positional_name(argument: &Arg) -> (&'static str, String, &'static str) {
    let (start, end) = if argument.is_required_set() { ("", "") } else { ("[", "]") };
    let end = match (end, is_repeatable(argument)) {
        ("", true) => "...",
        (_, true) => "]...",
        (end, false) => end,
    };
    (start, value_name(argument), end)
}

/// Whether an argument may be given several times.
pub(crate) fn is_repeatable(argument: &Arg) -> bool {
    matches!(argument.get_action(), ArgAction::Append | ArgAction::Count)
}

/// The whole help of an argument, and its default as a sentence.
pub(crate) fn help(argument: &Arg) -> String {
    let help = argument.get_long_help().or_else(|| argument.get_help()).map_or_else(String::new, ToString::to_string);
    if argument.get_id() == "help" {
        return "Print help; -h prints a shorter one.".to_owned();
    }
    let is_shown = argument.get_action().takes_values() && !argument.is_hide_default_value_set();
    let defaults = argument.get_default_values().iter().filter(|_| is_shown);
    let defaults: Vec<_> = defaults.map(|value| value.to_string_lossy()).collect();
    let (help, default) = match help.strip_suffix(']').and_then(|help| help.split_once(" [default: ")) {
        Some((help, default)) => (help.to_owned(), default.to_owned()),
        None => (help, defaults.join(", ")),
    };
    let help = with_full_stop(&help);
    if default.is_empty() { help } else { format!("{help} Default: {}", with_full_stop(&default)) }
}

/// The help of a flag ends without a full stop.
pub(crate) fn with_full_stop(text: &str) -> String {
    if text.is_empty() || text.ends_with(['.', '!', '?']) { text.to_owned() } else { format!("{text}.") }
}

/// What an argument does, in at most a sentence.
pub(crate) fn summary(argument: &Arg) -> String {
    first_clause(&argument.get_help().map_or_else(String::new, ToString::to_string)).to_owned()
}

/// The text up to its first full stop, colon, semicolon or bracket.
pub(crate) fn first_clause(text: &str) -> &str {
    let ends = [". ", "; ", ": ", " [", " ("].into_iter().filter_map(|end| text.find(end));
    text[..ends.min().unwrap_or(text.len())].trim_end_matches('.')
}
