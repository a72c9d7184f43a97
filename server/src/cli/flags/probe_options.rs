//! The flags of `halloo probe`.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};

use crate::cli::flags::values::{parse_yes_or_no, whole_number};
use crate::cli::without_effect::GivenSettings;
use crate::text::address::{Endpoint, IpVersion};
use crate::text::duration::{parse_duration, parse_positive_duration};
use crate::text::unescape::{Unescaped, parse_nonempty};

/// The flags of `halloo probe`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ProbeOptions {
    /// The servers: 9000, localhost:9000 or name:9000, with the default port 8888; or unix: and a path, or unix:@
    /// and an abstract name. All are queried at once
    #[arg(id = "address", value_name = "ADDRESS", required = true)]
    #[arg(value_parser = OsStringValueParser::new().try_map(Endpoint::try_from))]
    pub(crate) targets: Vec<Endpoint>,

    #[command(flatten)]
    pub(crate) protocols: ProbeProtocols,
    #[command(flatten)]
    pub(crate) addresses: ProbeAddresses,
    /// What to send, with escapes [default: "Hello, TCP Server!\n", and over UDP "Hello, UDP Server!"]
    #[arg(long, value_name = "TEXT", env = "HALLOO_PROBE_SEND")]
    #[arg(help_heading = "Request")]
    pub(crate) send: Option<Unescaped>,
    /// Send a PROXY header of version 2 first, with SOURCE as the client: an IP address or IP:port [default: the
    /// address of the probe]
    #[arg(long, value_name = "SOURCE", env = "HALLOO_PROBE_PROXY", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "own", help_heading = "Request")]
    pub(crate) proxy: Option<ProxySource>,

    #[command(flatten)]
    pub(crate) repetition: ProbeRepetition,

    /// The text that the reply must contain, with escapes [default: any reply is right]
    #[arg(long, value_name = "TEXT", env = "HALLOO_PROBE_EXPECT")]
    #[arg(value_parser = parse_nonempty, help_heading = "Reply")]
    pub(crate) expect: Option<Unescaped>,
    /// The most time for each reply, name lookup and connect included
    #[arg(long, value_name = "TIME", env = "HALLOO_PROBE_TIMEOUT")]
    #[arg(value_parser = parse_positive_duration, default_value = "2s", help_heading = "Reply")]
    pub(crate) timeout: Duration,
    /// Print each result as a JSON object, and a summary as the last one
    #[arg(long, env = "HALLOO_PROBE_JSON", value_parser = parse_yes_or_no, help_heading = "Output")]
    pub(crate) json: bool,
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

/// How often to send a request, and until when.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Repetition")]
pub(crate) struct ProbeRepetition {
    /// How many requests to send to each server, one after the other; 0 for no end
    #[arg(long, value_name = "N", env = "HALLOO_PROBE_COUNT")]
    #[arg(value_parser = whole_number::<u64>(0..=u64::MAX), default_value = "1")]
    pub(crate) count: u64,
    /// The time from the start of a request to the start of the next [default: at once after the result; 1s with
    /// --count 0; 100ms with --wait]
    #[arg(long, value_name = "TIME", env = "HALLOO_PROBE_INTERVAL", value_parser = parse_duration)]
    pub(crate) interval: Option<Duration>,
    /// How often to send a request over UDP again if no reply comes; --timeout is for all tries together
    #[arg(long, value_name = "N", env = "HALLOO_PROBE_RETRIES")]
    #[arg(value_parser = whole_number::<u32>(0..=100), default_value = "0")]
    pub(crate) retries: u32,
    /// Repeat until every server has sent a right reply, for TIME at most; print only the last results
    #[arg(long, value_name = "TIME", env = "HALLOO_PROBE_WAIT", value_parser = parse_positive_duration)]
    pub(crate) wait: Option<Duration>,
    /// Repeat until no server is there any more, for TIME at most; print only the last results
    #[arg(long, value_name = "TIME", env = "HALLOO_PROBE_WAIT_GONE", value_parser = parse_positive_duration)]
    pub(crate) wait_gone: Option<Duration>,
}

/// The client in the PROXY header before a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ProxySource {
    /// There is no header.
    #[default]
    None,
    /// The address of the probe's own socket.
    Own,
    /// This address, with the port of the probe's own socket.
    Ip(IpAddr),
    /// This address and port.
    Address(SocketAddr),
}

/// The words for yes and no are values of the variable.
impl FromStr for ProxySource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let has_zone = text.contains('%');
        match (parse_yes_or_no(text), text.parse(), text.parse()) {
            _ if text == "own" => Ok(Self::Own),
            (Ok(true), ..) => Ok(Self::Own),
            (Ok(false), ..) => Ok(Self::None),
            (_, Ok(ip), _) if !has_zone => Ok(Self::Ip(ip)),
            (.., Ok(address)) if !has_zone => Ok(Self::Address(address)),
            _ => {
                Err("not an IP address; write 192.0.2.7, 192.0.2.7:4711, 2001:db8::7 or [2001:db8::7]:4711".to_owned())
            }
        }
    }
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
