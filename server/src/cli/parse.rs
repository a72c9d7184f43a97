//! Parses the command line into the command to run.
//!
//! A flag wins over its variable and over one that contradicts it. Variables of another command are never read.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal};

use clap::{Arg, CommandFactory, FromArgMatches};

use crate::cli::contradictions::{self, OverruledVariable, overruled_variable};
use crate::cli::fault_rule::FaultSetting;
use crate::cli::flags::generate_options::GenerateOptions;
use crate::cli::flags::probe_options::ProbeOptions;
use crate::cli::flags::serve_options::ServeOptions;
use crate::cli::flags::tour_options::TourOptions;
use crate::cli::flags::view_options::ViewOptions;
use crate::cli::flags::{Command, CommandLine};
use crate::cli::help::short_help;
use crate::cli::usage_error::{Arguments, usage_error};
use crate::cli::without_effect::{GivenSettings, unknown_variables};
use crate::exit::ExitError;

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Invocation {
    /// Serve greetings.
    Serve(Box<ServeOptions>),
    /// Ask a server.
    Probe(Box<ProbeOptions>),
    /// Read a recording.
    View(Box<ViewOptions>),
    /// Take the tour.
    Tour(Box<TourOptions>),
    /// Print a document about the command line.
    Generate(GenerateOptions),
    /// Print help or version, ready-made.
    HelpOrVersion(String),
}

/// Parses the arguments, the program's own name first.
pub(crate) fn parse_arguments(arguments: &[OsString]) -> Result<Invocation, ExitError> {
    let mut overruled = Vec::new();
    loop {
        match try_parse(arguments, &overruled)? {
            Parsed::Invocation(invocation) => return Ok(invocation),
            // This ends: each round ignores one more variable.
            Parsed::Overruled(variable) => overruled.push(variable),
        }
    }
}

const NOTHING_TO_VIEW: &str = "there is nothing to do without --findings or --html; write halloo view --findings FILE to print what \
     delayed clients, or halloo view FILE --html OUT to write a page";

enum Parsed {
    Invocation(Invocation),
    Overruled(OverruledVariable),
}

/// Parses the arguments, and the variables except the ignored ones.
fn try_parse(arguments: &[OsString], overruled: &[OverruledVariable]) -> Result<Parsed, ExitError> {
    let is_overruled = |argument: &Arg| overruled.iter().any(|variable| argument.get_id() == variable.setting);
    let read_variable = |argument: Arg| {
        // One sentence after the flags has the rule for their names.
        let argument = with_short_help(argument.hide_env(true));
        // A value that begins with a hyphen is a wrong value, not an unknown flag. `check_values` finds known flags.
        let takes_any_value = argument.get_long().is_some() && argument.get_action().takes_values();
        let argument = argument.allow_hyphen_values(takes_any_value);
        if is_overruled(&argument) { without_variable(argument) } else { without_empty_variable(argument) }
    };
    let mut root = CommandLine::command();
    if arguments.get(1).is_some_and(|name| root.find_subcommand(name).is_some()) {
        // The flags of the root do not apply beside a command: their variables must not be read or validated.
        root = root.mut_args(without_variable);
    }
    root = root.mut_args(read_variable).mut_subcommands(|subcommand| subcommand.mut_args(read_variable));
    let line = Arguments::new(arguments);
    let matches = match root.clone().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) if !error.use_stderr() => {
            return Ok(Parsed::Invocation(Invocation::HelpOrVersion(help_text(&error))));
        }
        Err(error) => return Err(line.check_values().err().unwrap_or_else(|| line.describe(&error))),
    };
    line.check_values()?;
    let command_line = CommandLine::from_arg_matches(&matches).map_err(|error| line.describe(&error))?;
    let (command, matches) = match matches.subcommand() {
        Some((name, of_subcommand)) => (root.find_subcommand(name).unwrap_or(&root), of_subcommand),
        None => (&root, &matches),
    };
    let mut warnings = unknown_variables(&CommandLine::command(), std::env::vars_os());
    warnings.extend(overruled.iter().map(|variable| variable.warning.clone()));
    let given = GivenSettings::new(command, matches);
    let (overruled, invocation) = match command_line.command {
        Some(Command::Generate(options)) => (None, Invocation::Generate(options)),
        Some(Command::Probe(options)) => {
            let targets = matches.get_raw("address").into_iter().flatten().filter_map(OsStr::to_str);
            line.check_targets(&targets.collect::<Vec<&str>>())?;
            let overruled = overruled_variable(&contradictions::OF_PROBE, &options, command, matches)?;
            (overruled, Invocation::Probe(Box::new(ProbeOptions { given, warnings, ..options })))
        }
        Some(Command::View(options)) => {
            if !options.findings && options.html.is_none() {
                return Err(usage_error(NOTHING_TO_VIEW));
            }
            let overruled = overruled_variable(&contradictions::OF_VIEW, &options, command, matches)?;
            (overruled, Invocation::View(Box::new(ViewOptions { given, warnings, ..options })))
        }
        Some(Command::Tour(options)) => {
            let overruled = overruled_variable(&contradictions::OF_TOUR, &options, command, matches)?;
            (overruled, Invocation::Tour(Box::new(TourOptions { given, warnings, ..options })))
        }
        other => {
            let options = if let Some(Command::Serve(options)) = other { *options } else { command_line.serve };
            if let Err(cause) = FaultSetting::rules(&options.faults.fault) {
                return Err(usage_error(&format!("{}: {cause}", given.name("fault").unwrap_or_default())));
            }
            let overruled = overruled_variable(&contradictions::OF_SERVE, &options, command, matches)?;
            (overruled, Invocation::Serve(Box::new(ServeOptions { given, warnings, ..options })))
        }
    };
    Ok(overruled.map_or(Parsed::Invocation(invocation), Parsed::Overruled))
}

/// The text of `--help` or `--version`.
fn help_text(help: &clap::Error) -> String {
    let text = help.render();
    if stdout_has_styles() { text.ansi().to_string() } else { text.to_string() }
}

/// Whether standard output is a terminal that supports styles, and `NO_COLOR` is not set.
pub(crate) fn stdout_has_styles() -> bool {
    let variable = std::env::var_os;
    let has_styles = io::stdout().is_terminal() && variable("TERM").is_some_and(|terminal| terminal != "dumb");
    has_styles && variable("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// `-h` prints the first sentence, `--help` all.
fn with_short_help(argument: Arg) -> Arg {
    let help = argument.get_help().map(ToString::to_string);
    match help.filter(|_| argument.get_long_help().is_none()) {
        Some(help) => argument.help(short_help(&help)).long_help(help),
        None => argument,
    }
}

fn without_variable(argument: Arg) -> Arg {
    argument.env(None::<&str>)
}

/// Ignores an empty variable: a form that sets variables leaves blank fields empty.
fn without_empty_variable(argument: Arg) -> Arg {
    match argument.get_env().and_then(std::env::var_os) {
        Some(value) if value.is_empty() => without_variable(argument),
        _ => argument,
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::time::Duration;

    use clap::CommandFactory;
    use proptest::prelude::*;

    use super::{Invocation, parse_arguments};
    use crate::cli::flags::CommandLine;
    use crate::exit::ExitStatus;

    fn parse(line: &str) -> Result<Invocation, String> {
        let arguments: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        parse_arguments(&arguments).map_err(|error| {
            assert_eq!(error.status, ExitStatus::UsageError);
            error.message
        })
    }

    #[test]
    fn the_definition_of_the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn the_text_after_the_flags_is_at_most_80_columns_wide() {
        let command = CommandLine::command();
        for command in std::iter::once(&command).chain(command.get_subcommands()) {
            let text = command.get_after_long_help().unwrap().to_string();
            assert!(text.starts_with(&command.get_after_help().unwrap().to_string()));
            for line in text.lines() {
                assert!(line.len() <= 80, "{} columns: {line}", line.len());
            }
        }
    }

    #[test]
    fn every_flag_has_its_environment_variable() {
        let command = CommandLine::command();
        for argument in command.get_arguments().chain(command.get_subcommands().flat_map(clap::Command::get_arguments))
        {
            let Some(long) = argument.get_long().filter(|long| !["help", "version"].contains(long)) else {
                continue;
            };
            let variable = argument.get_env().unwrap().to_str().unwrap();
            assert!(variable.starts_with("HALLOO_"));
            assert!(variable.ends_with(&long.to_uppercase().replace('-', "_")), "{variable}");
        }
    }

    /// Words of valid and invalid command lines.
    fn words() -> impl Strategy<Value = String> {
        let command = CommandLine::command();
        let commands = std::iter::once(&command).chain(command.get_subcommands());
        let longs = commands.flat_map(clap::Command::get_arguments).filter_map(clap::Arg::get_long);
        let flags: Vec<String> = longs.map(|long| format!("--{long}")).chain(["-v".into(), "-q".into()]).collect();
        let values = [
            "9000",
            "10s",
            "echo",
            "0",
            "x",
            "serve",
            "probe",
            "view",
            "tour",
            "generate",
            "localhost",
            "--",
            "unix:/a",
            "",
        ];
        prop_oneof![
            4 => prop::sample::select(flags.clone()),
            4 => prop::sample::select(values.map(str::to_owned).to_vec()),
            1 => (prop::sample::select(flags), ".{0,20}").prop_map(|(flag, value)| format!("{flag}={value}")),
            1 => ("-{0,2}[a-z]{0,6}", 0..3_usize).prop_map(|(word, zeros)| word + &"0".repeat(zeros * 2000)),
            1 => ".{0,12}",
        ]
    }

    proptest! {
        #[test]
        fn any_command_line_is_parsed_or_gets_one_error_line(
            words in prop::collection::vec(words(), 0..6)
        ) {
            let arguments: Vec<OsString> = std::iter::once("halloo".into()).chain(words.into_iter().map(Into::into)).collect();
            if let Err(error) = parse_arguments(&arguments) {
                let message = error.message;
                prop_assert_eq!(error.status, ExitStatus::UsageError);
                prop_assert!((10..600).contains(&message.len()), "{message}");
                prop_assert!(!message.contains(char::is_control), "{message:?}");
                // Texts of clap's own messages.
                for part in ["Usage:", "tip:", "error:", "[possible", "<TEXT>", "For more information"] {
                    prop_assert!(!message.contains(part), "{message}");
                }
            }
        }
    }

    #[test]
    fn the_default_timeouts_are_short() {
        let Ok(Invocation::Serve(options)) = parse("halloo") else { panic!("the command is not serve") };
        assert_eq!(options.lifetime.drain_timeout, Duration::from_secs(5));
        let Ok(Invocation::Probe(options)) = parse("halloo probe 1") else { panic!("the command is not probe") };
        assert_eq!(options.timeout, Duration::from_secs(2));
    }

    #[test]
    fn without_a_command_halloo_serves() {
        for line in ["halloo", "halloo serve", "halloo --tcp 1 -v", "halloo serve --tcp 1 -v"] {
            assert!(matches!(parse(line), Ok(Invocation::Serve(_))), "{line}");
        }
        assert!(matches!(parse("halloo probe localhost"), Ok(Invocation::Probe(_))));
        assert!(matches!(parse("halloo view --findings a"), Ok(Invocation::View(_))));
        for line in ["halloo --help", "halloo -h", "halloo --version", "halloo serve --help", "halloo probe -h"] {
            assert!(matches!(parse(line), Ok(Invocation::HelpOrVersion(_))), "{line}");
        }
    }
}
