//! The completions for zsh.
//!
//! The script describes each flag to `_arguments`, by command.

use clap::{Arg, Command};

use crate::generate::documented::{
    Completion, ValueUse, completion, first_clause, flags, is_repeatable, names, summary, value_name, value_use,
};

/// The script. Only the first word after the program is a command.
pub(crate) fn zsh_script(commands: &[Command]) -> String {
    let described = |command: &Command| {
        let about = command.get_about().map_or_else(String::new, ToString::to_string);
        quoted(&format!("{}:{}", command.get_name(), first_clause(&about)))
    };
    let mut list: Vec<String> = commands.iter().map(described).collect();
    list.push(quoted("help:Print the flags of a command"));
    let cases: String = commands.iter().map(case).collect();
    format!(
        "#compdef halloo
# Completions of halloo for zsh, printed by halloo generate zsh.

_halloo_commands() {{
    local -a commands=(
        {list}
    )
    _describe command commands
}}

_halloo() {{
    local command=serve
    local -a first=()
    if (( CURRENT == 2 )); then
        first=('1:command:_halloo_commands')
    elif [[ ${{words[2]}} == ({names}|help) ]]; then
        command=${{words[2]}}
        shift words
        (( CURRENT-- ))
    fi
    case $command in
{cases}        help)
            _arguments '1:command:_halloo_commands' ;;
    esac
}}

if [[ ${{funcstack[1]}} == _halloo ]]; then
    _halloo \"$@\"
else
    compdef _halloo halloo
fi
",
        list = list.join("\n        "),
        names = commands.iter().map(Command::get_name).collect::<Vec<_>>().join("|"),
    )
}

/// The flags of a command and what follows them.
fn case(command: &Command) -> String {
    let positional = command.get_positionals().map(|argument| {
        let place = if is_repeatable(argument) { "*" } else { "1" };
        quoted(&format!("{place}:{}", value(argument)))
    });
    let specs: Vec<String> = flags(command).flat_map(specs).chain(positional).collect();
    format!(
        "        {})\n            _arguments -s $first \\\n                {} ;;\n",
        command.get_name(),
        specs.join(" \\\n                ")
    )
}

/// The specification of each name of a flag.
fn specs(flag: &Arg) -> Vec<String> {
    let names = names(flag);
    let others = names.join(" ");
    let spec = |name: &String| {
        let prefix = if is_repeatable(flag) { "*".to_owned() } else { format!("({others})") };
        let summary = escape(&summary(flag));
        quoted(&match value_use(flag) {
            ValueUse::None => format!("{prefix}{name}[{summary}]"),
            ValueUse::Optional => format!("{prefix}{name}=-[{summary}]::{}", value(flag)),
            ValueUse::Required => format!("{prefix}{name}=[{summary}]:{}", value(flag)),
        })
    };
    names.iter().map(spec).collect()
}

/// The name of a value, and what is offered for it.
fn value(argument: &Arg) -> String {
    let action = match completion(argument) {
        // A space: the name is shown, and nothing is offered.
        Completion::Nothing => " ".to_owned(),
        Completion::Files => "_files".to_owned(),
        Completion::Folders => "_files -/".to_owned(),
        Completion::Words(words) => {
            let word = |(word, help): &(String, String)| format!("{word}\\:\"{}\"", escape(first_clause(help)));
            format!("(({}))", words.iter().map(word).collect::<Vec<_>>().join(" "))
        }
    };
    format!("{}:{action}", value_name(argument))
}

/// Escapes what `_arguments` would read.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        if "[]:\\()\"$`".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// A word of the shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
