//! What `halloo generate` prints: pages in mandoc, completions in their shells.
//!
//! That each flag is in each document is tested beside the code, from the definition of the flags.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use support::process::child::run;
use support::process::server::assert_fails;

use crate::HALLOO;

const FLAGS: &str = include_str!("../../../../docs/flags.md");

/// The man pages, with their names as documents.
const MAN_PAGES: [&str; 4] = ["man", "man-probe", "man-view", "man-tour"];

#[track_caller]
fn document(name: &str) -> String {
    let output = HALLOO.run(&["generate", name]);
    assert_eq!((output.status, output.stderr.as_str()), (0, ""), "{output:?}");
    output.stdout
}

/// A program of the system, whose output is read.
fn tool(program: &str, arguments: &[&OsStr]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn the_list_of_flags_in_docs_is_the_one_of_the_command_line() {
    assert!(
        document("flags") == FLAGS,
        "docs/flags.md is out of date; write it again: cargo run -q -p halloo-server -- generate flags >docs/flags.md"
    );
}

#[test]
fn a_schema_is_printed_as_it_is_in_the_package() {
    for (name, schema) in [
        ("event-schema", include_str!("../../../schemas/event.schema.json")),
        ("log-schema", include_str!("../../../schemas/log.schema.json")),
        ("probe-schema", include_str!("../../../schemas/probe.schema.json")),
    ] {
        assert!(document(name) == schema, "{name} differs");
    }
}

#[test]
fn a_missing_unknown_or_second_document_is_answered_with_one_sentence() {
    assert_fails(&HALLOO.run(&["generate"]), 2, &["the <DOCUMENT> is missing; write one of man, man-probe,"]);
    assert_fails(
        &HALLOO.run(&["generate", "nonsense"]),
        2,
        &["invalid value 'nonsense' for <DOCUMENT>", "man, man-probe,"],
    );
    assert_fails(&HALLOO.run(&["generate", "fihs"]), 2, &["invalid value 'fihs'", "did you mean fish?"]);
    assert_fails(&HALLOO.run(&["generate", ""]), 2, &["a value is required for <DOCUMENT>; write one of man,"]);
    assert_fails(&HALLOO.run(&["generate", "man", "bash"]), 2, &["unexpected argument bash: one document is printed"]);
    assert_fails(&HALLOO.run(&["generate", "--reset"]), 2, &["unknown flag --reset; halloo generate --help lists"]);
}

#[test]
fn a_document_is_the_same_whatever_the_variables_are() {
    for name in ["man", "fish", "flags"] {
        let mut command = HALLOO.command(&["generate", name]);
        command.env("HALLOO_WORKERS", "many").env("HALLOO_MODE", "echo").env("HALLOO_PROBE_COUNT", "x");
        let output = run(command);
        assert_eq!((output.status, output.stderr.as_str()), (0, ""), "{output:?}");
        assert!(output.stdout == document(name), "{name} differs");
    }
}

#[test]
fn help_names_no_variable_but_those_of_the_rule_for_all() {
    for (arguments, variables) in [
        (&["--help"][..], &["HALLOO_UDP_RATE"][..]),
        (&["-h"], &["HALLOO_UDP_RATE"]),
        (&["probe", "--help"], &["HALLOO_PROBE_TIMEOUT"]),
        (&["view", "--help"], &["HALLOO_VIEW_FINDINGS"]),
        (&["tour", "-h"], &["HALLOO_TOUR_AGAINST"]),
    ] {
        let help = HALLOO.run(arguments).stdout;
        assert!(!help.contains("[env"), "{help}");
        let (_, rule) = help.split_once("\nEnvironment:\n").expect("a section about variables");
        assert!(variables.iter().all(|variable| rule.contains(&format!("is {variable}"))), "{rule}");
        assert!(!help.split("\nExamples:").next().unwrap_or_default().contains("HALLOO_"), "{help}");
    }
}

/// The kinds of lines in a schema.
fn events(schema: &str) -> Vec<String> {
    let lines = schema.lines().filter(|line| line.contains("\"event\": {"));
    lines.filter_map(|line| Some(line.split("\"const\": \"").nth(1)?.split('"').next()?.to_owned())).collect()
}

#[test]
fn help_and_man_page_name_every_kind_of_line_in_the_schemas() {
    for (schema, help, page) in
        [("event-schema", &["--help"][..], "man"), ("probe-schema", &["probe", "--help"], "man-probe")]
    {
        let events = events(&document(schema));
        assert!(events.len() > 1, "{events:?}");
        for text in [HALLOO.run(help).stdout, document(page)] {
            let words = text.split_whitespace().collect::<Vec<&str>>().join(" ");
            let (_, list) = words.split_once(" event is ").expect("a list of the kinds");
            let list = list.split_once(". ").expect("an end").0;
            assert!(events.iter().all(|event| list.contains(event.as_str())), "{events:?}: {list}");
        }
    }
}

#[test]
fn help_has_the_rules_for_variables_and_faults() {
    for (help, parts) in [
        (
            &["--help"][..],
            &["replaces its own variable without a warning", "of another flag adds", "open connections keep"][..],
        ),
        (&["probe", "--help"], &["replaces its own variable without a warning"]),
    ] {
        let text = HALLOO.run(help).stdout;
        let words = text.split_whitespace().collect::<Vec<&str>>().join(" ");
        for part in parts {
            assert!(words.contains(part), "{part}: {words}");
        }
    }
}

#[test]
fn a_man_page_has_the_sections_that_readers_look_for() {
    for name in MAN_PAGES {
        let page = document(name);
        let sections: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix(".SH ")).collect();
        let expected =
            ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "ENVIRONMENT", "EXIT STATUS", "EXAMPLES", "SEE ALSO"];
        let found: Vec<&str> = sections.iter().copied().filter(|one| expected.contains(one)).collect();
        assert_eq!(found, expected, "{name}: {sections:?}");
    }
    let page = document("man");
    assert!(page.contains("\n.SH COMMANDS\n") && page.contains("\n.SH SIGNALS\n"), "{page}");
}

#[test]
#[ignore = "needs mandoc"]
fn mandoc_finds_nothing_to_report_in_the_man_pages() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for name in MAN_PAGES {
        let path = folder.path().join(name);
        fs::write(&path, document(name)).expect("the folder takes files");
        let output = run(tool("mandoc", &["-T".as_ref(), "lint".as_ref(), path.as_ref()]));
        assert_eq!((output.status, output.stdout.as_str(), output.stderr.as_str()), (0, "", ""), "{name}");
        let arguments = ["-T".as_ref(), "ascii".as_ref(), "-O".as_ref(), "width=80".as_ref(), path.as_ref()];
        let shown = run(tool("mandoc", &arguments)).stdout;
        // A bold letter is printed twice, with a backspace between.
        let width = |line: &str| line.chars().count() - 2 * line.matches('\u{8}').count();
        let wide: Vec<&str> = shown.lines().filter(|line| width(line) > 80).collect();
        assert!(shown.lines().count() > 30 && wide.is_empty(), "{name}: {wide:#?}");
    }
}

/// A line to complete, and the words that a shell offers in a folder with run.json and recordings/.
const COMPLETIONS: [(&str, &[&str]); 28] = [
    ("halloo ", &["serve", "probe", "view", "tour", "generate", "help"]),
    ("halloo pr", &["probe"]),
    ("halloo help vi", &["view"]),
    ("halloo generate man-", &["man-probe", "man-view", "man-tour"]),
    ("halloo --mode ", &["greet", "banner", "line", "echo", "discard"]),
    ("halloo --mode=e", &["echo"]),
    ("halloo -v --mode e", &["echo"]),
    ("halloo serve --events ", &["text", "json", "off"]),
    ("halloo --log-format ", &["text", "json"]),
    ("halloo generate log", &["log-schema"]),
    ("halloo tour --mode ", &["echo", "line", "greet"]),
    ("halloo tour --serve t", &["twin"]),
    ("halloo --idle", &["--idle-timeout"]),
    ("halloo serve --udp-r", &["--udp-rate"]),
    ("halloo probe --ti", &["--timeout"]),
    ("halloo view --f", &["--findings"]),
    ("halloo probe --findi", &[]),
    ("halloo probe --proxy --ti", &["--timeout"]),
    ("halloo probe --proxy=", &[]),
    ("halloo --workers ", &[]),
    ("halloo --idle-timeout ", &[]),
    ("halloo --greeting ", &[]),
    ("halloo --listen r", &[]),
    ("halloo probe r", &[]),
    ("halloo --record ", &["run.json", "recordings"]),
    ("halloo --unix ru", &["run.json"]),
    ("halloo tour --save ", &["recordings"]),
    ("halloo view --findings ", &["run.json", "recordings"]),
];

/// Fails unless a shell offers the expected words. `complete` returns them for a line, from the folder with the script.
#[track_caller]
fn assert_offers(shell: &str, script: &str, complete: impl Fn(&Path, &str) -> Vec<String>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let files = folder.path().join("files");
    fs::create_dir_all(files.join("recordings")).expect("the folder takes folders");
    fs::write(files.join("run.json"), "").expect("the folder takes files");
    fs::write(folder.path().join(script), document(shell)).expect("the folder takes files");
    for (line, expected) in COMPLETIONS {
        let offered = complete(folder.path(), line);
        println!("{line}: {offered:?}");
        // A folder may end in a slash, and a value may follow its flag.
        let word = |word: &String| word.trim_end_matches('/').trim_start_matches("--mode=").to_owned();
        let offered: BTreeSet<String> = offered.iter().map(word).collect();
        assert_eq!(offered, expected.iter().map(ToString::to_string).collect(), "{shell}: {line}");
    }
}

#[track_caller]
fn lines_printed(command: Command) -> Vec<String> {
    let output = run(command);
    assert_eq!(output.stderr, "", "{output:?}");
    output.stdout.lines().map(str::to_owned).collect()
}

#[test]
#[ignore = "needs bash"]
fn bash_offers_flags_values_and_files_only_where_they_are_meant() {
    // Bash calls the function with the words of the line, among them each equals sign.
    const CALL: &str = "source ../halloo; line=${1//=/ = }; COMP_WORDS=($line); [[ $line == *' ' ]] && COMP_WORDS+=('')
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); $(complete -p halloo | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
        printf '%s\\n' \"${COMPREPLY[@]}\"";
    assert_offers("bash", "halloo", |folder, line| {
        let mut command = tool("bash", &["--norc", "-c", CALL, "bash", line].map(OsStr::new));
        command.current_dir(folder.join("files"));
        lines_printed(command).into_iter().filter(|word| !word.is_empty()).collect()
    });
}

#[test]
#[ignore = "needs fish"]
fn fish_offers_flags_values_and_files_only_where_they_are_meant() {
    assert_offers("fish", "halloo.fish", |folder, line| {
        let arguments = ["--no-config", "-c", "source ../halloo.fish; complete -C $argv[1]", line];
        let mut command = tool("fish", &arguments.map(OsStr::new));
        command.current_dir(folder.join("files")).env("HOME", folder);
        // The explanation stands after a tab.
        lines_printed(command).iter().filter_map(|line| line.split('\t').next().map(str::to_owned)).collect()
    });
}

#[test]
#[ignore = "needs zsh"]
fn zsh_offers_flags_values_and_files_only_where_they_are_meant() {
    // In a terminal of its own, as a user has it. `compadd` gets the words that are offered.
    const SETUP: &str = "
        PROMPT=
        fpath=($FOLDER $fpath)
        autoload -U compinit
        compinit -u -D
        bindkey '^I' complete-word
        compadd() {
            if [[ \" ${(j: :)@[1,(i)(-|--)]} \" != *' -'[A-Za-z]#[OAD]' '* ]]; then
                local -a offered
                builtin compadd -A offered \"$@\"
                (( $#offered )) && print -l -- OFFERED:${^offered}:
            fi
            builtin compadd \"$@\"
        }
        finish() { print FINISHED: }
        print READY:";
    const COMPLETE: &str = "
        zmodload zsh/zpty
        zpty shell zsh -f -i
        zpty -w shell 'source $FOLDER/setup'
        zpty -r shell out '*READY:*'
        zpty -w shell 'comppostfuncs=(finish)'
        zpty -n -w shell $1$'\\t'
        zpty -r shell out '*FINISHED:*'
        print -r -- $out";
    assert_offers("zsh", "_halloo", |folder, line| {
        fs::write(folder.join("setup"), SETUP).expect("the folder takes files");
        let mut command = tool("zsh", &["-f", "-c", COMPLETE, "zsh", line].map(OsStr::new));
        command.current_dir(folder.join("files")).env("FOLDER", folder).env("TERM", "dumb");
        let printed = lines_printed(command).join("\n");
        let offered = printed.split("OFFERED:").skip(1).filter_map(|rest| rest.split(':').next());
        offered.map(str::to_owned).collect()
    });
}
