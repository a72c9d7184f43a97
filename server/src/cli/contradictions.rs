//! Settings that contradict each other, and which of them wins.
//!
//! A flag wins over a variable, with a warning. Two flags, or two variables, are an error.

use std::fs;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

use crate::cli::flags::probe_options::{ProbeOptions, ProxySource};
use crate::cli::flags::serve_options::{ServeOptions, WORKER_MEMORY_MIN};
use crate::cli::flags::tour_options::TourOptions;
use crate::cli::flags::view_options::ViewOptions;
use crate::cli::usage_error::usage_error;
use crate::exit::ExitError;
use crate::text::address::{Endpoint, IpVersion};
use crate::text::escape;

/// Two settings, by their field names, that cannot both apply.
pub(crate) struct Contradiction<O> {
    settings: [&'static str; 2],
    /// Whether these options contain it, if both settings are given.
    is_in: fn(&O) -> bool,
    cause: &'static str,
    precedence: Precedence,
}

/// Which variable loses against which flag.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Precedence {
    /// The variable of either setting, against the other's flag. Two flags, or two variables, are an error.
    Exclusive,
    /// The variable of either setting, against the other's flag. Two flags, or two variables, both apply.
    Flag,
    /// The variable of the first setting, against the flag of the second, which is the wider one.
    SecondFlag,
}

const fn between<O>(
    left: &'static str,
    right: &'static str,
    cause: &'static str,
    is_in: fn(&O) -> bool,
) -> Contradiction<O> {
    Contradiction { settings: [left, right], is_in, cause, precedence: Precedence::Exclusive }
}

/// Two settings that contradict each other whatever their values are.
const fn always<O>(left: &'static str, right: &'static str, cause: &'static str) -> Contradiction<O> {
    between(left, right, cause, |_| true)
}

/// A setting of one protocol, and one of all protocols.
const fn narrower(left: &'static str, right: &'static str, cause: &'static str) -> Contradiction<ServeOptions> {
    Contradiction { precedence: Precedence::SecondFlag, ..always(left, right, cause) }
}

const ONE_FILE_READ_AND_WRITTEN: &str = "one reads the file that the other would replace";
const SENDS_NO_GREETING: &str = "echo and discard send no greeting";
const FOR_ALL_PROTOCOLS: &str = "the flag --greeting applies to all protocols";
const FILE_FOR_ALL_PROTOCOLS: &str = "the flag --greeting-file applies to all protocols";

/// The contradictions of `halloo serve`.
pub(crate) const OF_SERVE: [Contradiction<ServeOptions>; 16] = [
    between("greeting", "mode", SENDS_NO_GREETING, sends_no_greeting),
    between("tcp_greeting", "mode", SENDS_NO_GREETING, sends_no_greeting),
    between("udp_greeting", "mode", SENDS_NO_GREETING, sends_no_greeting),
    between("greeting_file", "mode", SENDS_NO_GREETING, sends_no_greeting),
    always("greeting", "greeting_file", "both set the greeting of all protocols"),
    between("greeting_for", "mode", SENDS_NO_GREETING, sends_no_greeting),
    narrower("tcp_greeting", "greeting", FOR_ALL_PROTOCOLS),
    narrower("udp_greeting", "greeting", FOR_ALL_PROTOCOLS),
    narrower("tcp_greeting", "greeting_file", FILE_FOR_ALL_PROTOCOLS),
    narrower("udp_greeting", "greeting_file", FILE_FOR_ALL_PROTOCOLS),
    between("max_connections", "workers", "each worker needs at least one connection", |options| {
        options.limits.max_connections.is_some_and(|connections| connections < options.workers)
    }),
    between("memory_max", "workers", "each worker needs at least 1MiB", |options| {
        options.limits.memory_max.is_some_and(|bytes| bytes / options.workers < WORKER_MEMORY_MIN)
    }),
    between("ready_file", "record", "both would write the same file", |ServeOptions { output, recording, .. }| {
        are_one_file(output.ready_file.as_deref(), recording.record.as_deref())
    }),
    between("greeting_file", "ready_file", ONE_FILE_READ_AND_WRITTEN, |ServeOptions { replies, output, .. }| {
        are_one_file(replies.greeting_file.as_deref(), output.ready_file.as_deref())
    }),
    between("greeting_file", "record", ONE_FILE_READ_AND_WRITTEN, |ServeOptions { replies, recording, .. }| {
        are_one_file(replies.greeting_file.as_deref(), recording.record.as_deref())
    }),
    between("verbose", "quiet", "one logs more, the other less", |ServeOptions { output, .. }| {
        output.verbose > 0 && output.quiet > 0
    }),
];

fn sends_no_greeting(options: &ServeOptions) -> bool {
    !options.replies.mode.sends_greetings()
}

/// Whether two paths name one file, which need not exist. A device may be read and written.
fn are_one_file(left: Option<&Path>, right: Option<&Path>) -> bool {
    let resolved = |path: &Path| -> Option<PathBuf> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let by_name = || Some(fs::canonicalize(folder).ok()?.join(path.file_name()?));
        fs::canonicalize(path).ok().or_else(by_name)
    };
    let (Some(left), Some(right)) = (left, right) else { return false };
    let is_device = fs::metadata(left).is_ok_and(|file| !file.is_file());
    !is_device && (left == right || resolved(left).is_some_and(|file| resolved(right) == Some(file)))
}

/// The contradictions of `halloo probe`.
pub(crate) const OF_PROBE: [Contradiction<ProbeOptions>; 14] = [
    Contradiction {
        precedence: Precedence::Flag,
        ..between("tcp", "udp", "the flag selects one protocol only", |ProbeOptions { protocols, .. }| {
            protocols.tcp && protocols.udp
        })
    },
    between("udp", "connect_only", "UDP has no connections", |ProbeOptions { protocols, .. }| {
        protocols.udp && protocols.connect_only
    }),
    between("send", "connect_only", "the probe either sends or only connects", only_connects),
    between("expect", "connect_only", "nothing is sent, so there is no reply", only_connects),
    between("tcp", "address", "a unix socket uses neither TCP nor UDP", |options| {
        options.protocols.tcp && has_only(options, |target| matches!(target, Endpoint::Unix(_)))
    }),
    between("udp", "address", "a unix socket uses neither TCP nor UDP", |options| {
        options.protocols.udp && has_only(options, |target| matches!(target, Endpoint::Unix(_)))
    }),
    between("ipv4", "ipv6", "together they exclude every address", |ProbeOptions { addresses, .. }| {
        addresses.ipv4 && addresses.ipv6
    }),
    between("ipv4", "address", "the address is neither a name nor IPv4", |options| {
        options.addresses.ipv4 && has_only(options, |target| excludes(target, IpVersion::V4))
    }),
    between("ipv6", "address", "the address is neither a name nor IPv6", |options| {
        options.addresses.ipv6 && has_only(options, |target| excludes(target, IpVersion::V6))
    }),
    between("proxy", "connect_only", "nothing is sent, so there is no header", |options| {
        !matches!(options.proxy, None | Some(ProxySource::None)) && options.protocols.connect_only
    }),
    always("wait", "wait_gone", "one waits for a reply, the other for none"),
    between("count", "wait", "requests are repeated until a reply is right", has_count),
    between("count", "wait_gone", "requests are repeated until the server is gone", has_count),
    always("expect", "wait_gone", "a server that sends any reply is not gone"),
];

fn only_connects(options: &ProbeOptions) -> bool {
    options.protocols.connect_only
}

/// Whether several requests are asked for, or requests without an end.
fn has_count(options: &ProbeOptions) -> bool {
    options.repetition.count != 1
}

/// Whether all targets have this property. Beside others, such a target has a result of its own.
fn has_only(options: &ProbeOptions, property: impl Fn(&Endpoint) -> bool) -> bool {
    options.targets.iter().all(property)
}

/// The contradiction of `halloo view`.
pub(crate) const OF_VIEW: [Contradiction<ViewOptions>; 1] =
    [between("findings", "html", "both write to standard output", |ViewOptions { findings, html, .. }| {
        *findings && html.as_ref().is_some_and(|path| path.as_os_str() == "-")
    })];

/// The contradiction of `halloo tour`.
pub(crate) const OF_TOUR: [Contradiction<TourOptions>; 1] =
    [always("against", "serve", "one tries a server, the other is one")];

/// Whether the target cannot have an address of this version.
fn excludes(target: &Endpoint, version: IpVersion) -> bool {
    match target {
        Endpoint::Unix(_) => true,
        Endpoint::Internet(address) => address.ip_version().is_some_and(|of_address| of_address != version),
    }
}

/// A variable that is ignored, because a flag contradicts it.
pub(crate) struct OverruledVariable {
    pub(crate) setting: &'static str,
    pub(crate) warning: String,
}

/// Returns a variable to ignore, if there is one. Returns an error if settings contradict each other and neither wins.
pub(crate) fn overruled_variable<O>(
    contradictions: &[Contradiction<O>],
    options: &O,
    command: &Command,
    matches: &ArgMatches,
) -> Result<Option<OverruledVariable>, ExitError> {
    let is_variable = |setting: &str| matches.value_source(setting) == Some(ValueSource::EnvVariable);
    let as_given = |setting| as_given(setting, command, matches);
    let is_given =
        |setting: &&str| is_variable(setting) || matches.value_source(setting) == Some(ValueSource::CommandLine);
    let found = || contradictions.iter().filter(|one| one.settings.iter().all(is_given) && (one.is_in)(options));
    let overruled = found().find_map(|Contradiction { settings: [left, right], cause, precedence, .. }| {
        let (setting, winner) = match (is_variable(left), is_variable(right)) {
            (true, false) => (*left, *right),
            (false, true) if *precedence != Precedence::SecondFlag => (*right, *left),
            _ => return None,
        };
        let warning = format!("{} has no effect beside {}: {cause}", as_given(setting), as_given(winner));
        Some(OverruledVariable { setting, warning })
    });
    // Without that variable the other contradictions may be gone: the caller checks them again.
    let (None, Some(Contradiction { settings: [left, right], cause, .. })) =
        (&overruled, found().find(|one| one.precedence == Precedence::Exclusive))
    else {
        return Ok(overruled);
    };
    let is_positional = |setting: &str| {
        command.get_arguments().any(|argument| argument.get_id() == setting && argument.get_long().is_none())
    };
    let way_out = match (is_variable(left), is_positional(right)) {
        (true, _) => "unset one of the two".to_owned(),
        // The argument is required.
        (false, true) => format!("leave {} out", as_given(left)),
        (false, false) => "leave one of the two out".to_owned(),
    };
    Err(usage_error(&format!("{} contradicts {}: {cause}; {way_out}", as_given(left), as_given(right))))
}

/// The flag or the variable, with its value.
fn as_given(setting: &str, command: &Command, matches: &ArgMatches) -> String {
    let value = matches.get_raw(setting).into_iter().flatten().next().unwrap_or_default();
    let value = escape::excerpt(&value.to_string_lossy());
    let argument = command.get_arguments().find(|argument| argument.get_id() == setting);
    let flag = argument.and_then(|argument| argument.get_long());
    let variable = argument.and_then(|argument| argument.get_env()).unwrap_or_default();
    match (matches.value_source(setting), flag) {
        (Some(ValueSource::EnvVariable), _) => format!("{}={value}", variable.to_string_lossy()),
        (_, Some(flag)) if argument.is_some_and(|argument| argument.get_action().takes_values()) => {
            let separator = if argument.is_some_and(Arg::is_require_equals_set) { '=' } else { ' ' };
            format!("--{flag}{separator}{value}")
        }
        (_, Some(flag)) => format!("--{flag}"),
        (_, None) => value,
    }
}
