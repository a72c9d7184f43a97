//! Parses the command line into what the program has to run.
//!
//! A usage error is one line: the flag, its environment variable if the value came from it, and a hint. Variables of
//! another command are never read.

use std::error::Error;
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::num::ParseIntError;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, CommandFactory, FromArgMatches};

use crate::cli::flags::{Command, CommandLine, ProbeOptions, ServeOptions};
use crate::exit::{ExitError, ExitStatus};
use crate::text::address::Address;
use crate::text::escape;

/// The longest error message; a long argument in it is cut.
const MESSAGE_BYTES_MAX: usize = 1024;

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Invocation {
    /// Serve greetings.
    Serve(Box<ServeOptions>),
    /// Ask a server.
    Probe(Box<ProbeOptions>),
    /// Print help or version, ready-made.
    HelpOrVersion(String),
}

/// Reads the arguments, the program's own name first.
pub(crate) fn parse_arguments(arguments: &[OsString]) -> Result<Invocation, ExitError> {
    let mut command = CommandLine::command();
    let is_subcommand = |name: &OsString| command.find_subcommand(name).is_some();
    if arguments.get(1).is_some_and(is_subcommand) {
        // The flags of `serve` without its name do not apply then: their variables must not be read or validated.
        command = command.mut_args(without_variable);
    }
    command = command
        .mut_args(without_empty_variable)
        .mut_subcommands(|subcommand| subcommand.mut_args(without_empty_variable));
    let matches = match command.try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) if !error.use_stderr() => return Ok(Invocation::HelpOrVersion(help_text(&error))),
        Err(error) => return Err(usage_error(&error, arguments)),
    };
    let command_line = CommandLine::from_arg_matches(&matches).map_err(|error| usage_error(&error, arguments))?;
    match command_line.command {
        Some(Command::Probe(options)) => Ok(Invocation::Probe(Box::new(options))),
        Some(Command::Serve(options)) => validate_serve(options, matches.subcommand_matches("serve")),
        None => validate_serve(command_line.serve, Some(&matches)),
    }
}

/// The text of `--help` or `--version`, with styles for a terminal unless `NO_COLOR` is set.
fn help_text(help: &clap::Error) -> String {
    let (text, is_plain) = (help.render(), std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()));
    if io::stdout().is_terminal() && !is_plain { text.ansi().to_string() } else { text.to_string() }
}

fn without_variable(argument: Arg) -> Arg {
    argument.env(None::<&str>)
}

/// Where variables are set by a form, one left blank is not meant.
fn without_empty_variable(argument: Arg) -> Arg {
    match argument.get_env().and_then(std::env::var_os) {
        Some(value) if value.is_empty() => without_variable(argument),
        _ => argument,
    }
}

/// Of `-v` and `-q` the flag wins over the variable; both at once contradict each other.
fn validate_serve(mut options: ServeOptions, matches: Option<&ArgMatches>) -> Result<Invocation, ExitError> {
    if options.output.verbose > 0 && options.output.quiet > 0 {
        let source = |flag| matches.and_then(|matches| matches.value_source(flag));
        match (source("verbose"), source("quiet")) {
            (Some(ValueSource::CommandLine), Some(ValueSource::EnvVariable)) => options.output.quiet = 0,
            (Some(ValueSource::EnvVariable), Some(ValueSource::CommandLine)) => options.output.verbose = 0,
            _ => {
                let message = "--verbose and --quiet contradict each other; leave one of them out";
                return Err(ExitError::new(ExitStatus::UsageError, message));
            }
        }
    }
    if let Some(connections) = options.limits.max_connections.filter(|connections| *connections < options.workers) {
        let message = format!(
            "--max-connections {connections} is too few for --workers {}; each worker needs one at least",
            options.workers
        );
        return Err(ExitError::new(ExitStatus::UsageError, message));
    }
    Ok(Invocation::Serve(Box::new(options)))
}

/// Turns clap's several lines into a message of one line.
fn usage_error(error: &clap::Error, arguments: &[OsString]) -> ExitError {
    let text = error.to_string();
    let mut parts: Vec<&str> = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with("Usage:") || line.starts_with("For more information") {
            break;
        }
        if !line.is_empty() {
            parts.push(line.strip_prefix("error: ").unwrap_or(line));
        }
    }
    let mut message = parts.join("; ").replace(":; ", ": ").replace("; tip: ", "; ");
    // The end of a range without one.
    message = message.replace(&u64::MAX.to_string(), "");
    if let Some(variable) = source_variable(error, arguments) {
        message.push_str(" (it comes from the environment variable ");
        message.push_str(&variable);
        message.push(')');
    }
    if let Some(hint) = usage_hint(error) {
        message.push_str("; ");
        message.push_str(&hint);
    }
    ExitError::new(ExitStatus::UsageError, escape::message(&message, MESSAGE_BYTES_MAX))
}

/// The environment variable a wrong value came from.
fn source_variable(error: &clap::Error, arguments: &[OsString]) -> Option<String> {
    let ContextValue::String(argument) = error.get(ContextKind::InvalidArg)? else {
        return None;
    };
    // It reads `--greeting <TEXT>`.
    let flag = argument.split([' ', '.', '=']).next()?;
    let is_on_command_line =
        arguments.iter().any(|argument| argument.to_string_lossy().split('=').next() == Some(flag));
    let command = CommandLine::command();
    let subcommand = arguments.get(1).and_then(|name| command.find_subcommand(name)).unwrap_or(&command);
    let variable =
        subcommand.get_arguments().find(|argument| argument.get_long() == flag.strip_prefix("--"))?.get_env()?;
    (!is_on_command_line && std::env::var_os(variable).is_some()).then(|| variable.to_string_lossy().into_owned())
}

/// A hint where clap has none.
fn usage_hint(error: &clap::Error) -> Option<String> {
    match (error.kind(), error.get(ContextKind::InvalidSubcommand)) {
        (ErrorKind::InvalidSubcommand, Some(ContextValue::String(value))) => {
            let is_address =
                value.parse::<Address>().is_ok_and(|_| value.contains([':', '.']) || value.parse::<u16>().is_ok());
            if is_address {
                return Some(format!("to serve there write --listen {value}, to ask it write probe {value}"));
            }
            let has_suggestion = error.get(ContextKind::SuggestedSubcommand).is_some();
            (!has_suggestion).then(|| "the commands are serve and probe, and halloo --help lists the flags".to_owned())
        }
        (ErrorKind::UnknownArgument, _) if error.get(ContextKind::SuggestedArg).is_none() => {
            Some("halloo --help lists what there is".to_owned())
        }
        (ErrorKind::MissingRequiredArgument, _) => Some("such as halloo probe localhost:8888".to_owned()),
        (ErrorKind::ValueValidation, _) if error.source().is_some_and(is_about_a_number) => {
            Some("write a whole number such as 10".to_owned())
        }
        _ => None,
    }
}

fn is_about_a_number(source: &(dyn Error + 'static)) -> bool {
    source.is::<ParseIntError>() || source.to_string().contains(" is not in ")
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::CommandFactory;

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
    fn the_command_line_is_sound() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn every_flag_has_its_environment_variable() {
        let command = CommandLine::command();
        let probe = command.find_subcommand("probe").unwrap();
        for argument in command.get_arguments().chain(probe.get_arguments()) {
            let Some(long) = argument.get_long().filter(|long| !["help", "version"].contains(long)) else {
                continue;
            };
            let variable = argument.get_env().unwrap().to_str().unwrap();
            assert!(variable.starts_with("HALLOO_"));
            assert!(variable.ends_with(&long.to_uppercase().replace('-', "_")), "{variable}");
        }
    }

    #[test]
    fn no_command_means_serve() {
        for line in ["halloo", "halloo serve", "halloo --tcp 1 -v", "halloo serve --tcp 1 -v"] {
            assert!(matches!(parse(line), Ok(Invocation::Serve(_))), "{line}");
        }
        assert!(matches!(parse("halloo probe localhost"), Ok(Invocation::Probe(_))));
        for line in ["halloo --help", "halloo -h", "halloo --version", "halloo serve --help", "halloo probe -h"] {
            assert!(matches!(parse(line), Ok(Invocation::HelpOrVersion(_))), "{line}");
        }
    }

    #[test]
    fn a_mistake_is_one_sentence_that_names_the_flag_and_the_way_out() {
        for (arguments, subject, hint) in [
            ("halloo --listen localhost:99999", "--listen", "to 65535"),
            ("halloo --tcp [::1", "--tcp", "[::1]:9000"),
            ("halloo --greeting {name}", "--greeting", "{hostname}"),
            ("halloo --max-connections 0", "--max-connections", "not in 1..; write a whole number"),
            ("halloo --max-connections-per-source 0", "--max-connections-per-source", "not in 1..=4294967295"),
            ("halloo --max-greetings 0", "--max-greetings", "not in 1.."),
            ("halloo --max-greetings many", "--max-greetings", "whole number such as 10"),
            ("halloo --idle-timeout 0s", "--idle-timeout", "more than zero"),
            ("halloo --idle-timeout 5", "--idle-timeout", "5s"),
            ("halloo --idle-timeout -5s", "--idle-timeout", "10s or 2m"),
            ("halloo --max-connections 99999999999999999999999", "--max-connections", "too large"),
            ("halloo --max-connections-per-source 4294967296", "--max-connections-per-source", "not in 1..=4294967295"),
            ("halloo --max-greetings -3", "--max-greetings", "whole number such as 10"),
            ("halloo --udp-rate -1", "--udp-rate", "not in 0..=4294967295"),
            ("halloo --udp-rate 5000000000", "--udp-rate", "not in 0..=4294967295"),
            ("halloo --listen 127.0.0.1:0,", "--listen", "comma too many"),
            ("halloo --listen http://localhost:9000/", "--listen", "leave out http://"),
            ("halloo --listen ::1:9000", "--listen", "[::1]:9000"),
            ("halloo probe a:1,b:2", "a:1,b:2", "several addresses"),
            ("halloo probe localhost:0", "localhost:0", "port 0"),
            ("halloo hail", "hail", "serve and probe"),
            ("halloo --workers 0", "--workers", "not in 1..=1024"),
            ("halloo --workers 1025", "--workers", "not in 1..=1024"),
            ("halloo --workers 4 --max-connections 3", "--max-connections 3", "--workers 4"),
            ("halloo --mode wave", "--mode", "banner"),
            ("halloo --lisen 9000", "--lisen", "--listen"),
            ("halloo 9000", "9000", "--listen 9000"),
            ("halloo -v -q", "--verbose", "leave one"),
            ("halloo probe", "<ADDRESS>", "probe localhost:8888"),
            ("halloo probe 1 --connect-only --udp", "--connect-only", "cannot be used with"),
            ("halloo probe 1 --timeout 0ms", "--timeout", "more than zero"),
        ] {
            let message = parse(arguments).unwrap_err();
            assert!(message.contains(subject) && message.contains(hint), "{arguments}: {message}");
            assert!(!message.contains('\n') && !message.ends_with('.'), "{arguments}: {message}");
        }
    }

    #[test]
    fn a_hostile_argument_stays_on_one_line() {
        let message = parse("halloo --\u{1b}[31m").unwrap_err();
        assert!(message.contains(r"\x1b") || !message.contains('\u{1b}'), "{message}");
    }
}
