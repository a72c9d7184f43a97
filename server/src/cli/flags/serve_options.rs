//! The flags of `halloo serve`, by the sections of its help.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{NonEmptyStringValueParser, OsStringValueParser, PathBufValueParser, TypedValueParser};
use clap::{ArgAction, Args, ValueEnum, ValueHint};

use crate::cli::fault_rule::FaultSetting;
use crate::cli::flags::values::{parse_occurrences, parse_record_path, parse_yes_or_no, whole_number};
use crate::cli::trusted_source::TrustedSource;
use crate::cli::without_effect::GivenSettings;
use crate::text::address::{Address, Endpoint, UnixPath, parse_unix_path};
use crate::text::byte_size::parse_byte_size;
use crate::text::duration::{parse_duration, parse_positive_duration};
use crate::text::template::Template;
use crate::text::template::greeting_for::{GreetingFor, GreetingsFor};

/// More threads than any machine can use.
const WORKERS_MAX: u64 = 1024;

/// The flags of `halloo serve`, by the sections of its help.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServeOptions {
    #[command(flatten)]
    pub(crate) listening: ListenOptions,
    #[command(flatten)]
    pub(crate) replies: ReplyOptions,
    /// Serve on this many threads, each with its share of the clients; one per core is enough [default: 1]
    #[arg(long, value_name = "N", env = "HALLOO_WORKERS", help_heading = "Workers")]
    #[arg(value_parser = whole_number::<usize>(1..=WORKERS_MAX))]
    #[arg(default_value = "1", hide_default_value = true)]
    pub(crate) workers: usize,
    #[command(flatten)]
    pub(crate) limits: LimitOptions,
    #[command(flatten)]
    pub(crate) lifetime: LifetimeOptions,
    #[command(flatten)]
    pub(crate) output: OutputOptions,
    #[command(flatten)]
    pub(crate) recording: RecordOptions,
    #[command(flatten)]
    pub(crate) operation: OperationOptions,
    #[command(flatten)]
    pub(crate) faults: FaultOptions,
    /// The settings that were given, each with the name of its flag or variable.
    #[arg(skip)]
    pub(crate) given: GivenSettings,
    /// Warnings about environment variables; none of them ends the program.
    #[arg(skip)]
    pub(crate) warnings: Vec<String>,
}

/// Where to serve.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Listening")]
pub(crate) struct ListenOptions {
    /// Serve TCP and UDP at this address [default: localhost:8888, if nothing else is served]
    #[arg(long, value_name = "ADDRESS", env = "HALLOO_LISTEN", value_delimiter = ',')]
    pub(crate) listen: Vec<Address>,
    /// Serve only TCP at this address
    #[arg(long, value_name = "ADDRESS", env = "HALLOO_TCP", value_delimiter = ',')]
    pub(crate) tcp: Vec<Address>,
    /// Serve only UDP at this address
    #[arg(long, value_name = "ADDRESS", env = "HALLOO_UDP", value_delimiter = ',')]
    pub(crate) udp: Vec<Address>,
    /// Serve a unix stream socket at this path, like TCP; halloo removes its file when it exits. On Linux @NAME is an
    /// abstract name, without a file
    #[arg(long, value_name = "PATH", env = "HALLOO_UNIX", value_delimiter = ',', value_hint = ValueHint::FilePath)]
    #[arg(value_parser = PathBufValueParser::new().try_map(parse_unix_path))]
    pub(crate) unix: Vec<UnixPath>,
    /// The permissions of the files of unix sockets, in octal. A client needs write permission: 660 for user and group,
    /// 666 for all [default: by the umask, usually only this user]
    #[arg(long, value_name = "MODE", env = "HALLOO_UNIX_MODE", value_parser = parse_unix_mode)]
    pub(crate) unix_mode: Option<u32>,
}

/// What to reply.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Replies")]
pub(crate) struct ReplyOptions {
    /// When to reply, and with what
    #[arg(long, value_enum, env = "HALLOO_MODE", default_value_t = Mode::Greet)]
    pub(crate) mode: Mode,
    /// The greeting over all protocols; may contain placeholders such as {peer} and {json}, listed below. The flag wins
    /// over the variables of --tcp-greeting and --udp-greeting
    #[arg(long, value_name = "TEXT", env = "HALLOO_GREETING")]
    pub(crate) greeting: Option<Template>,
    /// The greeting over all protocols, from a file. It is read at the start, with the same placeholders and escapes.
    /// The newline at the end of the last line is left out
    #[arg(long, value_name = "FILE", env = "HALLOO_GREETING_FILE")]
    #[arg(value_parser = PathBufValueParser::new().try_map(parse_record_path))]
    pub(crate) greeting_file: Option<PathBuf>,
    /// The greeting over TCP and unix sockets [default: "Hello, TCP Client!"]
    #[arg(long, value_name = "TEXT", env = "HALLOO_TCP_GREETING")]
    pub(crate) tcp_greeting: Option<Template>,
    /// The greeting over UDP [default: "Hello, UDP Client!"]
    #[arg(long, value_name = "TEXT", env = "HALLOO_UDP_GREETING")]
    pub(crate) udp_greeting: Option<Template>,
    /// The greeting of a single listener, such as 9000='Hello, nine!'. Its name is a port, an address, or unix: and a
    /// path, with tcp: or udp: in front for one protocol. It wins over the other greetings, and the more precise name
    /// over the less precise one
    #[arg(long, value_name = "LISTENER=TEXT", env = "HALLOO_GREETING_FOR")]
    pub(crate) greeting_for: Vec<GreetingsFor>,
}

#[cfg(test)]
impl ReplyOptions {
    /// The default greetings.
    pub(crate) fn for_test(mode: Mode) -> Self {
        let (greeting, tcp_greeting, udp_greeting) = (None, None, None);
        Self { mode, greeting, greeting_file: None, tcp_greeting, udp_greeting, greeting_for: Vec::new() }
    }
}

impl ReplyOptions {
    /// The greetings of single sockets.
    pub(crate) fn greetings_for(&self) -> Vec<GreetingFor> {
        self.greeting_for.iter().flat_map(|greetings| greetings.0.iter().cloned()).collect()
    }
}

/// The limits.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitOptions {
    /// Most connections at once, divided among the workers; further clients of a worker wait in the backlog
    /// [default: the descriptor limit less 64, or half of a small limit]
    #[arg(long, value_name = "N", env = "HALLOO_MAX_CONNECTIONS")]
    #[arg(value_parser = whole_number::<usize>(1..=u64::MAX))]
    pub(crate) max_connections: Option<usize>,
    /// Most connections at once from one IPv4 address or IPv6 /64, for each worker; further ones are closed; 0: no
    /// limit. Clients of unix sockets have an address and this limit only behind a proxy [default: no limit]
    #[arg(long, value_name = "N", env = "HALLOO_MAX_CONNECTIONS_PER_SOURCE")]
    #[arg(value_parser = whole_number::<u32>(0..=u32::MAX.into()))]
    pub(crate) max_connections_per_source: Option<u32>,
    /// Close a connection that sends nothing (line mode: no whole line) for this long; 0: never. A client that does not
    /// read its reply is closed after 30s [default: 60s]
    #[arg(long, value_name = "TIME", env = "HALLOO_IDLE_TIMEOUT")]
    #[arg(value_parser = parse_duration)]
    pub(crate) idle_timeout: Option<Duration>,
    /// Most UDP replies per second to one IPv4 address or IPv6 /64, for each worker; 0: no limit. After a silent
    /// second, a source can get that many at once [default: 100, and no limit for loopback]
    #[arg(long, value_name = "N", env = "HALLOO_UDP_RATE")]
    #[arg(value_parser = whole_number::<u32>(0..=u32::MAX.into()))]
    pub(crate) udp_rate: Option<u32>,
    /// Most memory for input that is not processed yet and replies that are not read yet, such as 64MiB (KiB, MiB or
    /// GiB). It is divided among the workers, at least 1MiB for each. Above it, the connections that use the most wait
    /// or are reset [default: 256MiB for each worker]
    #[arg(long, value_name = "SIZE", env = "HALLOO_MEMORY_MAX")]
    #[arg(value_parser = parse_memory_max)]
    pub(crate) memory_max: Option<usize>,
}

/// The least memory of one worker, in bytes; [`halloo::EventLoop::buffer_bytes_max`] raises a smaller value to this.
pub(crate) const WORKER_MEMORY_MIN: usize = 1 << 20;

fn parse_memory_max(text: &str) -> Result<usize, String> {
    match parse_byte_size(text)? {
        bytes if bytes < WORKER_MEMORY_MIN => Err("too small; write at least 1MiB for each worker".to_owned()),
        bytes => Ok(bytes),
    }
}

/// The least memory of a recording, in bytes.
const RECORD_MEMORY_MIN: usize = 1 << 20;

fn parse_record_memory(text: &str) -> Result<usize, String> {
    match parse_byte_size(text)? {
        bytes if bytes < RECORD_MEMORY_MIN => Err("too small; write at least 1MiB".to_owned()),
        bytes => Ok(bytes),
    }
}

/// How to watch the server, and what stands in front of it.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Operation")]
pub(crate) struct OperationOptions {
    /// Serve metrics, health and the list of connections over HTTP at this address: 9090, or unix: and a path. /metrics
    /// is for Prometheus, /live and /ready for supervisors and load balancers
    #[arg(long, value_name = "ADDRESS", env = "HALLOO_ADMIN")]
    #[arg(value_parser = OsStringValueParser::new().try_map(|text| Endpoint::to_serve(&text)))]
    pub(crate) admin: Option<Endpoint>,
    /// Read the address of the real client from a PROXY header, version 1 or 2, which every client in these networks
    /// sends first: 10.0.0.0/8, an address, or the word unix for clients of unix sockets. Over UDP each datagram has a
    /// header, of version 2. The flag replaces the networks of the variable
    #[arg(long, value_name = "NETWORK", env = "HALLOO_PROXY_PROTOCOL", value_delimiter = ',')]
    pub(crate) proxy_protocol: Vec<TrustedSource>,
}

/// What to do wrong.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Faults")]
pub(crate) struct FaultOptions {
    /// Do something wrong on purpose, to test clients: delay=100ms, reset=0, half, silence and others (below). With
    /// ,share=10% to a share of the clients, with ,listener=9000 to those of one listener; none: nothing yet
    #[arg(long, value_name = "FAULT", env = "HALLOO_FAULT", value_delimiter = ';')]
    pub(crate) fault: Vec<FaultSetting>,
    /// Choose the clients of --fault by this number: the same number chooses the same sequence for each worker and
    /// listener [default: a random number, which is logged]
    #[arg(long, value_name = "N", env = "HALLOO_FAULT_SEED")]
    #[arg(value_parser = whole_number::<u32>(0..=u32::MAX.into()))]
    pub(crate) fault_seed: Option<u32>,
}

/// How long to serve.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Lifetime")]
pub(crate) struct LifetimeOptions {
    /// How long to serve everything as before after a request to stop, so that a load balancer notices: /ready of
    /// --admin reports 503. Kept connections are closed one after the other meanwhile, when their requests are answered
    #[arg(long, value_name = "TIME", env = "HALLOO_DRAIN_DELAY")]
    #[arg(value_parser = parse_duration, default_value = "0s")]
    pub(crate) drain_delay: Duration,
    /// How long open connections may take to finish after a request to stop; 0: no time
    #[arg(long, value_name = "TIME", env = "HALLOO_DRAIN_TIMEOUT")]
    #[arg(value_parser = parse_duration, default_value = "5s")]
    pub(crate) drain_timeout: Duration,
    /// Stop after exactly this many greetings, over all protocols and workers. A connection without a byte is not
    /// counted, except in banner mode. echo and discard count connections and datagrams, serve no further connection,
    /// and stop when the counted ones have ended
    #[arg(long, value_name = "N", env = "HALLOO_MAX_GREETINGS")]
    #[arg(value_parser = whole_number::<u64>(1..=u64::MAX))]
    pub(crate) max_greetings: Option<u64>,
    /// Stop when no worker has had an open connection or sent a greeting for this long; exit status 4 if that is before
    /// the last of --max-greetings
    #[arg(long, value_name = "TIME", env = "HALLOO_EXIT_WHEN_IDLE")]
    #[arg(value_parser = parse_positive_duration)]
    pub(crate) exit_when_idle: Option<Duration>,
    /// Stop when standard input ends, as after SIGTERM, so that a server does not outlive its parent. What the parent
    /// writes is ignored
    #[arg(long, env = "HALLOO_EXIT_ON_EOF", value_parser = parse_yes_or_no)]
    pub(crate) exit_on_eof: bool,
    /// Change to this user when all sockets are open, before the first client is served: a name or number, with or
    /// without a group. Needs root
    #[arg(long, value_name = "USER[:GROUP]", env = "HALLOO_USER", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) user: Option<String>,
}

/// What to print.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputOptions {
    /// How to print events on standard output
    #[arg(long, value_name = "STYLE", value_enum, env = "HALLOO_EVENTS", default_value_t = EventStyle::Text)]
    pub(crate) events: EventStyle,
    /// Log more on standard error: the end of each connection, and each datagram that is itself a greeting, without a
    /// limit on lines; twice: each step of each client
    #[arg(short, long, env = "HALLOO_VERBOSE", action = ArgAction::Count, value_parser = parse_occurrences)]
    pub(crate) verbose: u8,
    /// Log only warnings and errors; twice: only errors
    #[arg(short, long, env = "HALLOO_QUIET", action = ArgAction::Count, value_parser = parse_occurrences)]
    pub(crate) quiet: u8,
    /// How to print the log on standard error
    #[arg(long, value_name = "FORMAT", value_enum, env = "HALLOO_LOG_FORMAT", default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    /// Write the READY line to this file when the server is ready, and remove the file at the end. A file of an earlier
    /// server is replaced; a file with other contents is an error
    #[arg(long, value_name = "FILE", env = "HALLOO_READY_FILE")]
    #[arg(value_parser = PathBufValueParser::new().try_map(parse_record_path))]
    pub(crate) ready_file: Option<PathBuf>,
}

/// What to record, and where.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Recording")]
pub(crate) struct RecordOptions {
    /// Record every step of the workers, from the start to the end, and write the recording to this file at the end: as
    /// JSON, or as an HTML page if the name ends in .html. SIGUSR2 ends and writes it at once, and the next SIGUSR2
    /// starts another, which will replace the file
    #[arg(long, value_name = "FILE", env = "HALLOO_RECORD")]
    #[arg(value_parser = PathBufValueParser::new().try_map(parse_record_path))]
    pub(crate) record: Option<PathBuf>,
    /// Most memory for the entries of a recording, at least 1MiB. It is divided among the workers. When it is full, the
    /// oldest entries are lost, and the recording has their number. 16MiB are about 400,000 entries, and a file of 80 MB
    #[arg(long, value_name = "SIZE", env = "HALLOO_RECORD_MEMORY", default_value = "16MiB")]
    #[arg(value_parser = parse_record_memory)]
    pub(crate) record_memory: usize,
    /// Record also the first bytes of each read, write and datagram: at most this many
    #[arg(long, value_name = "N", env = "HALLOO_RECORD_PAYLOAD", default_value = "0")]
    #[arg(value_parser = whole_number::<usize>(0..=65_536))]
    pub(crate) record_payload: usize,
}

/// What the server does with what it receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Reply to the first bytes, or to EOF, then close
    Greet,
    /// Send the greeting on connect, without waiting for input, then close
    Banner,
    /// Reply to each line with a greeting and a newline, and stay connected. A line of more than 16 KiB closes the
    /// connection
    Line,
    /// Send back all input
    Echo,
    /// Read all input, send nothing
    Discard,
}

impl Mode {
    /// Whether the replies are greetings.
    pub(crate) const fn sends_greetings(self) -> bool {
        matches!(self, Self::Greet | Self::Banner | Self::Line)
    }

    /// Whether clients stay connected after a reply.
    pub(crate) const fn keeps_connections(self) -> bool {
        matches!(self, Self::Line | Self::Echo | Self::Discard)
    }
}

/// How events are printed on standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum EventStyle {
    /// One line for each event (echo, discard: for each connection), at most 20 a second; the rest is counted
    Text,
    /// One JSON object for each event, at most 1000 a second; the rest is counted. READY is an object, too
    Json,
    /// No events, only READY
    Off,
}

/// How the log is printed on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// One line of text for each message
    Text,
    /// One JSON object for each message; only an error on the command line stays text
    Json,
}

/// Parses permissions in octal, as in `chmod(1)`, without the setuid, setgid and sticky bits.
fn parse_unix_mode(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let is_octal = (1..=4).contains(&digits.len()) && digits.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let mode = u32::from_str_radix(digits, 8).ok().filter(|mode| is_octal && *mode <= 0o777);
    mode.ok_or_else(|| "not a file mode; write permissions in octal, such as 660, at most 777".to_owned())
}
