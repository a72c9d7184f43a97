//! Greetings of single sockets, `9000=Hello!`, and which of them a socket has.
//!
//! The most precise name wins. Two names of a socket that are equally precise are an error.

use std::str::FromStr;

use crate::text::escape;
use crate::text::served_socket::{ServedSocket, SocketName};
use crate::text::template::Template;

const FORM_HINT: &str = "write LISTENER=TEXT, such as 9000=Hello! or unix:/run/halloo.sock=Hello!";

/// The greeting of the sockets with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GreetingFor {
    pub(crate) socket: SocketName,
    pub(crate) greeting: Template,
}

/// The greetings of one flag, or of the variable: one for each line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GreetingsFor(pub(crate) Vec<GreetingFor>);

impl GreetingFor {
    /// The greeting of this socket by its position, if one has a name of the socket.
    pub(crate) fn position_for(all: &[Self], socket: &ServedSocket) -> Option<usize> {
        let named = all.iter().enumerate().filter(|(_, one)| one.socket.matches(socket));
        named.max_by_key(|(_, one)| one.socket.precision()).map(|(position, _)| position)
    }

    /// Returns an error if a name belongs to no socket, or if two names of a socket are equally precise.
    pub(crate) fn check_all<'s>(
        all: &[Self],
        sockets: impl Iterator<Item = &'s ServedSocket> + Clone,
    ) -> Result<(), String> {
        for one in all {
            one.socket.check_served(sockets.clone())?;
        }
        for socket in sockets {
            let Some(position) = Self::position_for(all, socket) else { continue };
            let best = &all[position].socket;
            let is_equal = |other: &&Self| other.socket.matches(socket) && other.socket.precision() == best.precision();
            if let [first, second, ..] = all.iter().filter(is_equal).collect::<Vec<_>>()[..] {
                let names = [first, second].map(|one| escape::excerpt(&one.socket.to_string()));
                return Err(format!(
                    "{socket} has two greetings, for {}; leave one of them out",
                    names.join(" and for ")
                ));
            }
        }
        Ok(())
    }
}

impl FromStr for GreetingFor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((socket, greeting)) = text.split_once('=') else {
            return Err(format!(
                "there is no = in {}; {FORM_HINT}, and a newline in the text as \\n",
                escape::excerpt(text)
            ));
        };
        let socket = socket.parse().map_err(|error| format!("before the =: {error}; {FORM_HINT}"))?;
        Ok(Self { socket, greeting: greeting.parse()? })
    }
}

impl FromStr for GreetingsFor {
    type Err = String;

    /// The last line may end, as a block in YAML does.
    fn from_str(text: &str) -> Result<Self, String> {
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        match lines.map(str::parse).collect::<Result<Vec<_>, _>>()? {
            greetings if greetings.is_empty() => Err(format!("no greeting is given; {FORM_HINT}")),
            greetings => Ok(Self(greetings)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use super::{GreetingFor, GreetingsFor};
    use crate::text::protocol::Protocol;
    use crate::text::served_socket::ServedSocket;

    fn parse(text: &str) -> Vec<GreetingFor> {
        text.parse::<GreetingsFor>().unwrap().0
    }

    fn sockets() -> [ServedSocket; 2] {
        let tcp: ServedSocket = Arc::unwrap_or_clone(ServedSocket::for_test());
        let address = SocketAddr::from(([127, 0, 0, 1], 9000)).into();
        let tcp = ServedSocket { address, ..tcp };
        [tcp.clone(), ServedSocket { protocol: Protocol::Udp, ..tcp }]
    }

    #[test]
    fn the_most_precise_name_of_a_socket_wins() {
        let [tcp, udp] = sockets();
        for (text, of_tcp, of_udp) in [
            ("9000=a", Some(0), Some(0)),
            ("udp:9000=a", None, Some(0)),
            ("9000=a\ntcp:9000=b", Some(1), Some(0)),
            ("tcp:9000=a\n127.0.0.1:9000=b", Some(1), Some(1)),
            ("tcp:127.0.0.1:9000=a\n127.0.0.1:9000=b\n", Some(0), Some(1)),
            ("9001=a", None, None),
        ] {
            let all = parse(text);
            let positions = [&tcp, &udp].map(|socket| GreetingFor::position_for(&all, socket));
            assert_eq!(positions, [of_tcp, of_udp], "{text}");
        }
    }

    #[test]
    fn a_name_without_a_socket_and_two_equal_names_are_reported() {
        let sockets = sockets();
        let check = |text: &str| GreetingFor::check_all(&parse(text), sockets.iter());
        assert_eq!(check("tcp:9000=a\n9000=b"), Ok(()));
        let unknown = check("9000=a\n9001=b").unwrap_err();
        assert!(unknown.contains("name 9001; write one of tcp:127.0.0.1:9000 udp:127.0.0.1:9000"), "{unknown}");
        let twice = check("localhost:9000=a\n127.0.0.1:9000=b").unwrap_err();
        assert!(twice.contains("two greetings, for localhost:9000 and for 127.0.0.1:9000"), "{twice}");
        assert!(check("9000=a\n:9000=a").is_err());
    }

    #[test]
    fn a_greeting_is_everything_after_the_first_equals_sign() {
        let all = parse("9000=a=b, c\r\n\nunix:/run/a=x\n");
        let names: Vec<String> = all.iter().map(|one| one.socket.to_string()).collect();
        assert_eq!(names, ["9000", "unix:/run/a"]);
        assert!(all[0].greeting.matches(b"a=b, c"));
    }

    #[test]
    fn a_malformed_greeting_of_a_socket_is_reported() {
        for (text, expected) in [
            ("", "no greeting is given"),
            ("\n", "no greeting is given"),
            ("9000", "no = in 9000"),
            ("9000=a\nsecond line", "no = in second line"),
            ("=a", "before the ="),
            ("9000/tcp=a=", "before the ="),
            ("/run/a=x", "unix:/run/a"),
            ("9000=", "cannot be empty"),
            ("9000={x}", "{x} is unknown"),
        ] {
            let error = text.parse::<GreetingsFor>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
