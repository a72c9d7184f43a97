//! The greeting desk: what all greetings of a worker have in common, whatever protocol they leave by.
//!
//! Between the handlers, which know when to greet, and the reporter, which tells it. It promises that greetings are
//! numbered without a gap over all protocols and workers, that exactly as many are given as the limit says, and that with
//! the last one all loops are asked to drain. It allocates nothing for a greeting. It never sends one itself.

use std::net::SocketAddr;
use std::sync::Arc;

use halloo::{Context, ListenerId};

use crate::cli::flags::{Mode, Replies};
use crate::exit::{Failure, Status};
use crate::greeting::greeting_quota::Tickets;
use crate::output::event_log::Reporter;
use crate::process::shutdown::Ending;
use crate::text::bound_address::Site;
use crate::text::event::Event;
use crate::text::placeholder::{Facts, Field, hostname};
use crate::text::protocol::Protocol;
use crate::text::template::Template;

/// One for each worker.
#[derive(Debug)]
pub(crate) struct Desk {
    greetings: Greetings,
    limit: Limit,
    reporter: Reporter,
    /// How many have been given here.
    given: u64,
    /// The ticket of the greeting that is being given.
    ticket: Option<u64>,
    /// The greeting being written, or the last one.
    buffer: Vec<u8>,
    /// What stands in the buffer, if it is the same for everybody: protocol and length of the ending.
    written: Option<(Protocol, usize)>,
    /// Whether a greeting or an event names the parties.
    names_parties: bool,
    /// The unix sockets among the worker's listeners.
    unix: Vec<(ListenerId, Site)>,
}

/// The templates, and what fills them besides the client.
#[derive(Clone, Debug)]
pub(crate) struct Greetings {
    /// Over all streams: a client of a unix socket may be one of TCP, with somebody between who hands on its bytes.
    tcp: Template,
    udp: Template,
    hostname: String,
}

/// When it is enough, for all workers together.
#[derive(Clone, Debug)]
pub(crate) struct Limit {
    /// Where nothing depends on the number of a greeting, there are none.
    pub(crate) tickets: Option<Arc<Tickets>>,
    pub(crate) ending: Ending,
}

/// Who is greeted, and where they asked.
#[derive(Clone, Debug)]
pub(crate) struct Parties {
    pub(crate) protocol: Protocol,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) local: Option<Site>,
}

impl Greetings {
    /// The templates of the command line, the usual ones where it has none.
    pub(crate) fn new(replies: &Replies) -> Result<Self, Failure> {
        let given = [
            ("--greeting", &replies.greeting),
            ("--tcp-greeting", &replies.tcp_greeting),
            ("--udp-greeting", &replies.udp_greeting),
        ];
        if let (Mode::Echo | Mode::Discard, Some((flag, _))) =
            (replies.mode, given.iter().find(|(_, greeting)| greeting.is_some()))
        {
            let mode = if replies.mode == Mode::Echo { "echo" } else { "discard" };
            let sentence = format!(
                "{flag} has no use with --mode {mode}, which greets nobody; leave one of the two out, or unset its variable"
            );
            return Err(Failure::new(Status::Usage, sentence));
        }
        let choose = |own: &Option<Template>, usual| {
            own.as_ref().or(replies.greeting.as_ref()).cloned().unwrap_or_else(|| Template::fixed(usual))
        };
        let tcp = choose(&replies.tcp_greeting, "Hello, TCP Client!");
        let udp = choose(&replies.udp_greeting, "Hello, UDP Client!");
        let mut greetings = Self { tcp, udp, hostname: String::new() };
        if greetings.names(Field::Hostname) {
            greetings.hostname = hostname();
        }
        Ok(greetings)
    }

    /// Whether a greeting tells its number, which then must be no other's.
    pub(crate) fn are_numbered(&self) -> bool {
        self.names(Field::Number)
    }

    fn names(&self, field: Field) -> bool {
        self.tcp.names(field) || self.udp.names(field)
    }

    fn over(&self, protocol: Protocol) -> &Template {
        match protocol {
            Protocol::Tcp | Protocol::Unix => &self.tcp,
            Protocol::Udp => &self.udp,
        }
    }
}

impl Desk {
    /// A desk that has given none yet.
    pub(crate) fn new(greetings: Greetings, limit: Limit, reporter: Reporter) -> Self {
        let is_fixed = greetings.tcp.is_fixed() && greetings.udp.is_fixed();
        let names_parties = !is_fixed || !reporter.is_silent();
        let (given, ticket, buffer, written, unix) = (0, None, Vec::new(), None, Vec::new());
        Self { greetings, limit, reporter, given, ticket, buffer, written, names_parties, unix }
    }

    /// One that tells nobody, for tests of the rooms behind it.
    #[cfg(test)]
    pub(crate) fn silent(mode: Mode, greeting: Option<&str>, greetings_max: Option<u64>) -> std::cell::RefCell<Self> {
        let greeting = greeting.map(|text| text.parse().unwrap());
        let replies = Replies { mode, greeting, tcp_greeting: None, udp_greeting: None };
        let reporter =
            Reporter::new(crate::output::printer_thread::Printer::to_nowhere(), crate::cli::flags::EventStyle::Off);
        let drain_timeout = std::time::Duration::from_secs(20);
        let supervisor = crate::process::sd_notify::Supervisor::none();
        let ending = Ending { drain_timeout, supervisor, workers: crate::process::shutdown::Workers::default() };
        let limit = Limit { tickets: Some(Arc::new(Tickets::new(greetings_max))), ending };
        std::cell::RefCell::new(Self::new(Greetings::new(&replies).unwrap(), limit, reporter))
    }

    /// Makes the loop of a test known to this desk, which will ask it to drain.
    #[cfg(test)]
    pub(crate) fn meet(&self, events: &halloo::EventLoop<'_>) {
        self.limit.ending.workers.meet(vec![events.handle()]);
    }

    /// How many greetings have been given here.
    pub(crate) fn given(&self) -> u64 {
        self.given
    }

    /// Whether the last one of all has been given, or is being given.
    pub(crate) fn is_closed(&self) -> bool {
        self.limit.tickets.as_ref().is_some_and(|tickets| tickets.is_used_up())
    }

    /// Makes it known that a listener is one of a unix socket.
    pub(crate) fn learn(&mut self, listener: ListenerId, site: Site) {
        self.unix.push((listener, site));
    }

    /// The unix socket of a listener, if it is one; where there are none, nobody is asked for the listener.
    pub(crate) fn unix(&self, listener: impl FnOnce() -> Option<ListenerId>) -> Option<&Site> {
        let listener = if self.unix.is_empty() { None } else { listener() }?;
        self.unix.iter().find(|(known, _)| *known == listener).map(|(_, site)| site)
    }

    /// The parties as told, if anybody will read of them.
    pub(crate) fn parties(&self, told: impl FnOnce() -> Parties) -> Option<Parties> {
        self.names_parties.then(told)
    }

    /// Reserves the next greeting; false if there are none left. Then comes [`note`](Self::note), or
    /// [`release`](Self::release) if it could not be given.
    pub(crate) fn reserve(&mut self) -> bool {
        let Some(tickets) = &self.limit.tickets else {
            return true;
        };
        self.ticket = self.ticket.take().or_else(|| tickets.take());
        self.ticket.is_some()
    }

    /// Gives back what was reserved.
    pub(crate) fn release(&mut self) {
        if let (Some(tickets), Some(ticket)) = (&self.limit.tickets, self.ticket.take()) {
            tickets.give_back(ticket);
        }
    }

    /// Writes the greeting that is reserved, the ending behind it.
    pub(crate) fn compose(&mut self, over: Protocol, to: Option<&Parties>, ending: &[u8]) -> &[u8] {
        let written = Some((over, ending.len()));
        if self.written == written {
            return &self.buffer;
        }
        let (peer, local) = to.map_or((None, None), |to| (to.peer, to.local.as_ref()));
        let protocol = to.map_or(over, |to| to.protocol);
        let number = self.ticket.unwrap_or_default();
        let facts = Facts { peer, local, protocol, number, hostname: &self.greetings.hostname };
        let template = self.greetings.over(over);
        self.buffer.clear();
        template.render(facts, &mut self.buffer);
        self.buffer.extend_from_slice(ending);
        self.written = written.filter(|_| template.is_fixed());
        &self.buffer
    }

    /// Whether a datagram is itself a greeting of this desk, or of one like it.
    pub(crate) fn is_greeting(&self, datagram: &[u8]) -> bool {
        self.greetings.udp.matches(datagram)
    }

    /// Counts a greeting as given and tells it: how many bytes were received, and how they begin.
    pub(crate) fn note(&mut self, context: &Context, of: Option<Parties>, bytes: u64, text: &[u8]) {
        self.given += 1;
        if let Some(Parties { protocol, peer, local }) = of {
            self.reporter.report(context.now(), || Event::new(protocol, peer, local, bytes, text));
        }
        let Some(tickets) = &self.limit.tickets else { return };
        if self.ticket.take().is_none() {
            // What was not reserved, a connection that has ended, counts all the same.
            let _ = tickets.take();
        }
        if let Some(all) = tickets.use_up() {
            log::info!("{all} greetings given, as many as asked for: stopping");
            // A loop that has ended needs no word.
            let _ = self.limit.ending.begin();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Greetings, Mode, Protocol, Replies};
    use crate::exit::Status;

    fn replies(mode: Mode, common: Option<&str>, udp: Option<&str>) -> Replies {
        let template = |text: Option<&str>| text.map(|text| text.parse().unwrap());
        Replies { mode, greeting: template(common), tcp_greeting: None, udp_greeting: template(udp) }
    }

    #[test]
    fn the_usual_greetings_are_those_of_the_first_programs() {
        let greetings = Greetings::new(&replies(Mode::Greet, None, None)).unwrap();
        assert!(greetings.over(Protocol::Tcp).matches(b"Hello, TCP Client!"));
        assert!(greetings.over(Protocol::Udp).matches(b"Hello, UDP Client!"));
    }

    #[test]
    fn a_greeting_of_one_protocol_goes_before_the_common_one() {
        let greetings = Greetings::new(&replies(Mode::Line, Some("both"), Some("datagram"))).unwrap();
        assert!(greetings.over(Protocol::Tcp).matches(b"both"));
        assert!(greetings.over(Protocol::Udp).matches(b"datagram"));
    }

    #[test]
    fn a_greeting_where_nobody_is_greeted_is_a_usage_error() {
        for mode in [Mode::Echo, Mode::Discard] {
            assert!(Greetings::new(&replies(mode, None, None)).is_ok());
            let failure = Greetings::new(&replies(mode, None, Some("x"))).unwrap_err();
            assert_eq!(failure.status, Status::Usage);
            assert!(failure.sentence.contains("--udp-greeting"), "{}", failure.sentence);
        }
    }
}
