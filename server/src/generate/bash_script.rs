//! The completions for bash.
//!
//! The script needs no package: it uses `compgen` alone.

use clap::Command;

use crate::generate::documented::{Completion, ValueUse, completion, flags, names, value_use};

/// The script. It reads the command from the second word, and the flag from the word before the cursor.
pub(crate) fn bash_script(commands: &[Command]) -> String {
    let all: Vec<&str> = commands.iter().map(Command::get_name).chain(["help"]).collect();
    let (mut values, mut words) = (Vec::new(), Vec::new());
    for command in commands {
        let name = command.get_name();
        for flag in flags(command) {
            let patterns: Vec<String> = names(flag).iter().map(|flag| format!("{name}:{flag}")).collect();
            let (patterns, offered) = (patterns.join("|"), offer(&completion(flag)));
            match value_use(flag) {
                ValueUse::None => {}
                ValueUse::Required => values.push(format!(
                    "        {patterns})\n            {offered}\n            return ;;\n"
                )),
                // The value stands after an equals sign only.
                ValueUse::Optional => values.push(format!(
                    "        {patterns})\n            if [[ $separator == = ]]; then\n                {offered}\n                \
                     return\n            fi ;;\n"
                )),
            }
        }
        let flags: Vec<String> = flags(command).flat_map(names).collect();
        let positional = command.get_positionals().next().map_or(Completion::Nothing, completion);
        words.push(format!(
            "        {name})\n            if [[ $current == -* ]]; then\n                __halloo_words '{}'\n            \
             else\n                {}\n            fi ;;\n",
            flags.join(" "),
            offer(&positional),
        ));
    }
    let (all, values, words) = (all.join(" "), values.concat(), words.concat());
    format!(
        "{HEAD}
_halloo() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD - 1]}} command=${{COMP_WORDS[1]}}
    local separator=
    COMPREPLY=()
    # Bash takes the equals sign of --flag=value for a word.
    if [[ $current == = ]]; then
        current= separator==
    elif [[ $previous == = && $COMP_CWORD -gt 2 ]]; then
        previous=${{COMP_WORDS[COMP_CWORD - 2]}} separator==
    fi
    if [[ $COMP_CWORD == 1 && $current != -* ]]; then
        __halloo_words '{all}'
        return
    fi
    case $command in
        {pattern}) [[ $COMP_CWORD == 1 ]] && command=serve ;;
        *) command=serve ;;
    esac
    case $command:$previous in
{values}    esac
    case $command in
{words}        help) __halloo_words '{all}' ;;
    esac
}}

complete -F _halloo halloo
",
        pattern = all.replace(' ', "|"),
    )
}

const HEAD: &str = "\
# Completions of halloo for bash, printed by halloo generate bash.

__halloo_words() {
    COMPREPLY=($(compgen -W \"$1\" -- \"$current\"))
}

# Files, or with -d folders. A name may contain spaces.
__halloo_files() {
    local IFS=$'\\n'
    compopt -o filenames 2>/dev/null
    COMPREPLY=($(compgen \"$1\" -- \"$current\"))
}
";

/// The call that offers the words for a value.
fn offer(completion: &Completion) -> String {
    match completion {
        Completion::Nothing => ":".to_owned(),
        Completion::Words(words) => {
            let words: Vec<&str> = words.iter().map(|(word, _)| word.as_str()).collect();
            format!("__halloo_words '{}'", words.join(" "))
        }
        Completion::Files => "__halloo_files -f".to_owned(),
        Completion::Folders => "__halloo_files -d".to_owned(),
    }
}
