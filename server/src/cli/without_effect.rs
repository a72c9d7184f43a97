//! Warnings about settings that are accepted and have no effect.
//!
//! Each is one line. None of them ends the program.

use std::ffi::OsString;

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

use crate::cli::flags::probe_options::{ProbeOptions, ProbeRepetition};
use crate::cli::flags::serve_options::{Mode, ServeOptions};
use crate::cli::flags::tour_options::TourOptions;
use crate::cli::near_miss::nearest;
use crate::cli::trusted_source::TrustedSource;
use crate::text::address::UnixPath;
use crate::text::escape;
use crate::text::protocol::Protocol;

/// The settings that were given, each with the name of its flag or variable.
#[derive(Clone, Debug, Default)]
pub(crate) struct GivenSettings(Vec<(String, String)>);

impl GivenSettings {
    pub(crate) fn new(command: &Command, matches: &ArgMatches) -> Self {
        let given = command.get_arguments().filter_map(|argument| {
            let setting = argument.get_id().as_str();
            let name = match matches.value_source(setting)? {
                ValueSource::CommandLine => format!("--{}", argument.get_long()?),
                ValueSource::EnvVariable => argument.get_env()?.to_string_lossy().into_owned(),
                _ => return None,
            };
            Some((setting.to_owned(), name))
        });
        Self(given.collect())
    }

    /// The text before a setting's value: `--tcp `, or `HALLOO_TCP=` if the variable gave it.
    pub(crate) fn assignment(&self, setting: &str) -> String {
        match self.name(setting) {
            Some(variable) if variable.starts_with(VARIABLE_PREFIX) => format!("{variable}="),
            _ => format!("--{} ", setting.replace('_', "-")),
        }
    }

    /// The flag or the variable that gave a setting.
    pub(crate) fn name(&self, setting: &str) -> Option<&str> {
        self.0.iter().find(|(given, _)| given == setting).map(|(_, name)| name.as_str())
    }

    /// A line for each setting that was given and does not meet its condition.
    fn without_effect<'c>(&self, conditions: impl IntoIterator<Item = (&'c str, bool, &'c str)>) -> Vec<String> {
        let unmet = conditions.into_iter().filter(|(_, is_met, _)| !is_met);
        unmet
            .filter_map(|(setting, _, cause)| Some(format!("{} has no effect: {cause}", self.name(setting)?)))
            .collect()
    }
}

/// A setting, by its field name, and the condition without which it has no effect.
struct Condition {
    setting: &'static str,
    is_met: fn(&ServeOptions, &[Protocol]) -> bool,
    cause: &'static str,
}

const fn needs(
    setting: &'static str,
    cause: &'static str,
    is_met: fn(&ServeOptions, &[Protocol]) -> bool,
) -> Condition {
    Condition { setting, is_met, cause }
}

const NO_CONNECTIONS: &str = "neither TCP nor a unix socket is served";

const ALL_HAVE_OWN_GREETINGS: &str = "every protocol that is served has a greeting of its own";

const NO_RECORDING: &str = "nothing is recorded; add --record FILE";

const CONDITIONS: [Condition; 17] = [
    needs("unix_mode", "no unix socket file is created", |options, _| {
        !options.listening.unix.iter().all(UnixPath::is_abstract)
    }),
    needs("tcp_greeting", NO_CONNECTIONS, |_, served| has_streams(served)),
    needs("max_connections", NO_CONNECTIONS, |_, served| has_streams(served)),
    needs("memory_max", NO_CONNECTIONS, |_, served| has_streams(served)),
    needs("idle_timeout", NO_CONNECTIONS, |_, served| has_streams(served)),
    needs("max_connections_per_source", "TCP is not served", |options, served| {
        served.contains(&Protocol::Tcp) || has_clients_behind_unix_sockets(options, served)
    }),
    needs("proxy_protocol", "no unix socket is served; write the network of the proxy", |options, served| {
        served.contains(&Protocol::Unix) || trusts(options, |source| !source.is_unix())
    }),
    needs("proxy_protocol", "only unix sockets are served; write unix", |options, served| {
        served.iter().any(|protocol| *protocol != Protocol::Unix) || trusts(options, TrustedSource::is_unix)
    }),
    needs("udp_greeting", "UDP is not served", |_, served| served.contains(&Protocol::Udp)),
    needs("udp_rate", "UDP is not served", |_, served| served.contains(&Protocol::Udp)),
    needs("udp_rate", "discard sends no reply", |options, _| options.replies.mode != Mode::Discard),
    needs("greeting", ALL_HAVE_OWN_GREETINGS, has_common_greeting),
    needs("greeting_file", ALL_HAVE_OWN_GREETINGS, has_common_greeting),
    needs("mode", "only UDP is served, where banner and line work like greet", |options, served| {
        has_streams(served) || !matches!(options.replies.mode, Mode::Banner | Mode::Line)
    }),
    needs("fault_seed", "no fault is set; add --fault", |options, _| !options.faults.fault.is_empty()),
    needs("record_memory", NO_RECORDING, |options, _| options.recording.record.is_some()),
    needs("record_payload", NO_RECORDING, |options, _| options.recording.record.is_some()),
];

/// Whether some source of PROXY headers has this property.
fn trusts(options: &ServeOptions, property: fn(TrustedSource) -> bool) -> bool {
    options.operation.proxy_protocol.iter().copied().any(property)
}

fn has_clients_behind_unix_sockets(options: &ServeOptions, served: &[Protocol]) -> bool {
    served.contains(&Protocol::Unix) && trusts(options, TrustedSource::is_unix)
}

fn has_streams(served: &[Protocol]) -> bool {
    served.iter().any(|protocol| *protocol != Protocol::Udp)
}

/// Whether a protocol has the greeting of all protocols.
fn has_common_greeting(options: &ServeOptions, served: &[Protocol]) -> bool {
    served.iter().any(|protocol| !has_own_greeting(options, *protocol))
}

fn has_own_greeting(options: &ServeOptions, protocol: Protocol) -> bool {
    match protocol {
        Protocol::Tcp | Protocol::Unix => options.replies.tcp_greeting.is_some(),
        Protocol::Udp => options.replies.udp_greeting.is_some(),
    }
}

/// A line for each setting that has no effect on the protocols served.
pub(crate) fn settings_without_effect(options: &ServeOptions, served: &[Protocol]) -> Vec<String> {
    let is_met = |condition: &Condition| (condition.is_met)(options, served);
    options.given.without_effect(CONDITIONS.iter().map(|one| (one.setting, is_met(one), one.cause)))
}

/// A line for each setting of the tour that has no effect.
pub(crate) fn tour_settings_without_effect(options: &TourOptions) -> Vec<String> {
    let without_server = "no other server is tried; add --against ADDRESS";
    let without_recording = match options.against {
        Some(_) => "only the servers of the tour are recorded; leave --against out",
        None => "nothing is recorded; name a case, as in halloo tour 6",
    };
    let (is_serving, is_trying) = (options.serve.is_some(), options.against.is_some());
    let is_recording = !is_trying && !options.cases.is_empty();
    let conditions = [
        ("mode", is_trying, without_server),
        ("slow", is_trying, without_server),
        ("save", is_recording, without_recording),
        ("html", is_recording, without_recording),
        ("json", !is_serving, "with --serve, the server prints only READY"),
    ];
    options.given.without_effect(conditions)
}

/// A line for each setting of the probe that has no effect.
pub(crate) fn probe_settings_without_effect(options: &ProbeOptions, has_udp: bool) -> Vec<String> {
    let ProbeRepetition { count, wait, wait_gone, .. } = options.repetition;
    let is_repeated = count != 1 || wait.is_some() || wait_gone.is_some();
    let conditions = [
        ("retries", has_udp && !options.protocols.connect_only, "only a request over UDP is sent again"),
        ("interval", is_repeated, "one request is sent; add --count N"),
    ];
    options.given.without_effect(conditions)
}

/// The prefix of all names of variables.
const VARIABLE_PREFIX: &str = "HALLOO_";

/// A line for each unknown variable with halloo's prefix.
pub(crate) fn unknown_variables(
    root: &Command,
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> Vec<String> {
    let commands = std::iter::once(root).chain(root.get_subcommands());
    let known: Vec<String> = commands
        .flat_map(Command::get_arguments)
        .filter_map(|argument| Some(argument.get_env()?.to_string_lossy().into_owned()))
        .collect();
    let mut unknown: Vec<String> = environment
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value))
        .filter(|(name, _)| name.starts_with(VARIABLE_PREFIX) && !known.contains(name))
        .filter(|(name, value)| !is_service_link(name, &value.to_string_lossy()))
        .map(|(name, _)| name)
        .collect();
    unknown.sort();
    let warning = |name: &String| {
        let shown = escape::excerpt(name);
        // Compared without the prefix, which all names share.
        let names = known.iter().filter_map(|known| known.strip_prefix(VARIABLE_PREFIX));
        match nearest(&name[VARIABLE_PREFIX.len()..], names) {
            Some(meant) => format!("{shown} has no effect: unknown variable; did you mean {VARIABLE_PREFIX}{meant}?"),
            None => format!("{shown} has no effect: unknown variable; halloo generate flags lists the known ones"),
        }
    };
    unknown.iter().map(warning).collect()
}

/// Whether Kubernetes sets this variable, as it does in every container beside a service named halloo.
fn is_service_link(name: &str, value: &str) -> bool {
    let rest = &name[VARIABLE_PREFIX.len()..];
    rest.starts_with("SERVICE_") || rest.starts_with("PORT_") || rest == "PORT" && value.contains("://")
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::CommandFactory;

    use super::unknown_variables;
    use crate::cli::flags::CommandLine;

    fn warnings(variables: &[(&str, &str)]) -> Vec<String> {
        let environment = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        unknown_variables(&CommandLine::command(), environment)
    }

    #[test]
    fn an_unknown_variable_is_reported_with_the_nearest_known_one() {
        let variables = [
            ("HALLOO_WAVE", "1"),
            ("HALLOO_LISTNE", "9000"),
            ("HALLOO_PROBE_SEDN", "x"),
            ("HALLOO_MAX_CONNECTIONS_PER_SUORCE", "3"),
            ("HALLOO_PROBE_CONNECT", "1"),
        ];
        let warnings = warnings(&variables);
        assert_eq!(warnings.len(), variables.len());
        for (warning, parts) in warnings.iter().zip([
            ["HALLOO_LISTNE has no effect", "did you mean HALLOO_LISTEN?"],
            ["HALLOO_MAX_CONNECTIONS_PER_SUORCE has", "did you mean HALLOO_MAX_CONNECTIONS_PER_SOURCE?"],
            ["HALLOO_PROBE_CONNECT has no effect", "did you mean HALLOO_PROBE_CONNECT_ONLY?"],
            ["HALLOO_PROBE_SEDN has no effect", "did you mean HALLOO_PROBE_SEND?"],
            ["HALLOO_WAVE has no effect", "halloo generate flags lists"],
        ]) {
            assert!(parts.iter().all(|part| warning.contains(part)), "{warning}");
        }
    }

    #[test]
    fn variables_of_other_commands_and_programs_cause_no_warning() {
        let none = [
            ("HALLOO_LISTEN", "9000"),
            ("HALLOO_PROBE_SEND", "x"),
            ("HALLOO_WAVE", ""),
            ("HALLO_LISTEN", "1"),
            ("HALLOO_SERVICE_HOST", "10.0.0.1"),
            ("HALLOO_PORT_8888_TCP_ADDR", "10.0.0.1"),
            ("HALLOO_PORT", "tcp://10.0.0.1:8888"),
        ];
        assert_eq!(warnings(&none), [""; 0]);
        assert_eq!(warnings(&[("HALLOO_PORT", "9000")]).len(), 1);
    }
}
