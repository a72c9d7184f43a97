//! The handler of UDP sockets, for every mode.
//!
//! A datagram gets at most one reply. A datagram that is itself a greeting gets none: otherwise two servers would
//! reply to each other for ever.

use std::cell::RefCell;

use halloo::{Datagram, DatagramHandler};
use log::Level;

use crate::cli::flags::serve_options::Mode;
use crate::greeting::greeter::{Greeter, PlainGreeting, Question};
use crate::greeting::greeting_templates::TemplateId;
use crate::text::bound_address::Addresses;
use crate::text::protocol::Protocol;
use crate::text::served_socket::ServedSocket;

/// Sends the replies of a handler.
pub(crate) trait DatagramOutput {
    /// Whether each reply is sent as it is.
    const IS_DIRECT: bool;

    /// Sends a reply; false if it is refused.
    fn reply(&self, datagram: &mut Datagram<'_>, payload: &[u8]) -> bool;

    /// Whether replies may be cut to this length.
    fn cuts_to(&self, bytes: usize) -> bool;
}

/// Sends replies as they are.
#[derive(Clone, Copy)]
pub(crate) struct DirectReplies;

impl DatagramOutput for DirectReplies {
    const IS_DIRECT: bool = true;

    fn reply(&self, datagram: &mut Datagram<'_>, payload: &[u8]) -> bool {
        datagram.reply(payload)
    }

    fn cuts_to(&self, _: usize) -> bool {
        false
    }
}

/// The handler of one UDP socket.
pub(crate) struct GreetingDatagramHandler<'h, O> {
    mode: Mode,
    greeter: &'h RefCell<Greeter>,
    template: TemplateId,
    /// Then nothing else of a reply is looked at; known from the start. The datagrams beside it get no reply.
    plain: Option<(PlainGreeting, Vec<Vec<u8>>)>,
    output: O,
}

impl<'h, O: DatagramOutput> GreetingDatagramHandler<'h, O> {
    pub(crate) fn new(mode: Mode, greeter: &'h RefCell<Greeter>, socket: &ServedSocket, output: O) -> Self {
        let (template, greetings) = (greeter.borrow().template_of(socket), greeter.borrow());
        let plain = greetings.plain_greeting(socket, b"").zip(greetings.templates().constant_udp_greetings());
        Self { mode, greeter, template, plain: plain.filter(|_| O::IS_DIRECT && mode.sends_greetings()), output }
    }
}

impl<O: DatagramOutput> DatagramHandler for GreetingDatagramHandler<'_, O> {
    fn on_datagram(&mut self, datagram: &mut Datagram<'_>, payload: &[u8]) {
        if let Some((greeting, unanswered)) = &self.plain
            && !log::log_enabled!(Level::Trace)
            && !unanswered.iter().any(|unanswered| unanswered == payload)
        {
            greeting.record(usize::from(datagram.reply(greeting.once())));
            return;
        }
        self.on_recorded(datagram, payload);
    }
}

impl<O: DatagramOutput> GreetingDatagramHandler<'_, O> {
    /// Replies with a rendered greeting, or not at all, and records it.
    fn on_recorded(&self, datagram: &mut Datagram<'_>, payload: &[u8]) {
        let mut greeter = self.greeter.borrow_mut();
        let addresses = greeter.addresses_if_needed(|| {
            let (peer, local) = (Some(datagram.peer_addr()), Some(datagram.local_addr().into()));
            Addresses { protocol: Protocol::Udp, peer, local }
        });
        // The journal has no reason for a reply that is refused.
        let refusals_before = log::log_enabled!(Level::Trace).then(|| {
            let (peer, local, bytes) = (datagram.peer_addr(), datagram.local_addr(), payload.len());
            log::trace!("udp {peer}: received {bytes} bytes on {local}");
            Refusals::of(datagram)
        });
        let is_greeting = || greeter.is_greeting(self.template, payload, self.output.cuts_to(payload.len()));
        if self.mode.sends_greetings() && is_greeting() {
            log::debug!("{}: the datagram is itself a greeting; it has no reply", datagram.peer_addr());
            greeter.counters().looped_datagrams.add_one();
            return;
        }
        let Some(reservation) = greeter.reserve() else {
            log::trace!("udp {}: no reply: the last greeting is sent", datagram.peer_addr());
            return;
        };
        let is_answered = match self.mode {
            Mode::Greet | Mode::Banner | Mode::Line => {
                let sender = datagram.sender_addr();
                let proxy = Some(sender).filter(|sender| *sender != datagram.peer_addr());
                let question = Question { addresses: addresses.as_ref(), proxy, received: payload };
                let greeting = greeter.render(reservation.number(), self.template, &question, b"");
                self.output.reply(datagram, greeting)
            }
            Mode::Echo => self.output.reply(datagram, payload),
            Mode::Discard => true,
        };
        // A reservation that is dropped is released.
        if is_answered {
            greeter.record(reservation, Protocol::Udp, datagram.context(), addresses, payload.len() as u64, payload);
        } else if let Some(before) = refusals_before {
            let cause = Refusals::of(datagram).cause_since(&before);
            log::trace!("udp {}: no reply: {cause}", datagram.peer_addr());
        }
    }
}

/// The replies that the loop has refused, by reason.
struct Refusals([u64; 3]);

impl Refusals {
    fn of(datagram: &mut Datagram<'_>) -> Self {
        let stats = datagram.context().stats();
        Self([stats.replies_refused_address, stats.replies_refused_rate, stats.replies_refused_queue])
    }

    /// Why a reply was refused since then.
    fn cause_since(&self, before: &Self) -> &'static str {
        match self.0.iter().zip(&before.0).position(|(after, before)| after > before) {
            Some(0) => "the address is not that of one other host",
            Some(1) => "over the rate limit of its source",
            Some(_) => "too many replies wait",
            None => "it is held back",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, UdpSocket};
    use std::time::Duration;

    use halloo::{EventLoop, Turn};

    use super::{DirectReplies, GreetingDatagramHandler};
    use crate::cli::flags::serve_options::Mode;
    use crate::greeting::greeter::Greeter;
    use crate::text::protocol::Protocol;
    use crate::text::served_socket::ServedSocket;

    /// Sends each payload from a socket of its own, and returns the replies.
    fn send_each(
        mode: Mode,
        greeting: Option<&str>,
        greetings_max: Option<u64>,
        payloads: &[&str],
    ) -> Vec<Option<String>> {
        let greeter = Greeter::for_test(mode, greeting, greetings_max);
        let mut event_loop = EventLoop::new().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let served = ServedSocket { protocol: Protocol::Udp, address: address.into(), given: None };
        let socket =
            event_loop.bind(address, GreetingDatagramHandler::new(mode, &greeter, &served, DirectReplies)).unwrap();
        let address = event_loop.local_addr(socket).unwrap();
        let send = |payload: &&str| {
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            client.send_to(payload.as_bytes(), address).unwrap();
            client.set_nonblocking(true).unwrap();
            client
        };
        let clients: Vec<UdpSocket> = payloads.iter().map(send).collect();
        // On loopback, datagrams have arrived when `send_to` returns: the first turn without events is the last.
        while matches!(event_loop.turn(Some(Duration::ZERO)).unwrap(), Turn::Progress) {}
        let receive = |client: UdpSocket| {
            let mut buffer = [0; 1024];
            client.recv(&mut buffer).ok().map(|count| String::from_utf8_lossy(&buffer[..count]).into_owned())
        };
        clients.into_iter().map(receive).collect()
    }

    #[test]
    fn every_datagram_is_greeted_even_an_empty_one() {
        for mode in [Mode::Greet, Mode::Banner, Mode::Line] {
            let replies = send_each(mode, None, None, &["Hello, UDP Server!", ""]);
            assert!(replies.iter().all(|reply| reply.as_deref() == Some("Hello, UDP Client!")), "{replies:?}");
        }
    }

    #[test]
    fn a_greeting_is_not_answered_and_uses_no_number() {
        for mode in [Mode::Greet, Mode::Banner, Mode::Line] {
            let replies = send_each(mode, Some("hi {number}"), None, &["hello", "hi 17", "hi there", "hi 1 "]);
            let replies: Vec<Option<&str>> = replies.iter().map(Option::as_deref).collect();
            assert_eq!(replies, [Some("hi 1"), None, Some("hi 2"), Some("hi 3")], "{mode:?}");
        }
    }

    #[test]
    fn a_greeting_that_is_the_same_for_every_client_is_not_answered_nor_is_the_default_one() {
        for mode in [Mode::Greet, Mode::Banner, Mode::Line] {
            let replies = send_each(mode, Some("hi"), None, &["hello", "hi", "Hello, UDP Client!", "hi ", "h", ""]);
            let replies: Vec<Option<&str>> = replies.iter().map(Option::as_deref).collect();
            assert_eq!(replies, [Some("hi"), None, None, Some("hi"), Some("hi"), Some("hi")], "{mode:?}");
        }
    }

    #[test]
    fn echo_sends_datagrams_back_and_discard_sends_nothing() {
        let payloads = ["a", "", "Hello, UDP Client!"];
        assert_eq!(send_each(Mode::Echo, None, None, &payloads), payloads.map(|payload| Some(payload.to_owned())));
        assert_eq!(send_each(Mode::Discard, None, None, &["a", ""]), [None, None]);
    }

    #[test]
    fn after_the_last_greeting_no_datagram_is_answered() {
        let replies = send_each(Mode::Greet, None, Some(2), &["a", "b", "c", "d"]);
        assert_eq!(replies.iter().flatten().count(), 2);
    }
}
