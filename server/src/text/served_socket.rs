//! A socket of the server, and the names that settings give it.
//!
//! A name means each socket that it matches: `9000` means TCP and UDP at that port of every address.

use std::ffi::OsString;
use std::fmt;
use std::str::FromStr;

use crate::text::address::{Address, Endpoint, UNIX_PREFIX, is_decimal};
use crate::text::bound_address::BoundAddress;
use crate::text::escape;
use crate::text::protocol::Protocol;

/// A TCP listener, a listener at a unix socket or a UDP socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServedSocket {
    pub(crate) protocol: Protocol,
    /// The address as wanted: its port may be 0.
    pub(crate) address: BoundAddress,
    /// The address of the command line; an inherited socket has none.
    pub(crate) given: Option<Endpoint>,
}

impl ServedSocket {
    /// The address of a unix socket, which its connections do not have.
    pub(crate) fn unix_address(&self) -> Option<&BoundAddress> {
        (self.protocol == Protocol::Unix).then_some(&self.address)
    }
}

/// The most precise name of the socket.
impl fmt::Display for ServedSocket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.protocol, self.address)
    }
}

#[cfg(test)]
impl ServedSocket {
    /// A TCP listener with a free port.
    pub(crate) fn for_test() -> std::sync::Arc<Self> {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into();
        std::sync::Arc::new(Self { protocol: Protocol::Tcp, address, given: None })
    }
}

/// The name of sockets in a setting: `9000`, `tcp:localhost:9000` or `unix:/run/halloo.sock`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SocketName {
    text: String,
    /// `None` for TCP and UDP.
    protocol: Option<Protocol>,
    place: Place,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// A port of any address.
    Port(u16),
    At(Endpoint),
}

impl SocketName {
    /// How precisely the name selects a socket: an address more than a port, a protocol more than none.
    pub(crate) fn precision(&self) -> impl Ord + use<> {
        (matches!(self.place, Place::At(_)), self.protocol.is_some())
    }

    /// Whether a socket of this protocol can have the name.
    pub(crate) fn is_possible_for(&self, protocol: Protocol) -> bool {
        match (self.protocol, protocol) {
            (Some(named), _) => named == protocol,
            (None, Protocol::Unix) => false,
            (None, Protocol::Tcp | Protocol::Udp) => true,
        }
    }

    /// An error with the names of all sockets, if none of them has this name.
    pub(crate) fn check_served<'s>(
        &self,
        sockets: impl Iterator<Item = &'s ServedSocket> + Clone,
    ) -> Result<(), String> {
        if sockets.clone().any(|socket| self.matches(socket)) {
            return Ok(());
        }
        let served: Vec<String> = sockets.map(ToString::to_string).collect();
        Err(format!(
            "no socket of this server has the name {}; write one of {}",
            escape::excerpt(&self.text),
            served.join(" ")
        ))
    }

    /// Whether the socket has this name.
    pub(crate) fn matches(&self, socket: &ServedSocket) -> bool {
        self.protocol.is_none_or(|protocol| protocol == socket.protocol)
            && match &self.place {
                Place::Port(port) => socket.address.socket_addr().is_some_and(|address| address.port() == *port),
                Place::At(place) => socket.given.as_ref() == Some(place) || is_at(place, &socket.address),
            }
    }
}

/// Whether a place is this address. A name is not looked up.
fn is_at(place: &Endpoint, address: &BoundAddress) -> bool {
    match place {
        Endpoint::Internet(place) if place.is_name() => false,
        Endpoint::Internet(place) => {
            let socket_addr = address.socket_addr();
            place.resolve().is_ok_and(|resolved| resolved.iter().any(|one| Some(*one) == socket_addr))
        }
        Endpoint::Unix(path) => BoundAddress::from_path(path.as_path()) == *address,
    }
}

impl FromStr for SocketName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.starts_with(['/', '@']) {
            return Err(format!("a unix socket has the name unix:{}", escape::excerpt(text)));
        }
        let (protocol, rest) = match text.split_once(':') {
            Some(("tcp", rest)) => (Some(Protocol::Tcp), rest),
            Some(("udp", rest)) => (Some(Protocol::Udp), rest),
            _ => (None, text),
        };
        if protocol.is_none() && rest.starts_with(UNIX_PREFIX) {
            let path = Endpoint::try_from(OsString::from(rest))?;
            return Ok(Self { text: text.to_owned(), protocol: Some(Protocol::Unix), place: Place::At(path) });
        }
        let port = rest.strip_prefix(':').unwrap_or(rest);
        let place = match port.parse() {
            Ok(port) if is_decimal(rest) || rest.starts_with(':') => Place::Port(port),
            _ => Place::At(Endpoint::Internet(rest.parse::<Address>()?)),
        };
        Ok(Self { text: text.to_owned(), protocol, place })
    }
}

/// The name as given.
impl fmt::Display for SocketName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::net::SocketAddr;
    use std::path::Path;

    use super::{ServedSocket, SocketName};
    use crate::text::address::Endpoint;
    use crate::text::bound_address::BoundAddress;
    use crate::text::protocol::Protocol;

    fn socket(protocol: Protocol, address: &str, given: Option<&str>) -> ServedSocket {
        let address = match address.parse::<SocketAddr>() {
            Ok(address) => BoundAddress::from(address),
            Err(_) => BoundAddress::from_path(Path::new(address)),
        };
        let given = given.map(|given| Endpoint::try_from(OsString::from(given)).unwrap());
        ServedSocket { protocol, address, given }
    }

    #[test]
    fn a_name_matches_sockets_by_port_by_address_and_as_given() {
        let tcp = socket(Protocol::Tcp, "127.0.0.1:9000", Some("localhost:9000"));
        let udp = socket(Protocol::Udp, "0.0.0.0:9000", None);
        let named = socket(Protocol::Tcp, "192.0.2.1:9001", Some("example.org:9001"));
        let unix = socket(Protocol::Unix, "/run/a.sock", None);
        let sockets = [&tcp, &udp, &named, &unix];
        for (name, expected) in [
            ("9000", [true, true, false, false]),
            (":9000", [true, true, false, false]),
            ("tcp:9000", [true, false, false, false]),
            ("udp:9000", [false, true, false, false]),
            ("127.0.0.1:9000", [true, false, false, false]),
            ("localhost:9000", [true, false, false, false]),
            ("udp:0.0.0.0:9000", [false, true, false, false]),
            ("example.org:9001", [false, false, true, false]),
            ("192.0.2.1:9001", [false, false, true, false]),
            ("unix:/run/a.sock", [false, false, false, true]),
            ("unix:/run/b.sock", [false; 4]),
            ("tcp:9001", [false, false, true, false]),
            ("[::1]:9000", [false; 4]),
        ] {
            let name: SocketName = name.parse().unwrap();
            assert_eq!(sockets.map(|socket| name.matches(socket)), expected, "{name}");
        }
    }

    #[test]
    fn a_socket_with_a_free_port_has_the_name_as_given() {
        let given = Some(Endpoint::Internet("127.0.0.1:0".parse().unwrap()));
        let socket = ServedSocket { given, ..socket(Protocol::Udp, "127.0.0.1:0", None) };
        assert!("127.0.0.1:0".parse::<SocketName>().unwrap().matches(&socket));
    }

    #[test]
    fn a_name_that_is_no_address_is_refused() {
        for text in ["", "tcp:", "unix:", "/run/a", "@a", "70000", "http://a"] {
            assert!(text.parse::<SocketName>().is_err(), "{text}");
        }
    }
}
