//! Addresses of the command line, and the socket addresses they resolve to.
//!
//! `localhost` means both loopback addresses, IPv4 first; it is not looked up (RFC 6761, section 6.3).

use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::{fmt, io};

use crate::text::LEAVE_FLAG_OUT;
use crate::text::bound_address::BoundAddress;
use crate::text::escape::excerpt;

/// The default port: that of the first halloo programs.
const DEFAULT_PORT: u16 = 8888;

/// The longest host name (RFC 1035, section 2.3.4) and its longest label, in bytes.
const DNS_NAME_BYTES_MAX: usize = 253;
const DNS_LABEL_BYTES_MAX: usize = 63;

/// The longest name of a network interface: `IFNAMSIZ` less the NUL (`if_nametoindex(3)`).
const ZONE_BYTES_MAX: usize = 15;

/// Words that switch something on or off, and are no addresses.
const NO_ADDRESSES: [&str; 7] = ["true", "false", "yes", "no", "on", "off", "none"];

const PORT_RANGE: &str = "port ranges are not supported; separate addresses by commas, as in 9000,9001";

const PORTS_TO_SERVE: &str = "write 0, for any free port, to 65535";
const PORTS_TO_ASK: &str = "write 1 to 65535";

const SYNTAX_HINT: &str = "write 9000, localhost:9000, 127.0.0.1:9000, [::1]:9000 or name:9000";

const ADMIN_SYNTAX_HINT: &str =
    "write 9000, localhost:9000, 127.0.0.1:9000, [::1]:9000, name:9000 or unix:/run/halloo-admin.sock";

/// An address of the command line: a host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    host: Host,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Localhost,
    Ip(IpAddr),
    /// A name, or an IPv6 address with a zone; the resolver looks up both.
    Name(String),
}

/// A version of the internet protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IpVersion {
    V4,
    V6,
}

impl IpVersion {
    /// Whether the address is of this version.
    pub(crate) fn includes(self, address: SocketAddr) -> bool {
        address.is_ipv4() == (self == Self::V4)
    }
}

impl fmt::Display for IpVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// `localhost:8888`.
impl Default for Address {
    fn default() -> Self {
        Self { host: Host::Localhost, port: DEFAULT_PORT }
    }
}

impl Address {
    /// The zone of an IPv6 address: the name or number of a network interface.
    pub(crate) fn zone(&self) -> Option<&str> {
        match &self.host {
            Host::Name(name) => name.split_once('%').map(|(_, zone)| zone),
            Host::Localhost | Host::Ip(_) => None,
        }
    }

    /// Whether it is a name. The resolver may ask other machines for it, which takes time.
    pub(crate) fn is_name(&self) -> bool {
        matches!(self.host, Host::Name(_)) && self.zone().is_none()
    }

    /// The host, in the form that a port can follow.
    pub(crate) fn host(&self) -> String {
        match &self.host {
            Host::Localhost => "localhost".to_owned(),
            Host::Ip(IpAddr::V4(ip)) => ip.to_string(),
            Host::Ip(IpAddr::V6(ip)) => format!("[{ip}]"),
            Host::Name(name) if name.contains(':') => format!("[{name}]"),
            Host::Name(name) => name.clone(),
        }
    }

    /// The version of an IP address; a name may have addresses of both.
    pub(crate) fn ip_version(&self) -> Option<IpVersion> {
        match &self.host {
            Host::Ip(IpAddr::V4(_)) => Some(IpVersion::V4),
            Host::Ip(IpAddr::V6(_)) => Some(IpVersion::V6),
            Host::Name(_) => self.zone().map(|_| IpVersion::V6),
            Host::Localhost => None,
        }
    }

    /// Returns every socket address, IPv4 first, each once. Looks up a name, which may block.
    pub(crate) fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let mut addresses = self.resolve_in_order()?;
        addresses.sort_by_key(SocketAddr::is_ipv6);
        Ok(addresses)
    }

    /// Like [`resolve`](Self::resolve), but in the resolver's order: the order to try them in (RFC 6724).
    pub(crate) fn resolve_in_order(&self) -> io::Result<Vec<SocketAddr>> {
        let addresses = match &self.host {
            Host::Localhost => vec![
                SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)),
                SocketAddr::from((Ipv6Addr::LOCALHOST, self.port)),
            ],
            Host::Ip(ip) => vec![SocketAddr::new(*ip, self.port)],
            Host::Name(name) => (name.as_str(), self.port).to_socket_addrs()?.collect(),
        };
        let mut unique: Vec<SocketAddr> = Vec::with_capacity(addresses.len());
        for address in addresses {
            if !unique.contains(&address) {
                unique.push(address);
            }
        }
        Ok(unique)
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Err(format!("the address is empty; {SYNTAX_HINT}, without a comma before or after it"));
        }
        if let Some(path) = text.strip_prefix("unix://") {
            return Err(format!("not an address; serve a path with --unix {}", excerpt(path)));
        }
        if let Some((scheme, _)) = text.split_once("://") {
            let scheme = excerpt(scheme);
            return Err(format!(
                "URLs are not supported: leave out {scheme}:// and everything after the port; {SYNTAX_HINT}"
            ));
        }
        if let Some((protocol @ ("tcp" | "udp"), address)) = text.split_once('=') {
            return Err(format!("leave out {protocol}=: write {}", excerpt(address)));
        }
        if NO_ADDRESSES.contains(&text) {
            return Err(format!("{text} is not an address; {SYNTAX_HINT}, or {LEAVE_FLAG_OUT}"));
        }
        if text.contains(char::is_whitespace) {
            return Err(
                "the address contains a space; put a colon before a port, and a comma between addresses".to_owned()
            );
        }
        if let Some(path) = text.strip_prefix(UNIX_PREFIX).or_else(|| as_path(text)) {
            return Err(format!("not an address; serve a path with --unix {}", excerpt(path)));
        }
        if text.contains(',') {
            return Err(format!("several addresses where one is expected; {SYNTAX_HINT}"));
        }
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(Self { host: Host::Localhost, port: parse_port(text)? });
        }
        let (host, port) = split_host_port(text)?;
        Ok(Self { host: parse_host(host)?, port: port.map_or(Ok(DEFAULT_PORT), parse_port)? })
    }
}

/// Returns the text if it can only be a path or an abstract name.
fn as_path(text: &str) -> Option<&str> {
    (text.starts_with(['/', '~', '@']) || text.starts_with("./") || text.starts_with("../")).then_some(text)
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.host(), self.port)
    }
}

/// Splits the text into the host and, if there is one, the port.
fn split_host_port(text: &str) -> Result<(&str, Option<&str>), String> {
    if let Some(inside) = text.strip_prefix('[') {
        return match inside.split_once(']') {
            Some((host, _)) if !is_ipv6(host) => {
                Err(format!("[{}] is not an IPv6 address; {SYNTAX_HINT}", excerpt(host)))
            }
            Some((host, "")) => Ok((host, None)),
            Some((host, rest)) => match rest.strip_prefix(':') {
                Some(port) => Ok((host, Some(port))),
                None => Err(format!("a colon is missing between ] and the port; {SYNTAX_HINT}")),
            },
            None => Err(format!("the closing ] is missing; {SYNTAX_HINT}")),
        };
    }
    match text.split_once(':') {
        None => Ok((text, None)),
        // More than one colon: an IPv6 address without brackets, which cannot have a port.
        Some((_, rest)) if rest.contains(':') => {
            let with_port = text.rsplit_once(':').filter(|(host, port)| is_ipv6(host) && port.parse::<u32>().is_ok());
            match with_port {
                Some((host, port)) if is_ipv6(text) => {
                    Err(format!("ambiguous address; write [{host}]:{port} for port {port}, or [{text}]"))
                }
                Some((host, port)) => Err(format!("an IPv6 address with a port needs brackets; write [{host}]:{port}")),
                None if is_ipv6(text) => Ok((text, None)),
                None => Err(format!("too many colons; {SYNTAX_HINT}")),
            }
        }
        Some((host, port)) => Ok((host, Some(port))),
    }
}

fn is_ipv6(text: &str) -> bool {
    let (ip, zone) = text.split_once('%').unwrap_or((text, "0"));
    ip.parse::<Ipv6Addr>().is_ok()
        && (1..=ZONE_BYTES_MAX).contains(&zone.len())
        && zone.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
}

/// Whether the text has ASCII digits only, at least one.
pub(crate) fn is_decimal(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn parse_host(host: &str) -> Result<Host, String> {
    if host.is_empty() || is_localhost(host) {
        return Ok(Host::Localhost);
    }
    if let Ok(ip) = host.parse() {
        return Ok(Host::Ip(ip));
    }
    if host == "*" {
        return Err("* is not an address; for every address of this machine write 0.0.0.0 or [::]".to_owned());
    }
    match host.split_once('%').filter(|_| is_ipv6(host)) {
        Some((ip, zone)) => validate_zone(ip, zone)?,
        None => validate_hostname(host)?,
    }
    Ok(Host::Name(host.to_owned()))
}

fn is_localhost(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost") && validate_hostname(&name).is_ok()
}

/// Whether it is a link-local IPv6 address without its zone, the network interface.
pub(crate) fn lacks_zone(address: SocketAddr) -> bool {
    matches!(address, SocketAddr::V6(address) if address.ip().is_unicast_link_local() && address.scope_id() == 0)
}

/// Cause and hint for a zone that the system does not know.
pub(crate) fn describe_unknown_zone(zone: &str) -> String {
    format!("no such device: this machine has no interface {zone}; ip link lists its interfaces")
}

/// The name of an interface has a meaning on a link-local address only (RFC 4007, section 11.2).
fn validate_zone(ip: &str, zone: &str) -> Result<(), String> {
    let is_link_local = ip.parse::<Ipv6Addr>().is_ok_and(|ip| ip.is_unicast_link_local() || ip.is_multicast());
    if is_link_local || is_decimal(zone) {
        return Ok(());
    }
    Err(format!("%{zone} has no meaning for {ip}, which is not a link-local address; leave it out"))
}

fn validate_hostname(host: &str) -> Result<(), String> {
    let name = host.strip_suffix('.').unwrap_or(host);
    let is_valid_label = |label: &str| {
        (1..=DNS_LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() > DNS_NAME_BYTES_MAX || !name.split('.').all(is_valid_label) {
        return Err(format!("{} is neither an IP address nor a host name; {SYNTAX_HINT}", excerpt(host)));
    }
    if is_port_range(host) {
        return Err(PORT_RANGE.to_owned());
    }
    // No host name ends in a number. This is a misspelt IPv4 address, or a form that only some resolvers accept.
    if name.rsplit('.').next().is_some_and(is_number) {
        return Err(format!("{host} is not an IPv4 address; {SYNTAX_HINT}"));
    }
    Ok(())
}

fn is_number(label: &str) -> bool {
    match label.strip_prefix("0x").or_else(|| label.strip_prefix("0X")) {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => is_decimal(label),
    }
}

/// Whether the text is two numbers with a hyphen between. No real host has such a name.
fn is_port_range(text: &str) -> bool {
    text.split_once('-').is_some_and(|(first, last)| is_decimal(first) && is_decimal(last))
}

fn parse_port(port: &str) -> Result<u16, String> {
    if port.is_empty() {
        return Err(format!("the port is missing after the colon; {SYNTAX_HINT}"));
    }
    if is_port_range(port) {
        return Err(PORT_RANGE.to_owned());
    }
    if !is_decimal(port) {
        return Err(format!("{} is not a port number; {SYNTAX_HINT}", excerpt(port)));
    }
    port.parse().map_err(|_| format!("{} is not a port; {PORTS_TO_SERVE}", excerpt(port)))
}

/// The prefix of a unix path in the address of a probe.
pub(crate) const UNIX_PREFIX: &str = "unix:";

/// A unix socket: its path as given, or a NUL byte and its abstract name, the library's form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnixPath(PathBuf);

impl UnixPath {
    pub(crate) fn as_path(&self) -> &Path {
        &self.0
    }

    /// Whether it is an abstract name, which has no file.
    pub(crate) fn is_abstract(&self) -> bool {
        self.0.as_os_str().as_bytes().starts_with(&[0])
    }
}

/// A leading `@` means an abstract name, as in the output of ss(8). A file of that name is written `./@name`.
impl TryFrom<PathBuf> for UnixPath {
    type Error = String;

    fn try_from(path: PathBuf) -> Result<Self, String> {
        match path.as_os_str().as_bytes().strip_prefix(b"@") {
            Some(b"") => Err("the name is missing after @; write one, such as @halloo".to_owned()),
            Some(_) if !cfg!(target_os = "linux") => {
                let shown = excerpt(&path.to_string_lossy());
                Err(format!("only Linux has abstract names; for a file of that name write ./{shown}"))
            }
            Some(name) => Ok(Self(OsString::from_vec([b"\0", name].concat()).into())),
            None => Ok(Self(path)),
        }
    }
}

/// Parses a path of the command line. A text in the form of an address is refused.
pub(crate) fn parse_unix_path(path: PathBuf) -> Result<UnixPath, String> {
    let text = path.to_string_lossy();
    let shown = excerpt(&text);
    for prefix in [UNIX_PREFIX, "unix="] {
        if let Some(path) = text.strip_prefix(prefix) {
            let path = excerpt(path);
            return Err(format!("leave out {prefix} and write {path}, or ./{shown} for a file of that name"));
        }
    }
    let is_address = is_decimal(&text) || text.contains(':') && !text.contains('/') && text.parse::<Address>().is_ok();
    if is_address {
        return Err(format!("an address, not a path; write --tcp {shown}, or ./{shown} for a file of that name"));
    }
    if text.starts_with('-') {
        return Err(format!("the path begins like a flag; write ./{shown} for a file of that name"));
    }
    path.try_into()
}

/// One address, or `unix:` and the path of a unix socket: the server that a probe asks, or the admin endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Internet(Address),
    Unix(UnixPath),
}

impl Endpoint {
    /// Parses the address of the admin endpoint, to listen on.
    pub(crate) fn to_serve(text: &OsStr) -> Result<Self, String> {
        if let Some(path) = text.to_str().and_then(|text| text.strip_prefix("unix://")) {
            let path = excerpt(path.trim_start_matches('/'));
            return Err(format!("leave out the // of a URL; write {UNIX_PREFIX}/{path}"));
        }
        if let Some(path) = Self::unix_path(text) {
            return path;
        }
        let text = text.to_str().ok_or_else(|| format!("not valid UTF-8; {ADMIN_SYNTAX_HINT}"))?.trim();
        if text.eq_ignore_ascii_case(UNIX_PREFIX) {
            return Err(format!("the path is missing; write {UNIX_PREFIX}/run/halloo-admin.sock"));
        }
        if let Some(path) = as_path(text) {
            return Err(format!("not an address; for a unix socket write {UNIX_PREFIX}{}", excerpt(path)));
        }
        let address: Address = text.parse().map_err(|error: String| error.replace(SYNTAX_HINT, ADMIN_SYNTAX_HINT))?;
        // The default port is that of the service.
        if !is_decimal(text) && split_host_port(text)?.1.is_none() {
            if text.starts_with(|c: char| c.is_ascii_digit()) && !text.contains(['.', ':']) {
                return Err(format!("{} is not a port number; {ADMIN_SYNTAX_HINT}", excerpt(text)));
            }
            return Err(format!("the port is missing; write {}:9090", excerpt(&address.host())));
        }
        Ok(Self::Internet(address))
    }

    /// The path after the prefix, which may contain any byte.
    fn unix_path(text: &OsStr) -> Option<Result<Self, String>> {
        let (prefix, path) = text.as_bytes().split_at_checked(UNIX_PREFIX.len())?;
        if !prefix.eq_ignore_ascii_case(UNIX_PREFIX.as_bytes()) || path.is_empty() {
            return None;
        }
        Some(PathBuf::from(OsStr::from_bytes(path)).try_into().map(Self::Unix))
    }
}

/// Parses the address of a server, to connect to.
impl TryFrom<OsString> for Endpoint {
    type Error = String;

    fn try_from(text: OsString) -> Result<Self, String> {
        if let Some(path) = Self::unix_path(&text) {
            return path;
        }
        let text = text.to_str().ok_or_else(|| format!("not valid UTF-8; {SYNTAX_HINT}"))?;
        let path = text.strip_prefix("unix=").or_else(|| as_path(text));
        match path {
            _ if text == UNIX_PREFIX => Err(format!("the path is missing; write {UNIX_PREFIX}/run/halloo.sock")),
            Some(path) => Err(format!("not an address; to ask a unix socket write {UNIX_PREFIX}{}", excerpt(path))),
            None if text.rsplit(':').next().is_some_and(is_port_range) => {
                Err("port ranges are not supported; name one port, as in localhost:9000".to_owned())
            }
            None if text.starts_with('*') => {
                Err("* is not the address of one server; name one, as in localhost:9000".to_owned())
            }
            None if text.trim().contains(char::is_whitespace) => {
                Err("the address contains a space; put a colon before a port, as in localhost:9000".to_owned())
            }
            None => match text.parse().map_err(|error: String| error.replace(PORTS_TO_SERVE, PORTS_TO_ASK))? {
                Address { port: 0, .. } => Err("no server has port 0; name the port of the server".to_owned()),
                address => Ok(Self::Internet(address)),
            },
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Internet(address) => address.fmt(formatter),
            Self::Unix(path) => BoundAddress::from_path(path.as_path()).fmt(formatter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Address, Endpoint, IpVersion, UnixPath, parse_unix_path};
    use proptest::prelude::*;
    use std::ffi::OsString;
    use std::net::SocketAddr;
    use std::path::{Path, PathBuf};

    fn parse_and_print(text: &str) -> String {
        text.parse::<Address>().map_or_else(|error| format!("error: {error}"), |address| address.to_string())
    }

    fn resolve(text: &str) -> Vec<String> {
        let address: Address = text.parse().unwrap();
        address.resolve().unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_short_form_of_an_address_is_parsed() {
        for (text, expected) in [
            ("9000", "localhost:9000"),
            (":9000", "localhost:9000"),
            ("localhost", "localhost:8888"),
            ("LocalHost:9000", "localhost:9000"),
            ("localhost.", "localhost:8888"),
            ("app.localhost:1", "localhost:1"),
            ("127.0.0.1", "127.0.0.1:8888"),
            ("0.0.0.0:0", "0.0.0.0:0"),
            ("[::1]:9000", "[::1]:9000"),
            ("[::1]", "[::1]:8888"),
            ("::1", "[::1]:8888"),
            ("::", "[::]:8888"),
            ("2001:db8::a:b", "[2001:db8::a:b]:8888"),
            ("1:2:3:4:5:6:7:8", "[1:2:3:4:5:6:7:8]:8888"),
            ("[::1:9000]", "[::1:9000]:8888"),
            ("fe80::1%eth0", "[fe80::1%eth0]:8888"),
            ("[fe80::1%2]:7", "[fe80::1%2]:7"),
            ("example.org", "example.org:8888"),
            (" my_host-1:65535 ", "my_host-1:65535"),
        ] {
            assert_eq!(parse_and_print(text), expected);
        }
        assert_eq!(Address::default().to_string(), "localhost:8888");
    }

    #[test]
    fn localhost_is_both_loopback_addresses_ipv4_first() {
        assert_eq!(resolve("localhost:7"), ["127.0.0.1:7", "[::1]:7"]);
        assert_eq!(resolve("::1"), ["[::1]:8888"]);
        assert_eq!(resolve("127.0.0.2:0"), ["127.0.0.2:0"]);
    }

    #[test]
    fn names_and_addresses_are_distinguished() {
        for (text, is_name, version) in [
            ("localhost", false, None),
            ("127.0.0.1", false, Some(IpVersion::V4)),
            ("::1", false, Some(IpVersion::V6)),
            ("::ffff:127.0.0.1", false, Some(IpVersion::V6)),
            ("[fe80::1%lo]:9", false, Some(IpVersion::V6)),
            ("example.org", true, None),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.is_name(), address.ip_version()), (is_name, version), "{text}");
        }
    }

    #[test]
    fn a_malformed_address_is_reported_with_the_right_form() {
        for (text, expected) in [
            ("", "empty"),
            ("70000", "70000 is not a port"),
            ("localhost:70000", "70000 is not a port"),
            ("localhost:", "port is missing"),
            ("localhost:http", "http is not a port number"),
            ("localhost:+1", "+1 is not a port number"),
            ("[::1", "closing ]"),
            ("[::1]9000", "a colon is missing"),
            ("[127.0.0.1]:1", "not an IPv6 address"),
            ("a:b:c", "too many colons"),
            ("tcp://localhost:1", "leave out tcp://"),
            ("http://[::1]:9000/x", "leave out http://"),
            ("a:1,b:2", "several addresses"),
            ("::1:9000", "write [::1]:9000 for port 9000, or [::1:9000]"),
            ("fe80::1:80", "write [fe80::1]:80 for port 80, or [fe80::1:80]"),
            ("::1:65535", "write [::1]:65535"),
            ("fe80::1%2:90", "write [fe80::1%2]:90"),
            ("[::1%lo]:0", "%lo has no meaning for ::1"),
            ("256.0.0.1", "not an IPv4 address"),
            ("127.1:9000", "not an IPv4 address"),
            ("*:9000", "0.0.0.0"),
            ("two words", "contains a space"),
            ("tcp=127.0.0.1:9000", "leave out tcp=: write 127.0.0.1:9000"),
            ("9000-9003", "port ranges are not supported"),
            ("unix:/a", "serve a path with --unix /a"),
            ("unix:///a", "serve a path with --unix /a"),
            ("@a", "serve a path with --unix @a"),
            ("~/a.sock", "serve a path with --unix ~/a.sock"),
            ("./a.sock", "serve a path with --unix ./a.sock"),
            ("localhost:9000-9003", "port ranges are not supported"),
            ("-a", "neither"),
            ("a..b", "neither"),
            ("fe80::1%", "too many colons"),
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_name_that_ends_in_a_hexadecimal_number_is_refused() {
        for text in ["0x7f", "0X7F.", "1.2.3.0x4", "0x7f000001:80", "a.0xg.0xf"] {
            assert!(parse_and_print(text).contains("not an IPv4 address"), "{text}: {}", parse_and_print(text));
        }
        for text in ["0xg", "x7f", "0x7f.org", "10x7f", "face"] {
            assert_eq!(parse_and_print(text), format!("{text}:8888"));
        }
    }

    #[test]
    fn a_zone_is_at_most_as_long_as_the_name_of_an_interface() {
        let with_zone = |length| format!("fe80::1%{}", "a".repeat(length));
        assert_eq!(parse_and_print(&with_zone(15)), format!("[{}]:8888", with_zone(15)));
        for length in [0, 16, 2000] {
            assert!(parse_and_print(&with_zone(length)).contains("too many colons"));
            assert!(parse_and_print(&format!("[{}]:1", with_zone(length))).contains("not an IPv6 address"));
        }
    }

    proptest! {
        #[test]
        fn every_socket_address_resolves_to_itself(address in any::<SocketAddr>()) {
            // Only the resolver accepts a zone or a flow label.
            let address = SocketAddr::new(address.ip(), address.port());
            prop_assert_eq!(resolve(&address.to_string()), [address.to_string()]);
        }

        #[test]
        fn a_printed_address_is_parsed_back_unchanged(text in "[a-z0-9.:\\[\\]%-]{0,24}") {
            if let Ok(address) = text.parse::<Address>() {
                prop_assert_eq!(address.to_string().parse::<Address>(), Ok(address));
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}") {
            let _ = text.parse::<Address>();
        }
    }

    #[test]
    fn only_a_text_with_the_unix_prefix_is_a_path() {
        let parse_and_print = |text: &str| Endpoint::try_from(OsString::from(text)).map(|target| target.to_string());
        assert_eq!(parse_and_print("unix:/run/a b:c").as_deref(), Ok("/run/a b:c"));
        assert_eq!(parse_and_print("unix:a.sock").as_deref(), Ok("a.sock"));
        assert_eq!(parse_and_print("9000").as_deref(), Ok("localhost:9000"));
        assert_eq!(parse_and_print("unix").as_deref(), Ok("unix:8888"));
        assert!(parse_and_print("unix:").unwrap_err().contains("unix:/run/halloo.sock"));
        assert!(parse_and_print("/run/a").is_err());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_leading_at_sign_means_an_abstract_name() {
        let unix_path = |text: &str| UnixPath::try_from(PathBuf::from(text)).unwrap();
        let target = |text: &str| Endpoint::try_from(OsString::from(text));
        assert_eq!((unix_path("@a b").as_path(), unix_path("@a b").is_abstract()), (Path::new("\0a b"), true));
        assert_eq!((unix_path("./@a").as_path(), unix_path("./@a").is_abstract()), (Path::new("./@a"), false));
        assert_eq!(target("unix:@a"), Ok(Endpoint::Unix(unix_path("@a"))));
        assert_eq!(target("unix:@a").unwrap().to_string(), "@a");
        assert_eq!(target("unix:./@a").unwrap().to_string(), "./@a");
        assert!(target("unix:@").unwrap_err().contains("name is missing"));
        assert!(target("@a").unwrap_err().contains("write unix:@a"));
    }

    #[test]
    fn a_path_in_the_form_of_an_address_needs_its_folder() {
        for (text, hint) in [
            ("9000", "write --tcp 9000, or ./9000"),
            ("localhost:8888", "--tcp localhost:8888"),
            ("[::1]:9", "./[::1]:9"),
            (":9000", "--tcp :9000"),
            ("unix:/run/x", "write /run/x, or ./unix:/run/x"),
        ] {
            let error = parse_unix_path(text.into()).unwrap_err();
            assert!(error.contains(hint), "{text}: {error}");
        }
        for text in ["./9000", "halloo", "halloo.sock", "localhost", "/run/a:1", "a:b:c", "a1:x", "/run/my:8888"] {
            assert_eq!(parse_unix_path(text.into()).unwrap().as_path(), Path::new(text));
        }
    }
}
