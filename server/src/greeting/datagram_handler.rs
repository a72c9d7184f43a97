//! What is done with a datagram, by mode.
//!
//! Between the loop, which calls with a payload, and the greeting desk, which knows the words. It promises at most one
//! answer for each datagram, and none for one that is itself a greeting: two greeters must not greet each other for
//! ever. It never keeps what it received.

use std::cell::RefCell;

use halloo::{Datagram, DatagramHandler};

use crate::cli::flags::Mode;
use crate::greeting::greeter::{Desk, Parties};
use crate::text::protocol::Protocol;

/// The handler of every UDP socket.
#[derive(Clone, Copy)]
pub(crate) struct Datagrams<'h> {
    pub(crate) mode: Mode,
    pub(crate) desk: &'h RefCell<Desk>,
}

impl DatagramHandler for Datagrams<'_> {
    fn on_datagram(&mut self, datagram: &mut Datagram<'_>, payload: &[u8]) {
        let mut desk = self.desk.borrow_mut();
        if desk.is_closed() {
            return;
        }
        let parties = desk.parties(|| {
            let (peer, local) = (Some(datagram.peer_addr()), Some(datagram.local_addr().into()));
            Parties { protocol: Protocol::Udp, peer, local }
        });
        let greets = matches!(self.mode, Mode::Greet | Mode::Banner | Mode::Line);
        if greets && desk.is_greeting(payload) {
            log::debug!("{}: sent a greeting, which is not answered", datagram.peer_addr());
            return;
        }
        if !desk.reserve() {
            return;
        }
        let done = match self.mode {
            Mode::Greet | Mode::Banner | Mode::Line => {
                datagram.reply(desk.compose(Protocol::Udp, parties.as_ref(), b""))
            }
            Mode::Echo => datagram.reply(payload),
            Mode::Discard => true,
        };
        if done {
            desk.note(datagram.context(), parties, payload.len() as u64, payload);
        } else {
            desk.release();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, UdpSocket};
    use std::time::Duration;

    use halloo::{EventLoop, Turn};

    use super::Datagrams;
    use crate::cli::flags::Mode;
    use crate::greeting::greeter::Desk;

    /// Sends each payload from a socket of its own, and tells what came back.
    fn ask(mode: Mode, greeting: Option<&str>, greetings_max: Option<u64>, payloads: &[&str]) -> Vec<Option<String>> {
        let desk = Desk::silent(mode, greeting, greetings_max);
        let mut events = EventLoop::new().unwrap();
        let socket = events.bind(SocketAddr::from(([127, 0, 0, 1], 0)), Datagrams { mode, desk: &desk }).unwrap();
        let address = events.local_addr(socket).unwrap();
        let ask = |payload: &&str| {
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            client.send_to(payload.as_bytes(), address).unwrap();
            client.set_nonblocking(true).unwrap();
            client
        };
        let clients: Vec<UdpSocket> = payloads.iter().map(ask).collect();
        // On loopback what was sent has arrived: a turn in which nothing happens is the last.
        while matches!(events.turn(Some(Duration::ZERO)).unwrap(), Turn::Progress) {}
        let heard = |client: UdpSocket| {
            let mut answer = [0; 1024];
            client.recv(&mut answer).ok().map(|count| String::from_utf8_lossy(&answer[..count]).into_owned())
        };
        clients.into_iter().map(heard).collect()
    }

    #[test]
    fn every_datagram_is_greeted_the_empty_one_too() {
        for mode in [Mode::Greet, Mode::Banner, Mode::Line] {
            let heard = ask(mode, None, None, &["Hello, UDP Server!", ""]);
            assert!(heard.iter().all(|answer| answer.as_deref() == Some("Hello, UDP Client!")), "{heard:?}");
        }
    }

    #[test]
    fn a_greeting_is_not_greeted_and_costs_no_number() {
        let heard = ask(Mode::Greet, Some("hi {number}"), None, &["hello", "hi 17", "hi there", "hi 1 "]);
        let heard: Vec<Option<&str>> = heard.iter().map(Option::as_deref).collect();
        assert_eq!(heard, [Some("hi 1"), None, Some("hi 2"), Some("hi 3")]);
    }

    #[test]
    fn echo_sends_back_and_discard_is_silent() {
        assert_eq!(ask(Mode::Echo, None, None, &["a", ""]), [Some("a".to_owned()), Some(String::new())]);
        assert_eq!(ask(Mode::Discard, None, None, &["a", ""]), [None, None]);
    }

    #[test]
    fn after_the_last_greeting_nobody_is_answered() {
        let heard = ask(Mode::Greet, None, Some(2), &["a", "b", "c", "d"]);
        assert_eq!(heard.iter().flatten().count(), 2);
    }
}
