//! The flags of `halloo probe`.

use std::time::Duration;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};

use crate::cli::flags::values::{parse_yes_or_no, whole_number};
use crate::cli::without_effect::GivenSettings;
use crate::text::address::{Endpoint, IpVersion};
use crate::text::duration::parse_positive_duration;
use crate::text::unescape::{Unescaped, parse_nonempty};

/// The flags of `halloo probe`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ProbeOptions {
    /// The server: 9000, localhost:9000 or name:9000, with the default port 8888; or unix: and a path, or unix:@
    /// and an abstract name
    #[arg(value_parser = OsStringValueParser::new().try_map(Endpoint::try_from))]
    pub(crate) address: Endpoint,

    #[command(flatten)]
    pub(crate) protocols: ProbeProtocols,
    #[command(flatten)]
    pub(crate) addresses: ProbeAddresses,
    /// What to send, with escapes [default: "Hello, TCP Server!\n", and over UDP "Hello, UDP Server!"]
    #[arg(long, value_name = "TEXT", env = "HALLOO_PROBE_SEND")]
    #[arg(help_heading = "Request")]
    pub(crate) send: Option<Unescaped>,
    /// How many requests to send, one after the other
    #[arg(long, value_name = "N", env = "HALLOO_PROBE_COUNT")]
    #[arg(value_parser = whole_number::<u64>(1..=u64::MAX), default_value = "1", help_heading = "Request")]
    pub(crate) count: u64,

    /// The text that the reply must contain, with escapes [default: any reply is right]
    #[arg(long, value_name = "TEXT", env = "HALLOO_PROBE_EXPECT")]
    #[arg(value_parser = parse_nonempty, help_heading = "Reply")]
    pub(crate) expect: Option<Unescaped>,
    /// The most time for each reply, name lookup and connect included
    #[arg(long, value_name = "TIME", env = "HALLOO_PROBE_TIMEOUT")]
    #[arg(value_parser = parse_positive_duration, default_value = "2s", help_heading = "Reply")]
    pub(crate) timeout: Duration,
    /// The settings that were given, each with the name of its flag or variable.
    #[arg(skip)]
    pub(crate) given: GivenSettings,
    /// Warnings about environment variables; none of them ends the program.
    #[arg(skip)]
    pub(crate) warnings: Vec<String>,
}

/// The protocols of the requests.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Request")]
pub(crate) struct ProbeProtocols {
    /// Send the request over TCP; with --udp, over both
    #[arg(long, env = "HALLOO_PROBE_TCP", value_parser = parse_yes_or_no)]
    pub(crate) tcp: bool,
    /// Send the request over UDP; with --tcp, over both
    #[arg(long, env = "HALLOO_PROBE_UDP", value_parser = parse_yes_or_no)]
    pub(crate) udp: bool,
    /// Only connect, over TCP or to a unix socket; send nothing
    #[arg(long, env = "HALLOO_PROBE_CONNECT_ONLY", value_parser = parse_yes_or_no)]
    pub(crate) connect_only: bool,
}

/// Which addresses of a name to try.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Request")]
pub(crate) struct ProbeAddresses {
    /// Use only IPv4 addresses
    #[arg(short = '4', long, env = "HALLOO_PROBE_IPV4", value_parser = parse_yes_or_no)]
    pub(crate) ipv4: bool,
    /// Use only IPv6 addresses
    #[arg(short = '6', long, env = "HALLOO_PROBE_IPV6", value_parser = parse_yes_or_no)]
    pub(crate) ipv6: bool,
}

impl ProbeAddresses {
    /// The only IP version to use, if one is chosen.
    pub(crate) fn ip_version(&self) -> Option<IpVersion> {
        match (self.ipv4, self.ipv6) {
            (true, _) => Some(IpVersion::V4),
            (_, true) => Some(IpVersion::V6),
            (false, false) => None,
        }
    }
}
