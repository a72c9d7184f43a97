//! The completions for fish.
//!
//! A condition on the second word alone decides which flags are offered, also while the last flag has no value.

use clap::{Arg, Command};

use crate::generate::documented::{Completion, ValueUse, completion, first_clause, flags, summary, value_use};

/// The script.
pub(crate) fn fish_script(commands: &[Command]) -> String {
    let names: Vec<&str> = commands.iter().map(Command::get_name).chain(["help"]).collect();
    let names = names.join(" ");
    let about = |command: &Command| command.get_about().map_or_else(String::new, ToString::to_string);
    let mut lines = vec![HEAD.replace("NAMES", &names)];
    for command in commands {
        let (name, about) = (command.get_name(), about(command));
        lines.push(format!("complete -c halloo -n __halloo_first -a {name} -d {}", quoted(first_clause(&about))));
    }
    lines.push("complete -c halloo -n __halloo_first -a help -d 'Print the flags of a command'".to_owned());
    lines.push(format!("complete -c halloo -n '__halloo_command help' -a '{names}'"));
    for command in commands {
        let start = format!("complete -c halloo -n '__halloo_command {}'", command.get_name());
        lines.extend(flags(command).map(|flag| format!("{start}{}", flag_options(flag))));
        let offered = command.get_positionals().map(offer).filter(|offered| !offered.is_empty());
        lines.extend(offered.map(|offered| format!("{start}{offered}")));
    }
    lines.join("\n") + "\n"
}

const HEAD: &str = "\
# Completions of halloo for fish, printed by halloo generate fish.

# Whether the command is the one given; without a command it is serve.
function __halloo_command
    set -l words (commandline -opc)
    if contains -- \"$words[2]\" NAMES
        test $argv[1] = $words[2]
    else
        test $argv[1] = serve
    end
end

# Whether the word at the cursor is the first one after the program.
function __halloo_first
    test (count (commandline -opc)) -eq 1
end

complete -c halloo -f";

/// The options of `complete` that describe a flag.
fn flag_options(flag: &Arg) -> String {
    let short = flag.get_short().map_or_else(String::new, |letter| format!(" -s {letter}"));
    let long = flag.get_long().map_or_else(String::new, |name| format!(" -l {name}"));
    let required = if value_use(flag) == ValueUse::Required { " -r" } else { "" };
    let offered = match offer(flag) {
        _ if value_use(flag) == ValueUse::None => String::new(),
        offered if offered.is_empty() => " -f".to_owned(),
        offered => offered,
    };
    format!("{short}{long}{required}{offered} -d {}", quoted(&summary(flag)))
}

/// The options of `complete` that offer the words for a value.
fn offer(argument: &Arg) -> String {
    match completion(argument) {
        Completion::Nothing => String::new(),
        Completion::Files => " -F".to_owned(),
        Completion::Folders => " -f -a '(__fish_complete_directories)'".to_owned(),
        Completion::Words(words) => {
            let word = |(word, help): &(String, String)| format!("{word}\\t{}", quoted(first_clause(help)));
            let words = words.iter().map(word).collect::<Vec<_>>().join("\n");
            format!(" -f -a {}", quoted(&words))
        }
    }
}

/// A word of the shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', r"\\").replace('\'', r"\'"))
}
