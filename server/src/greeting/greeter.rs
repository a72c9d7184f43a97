//! Renders, numbers, counts and logs the greetings of one worker.
//!
//! Over all protocols and workers, greetings are numbered without a gap, and their number reaches the limit exactly.
//! The last greeting drains all loops.

use std::sync::Arc;

use halloo::Context;

use crate::cli::flags::serve_options::ReplyOptions;
use crate::greeting::greeting_quota::{GreetingQuota, Reservation};
use crate::greeting::worker_counters::WorkerCounters;
use crate::output::event_log::EventLog;
use crate::process::shutdown::Shutdown;
use crate::text::bound_address::Addresses;
use crate::text::greeting_event::GreetingEvent;
use crate::text::protocol::Protocol;
use crate::text::served_socket::ServedSocket;
use crate::text::template::Template;
use crate::text::template::greeting_for::GreetingFor;
use crate::text::template::placeholder::{Placeholder, PlaceholderValues, read_hostname};

/// Renders, numbers and records the greetings of one worker.
#[derive(Debug)]
pub(crate) struct Greeter {
    templates: GreetingTemplates,
    /// `None` if nothing depends on the number of a greeting.
    quota: Option<Arc<GreetingQuota>>,
    shutdown: Shutdown,
    event_log: EventLog,
    counters: Arc<WorkerCounters>,
    /// The greeting being written, or the last one.
    buffer: Vec<u8>,
    /// The template of the greeting in the buffer, if that is the same for every client.
    cached: Option<TemplateId>,
    /// Whether a greeting or an event contains the addresses; stored, because each greeting needs it.
    needs_addresses: bool,
}

/// The templates, and the host name that they may contain.
#[derive(Clone, Debug)]
pub(crate) struct GreetingTemplates {
    /// For TCP and unix sockets: a client of a unix socket may be a proxy that passes on the bytes of a TCP client.
    tcp: Template,
    udp: Template,
    /// Those of single sockets.
    of_sockets: Vec<GreetingFor>,
    hostname: String,
}

/// The template of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TemplateId {
    Tcp,
    Udp,
    /// The greeting of single sockets at this position.
    Socket(usize),
}

impl GreetingTemplates {
    /// The templates of the command line, or the default ones.
    pub(crate) fn new(replies: &ReplyOptions) -> Self {
        let template_or_default = |specific: &Option<Template>, default| {
            specific.as_ref().or(replies.greeting.as_ref()).cloned().unwrap_or_else(|| Template::literal(default))
        };
        let tcp = template_or_default(&replies.tcp_greeting, "Hello, TCP Client!");
        let udp = template_or_default(&replies.udp_greeting, "Hello, UDP Client!");
        let mut templates = Self { tcp, udp, of_sockets: replies.greetings_for(), hostname: String::new() };
        if templates.contains(Placeholder::Hostname) {
            templates.hostname = read_hostname();
        }
        templates
    }

    /// Whether a greeting contains its number, which then must be unique.
    pub(crate) fn has_number(&self) -> bool {
        self.contains(Placeholder::Number)
    }

    fn are_constant(&self) -> bool {
        self.all().all(Template::is_constant)
    }

    fn contains(&self, placeholder: Placeholder) -> bool {
        self.all().any(|template| template.contains(placeholder))
    }

    fn all(&self) -> impl Iterator<Item = &Template> {
        [&self.tcp, &self.udp].into_iter().chain(self.of_sockets.iter().map(|one| &one.greeting))
    }

    /// Returns an error if the name of a greeting belongs to no socket, or a socket has two.
    pub(crate) fn check_sockets<'s>(
        &self,
        sockets: impl Iterator<Item = &'s ServedSocket> + Clone,
    ) -> Result<(), String> {
        GreetingFor::check_all(&self.of_sockets, sockets)
    }

    fn id_for(&self, socket: &ServedSocket) -> TemplateId {
        match (GreetingFor::position_for(&self.of_sockets, socket), socket.protocol) {
            (Some(position), _) => TemplateId::Socket(position),
            (None, Protocol::Tcp | Protocol::Unix) => TemplateId::Tcp,
            (None, Protocol::Udp) => TemplateId::Udp,
        }
    }

    fn get(&self, id: TemplateId) -> &Template {
        match id {
            TemplateId::Tcp => &self.tcp,
            TemplateId::Udp => &self.udp,
            TemplateId::Socket(position) => &self.of_sockets[position].greeting,
        }
    }

    /// Whether a UDP socket of this server can have sent the datagram.
    fn can_have_sent(&self, datagram: &[u8]) -> bool {
        let mut of_sockets = self.of_sockets.iter().filter(|one| one.socket.is_possible_for(Protocol::Udp));
        self.udp.matches(datagram) || of_sockets.any(|one| one.greeting.matches(datagram))
    }
}

impl Greeter {
    /// A greeter that has sent no greeting yet; all workers share the quota.
    pub(crate) fn new(
        templates: GreetingTemplates,
        quota: Option<Arc<GreetingQuota>>,
        shutdown: Shutdown,
        event_log: EventLog,
        counters: Arc<WorkerCounters>,
    ) -> Self {
        let needs_addresses = !event_log.is_off() || !templates.are_constant();
        Self { templates, quota, shutdown, event_log, counters, buffer: Vec::new(), cached: None, needs_addresses }
    }

    /// A greeter that prints nothing, for tests.
    #[cfg(test)]
    pub(crate) fn for_test(
        mode: crate::cli::flags::serve_options::Mode,
        greeting: Option<&str>,
        greetings_max: Option<u64>,
    ) -> std::cell::RefCell<Self> {
        let greeting = greeting.map(|text| text.parse().unwrap());
        let replies = ReplyOptions { mode, greeting, tcp_greeting: None, udp_greeting: None, greeting_for: Vec::new() };
        let event_log = EventLog::new(
            crate::output::printer_thread::Printer::null(),
            crate::cli::flags::serve_options::EventStyle::Off,
        );
        let drain_timeout = std::time::Duration::from_secs(20);
        let notifier = crate::process::sd_notify::SdNotifier::disabled();
        let shutdown = Shutdown {
            drain_delay: std::time::Duration::ZERO,
            drain_timeout,
            notifier,
            state: crate::process::server_state::SharedServerState::default(),
            loops: crate::process::worker_loops::WorkerLoops::default(),
            keeps_connections: mode.keeps_connections(),
        };
        let quota = Some(Arc::new(GreetingQuota::new(greetings_max)));
        std::cell::RefCell::new(Self::new(GreetingTemplates::new(&replies), quota, shutdown, event_log, Arc::default()))
    }

    /// Sets the loop of a test, which drains after the last greeting.
    #[cfg(test)]
    pub(crate) fn set_loop(&self, event_loop: &halloo::EventLoop<'_>) {
        self.shutdown.loops.set(vec![crate::process::worker_loops::WorkerLoop::for_test(event_loop)]);
    }

    /// Greetings sent by this worker.
    pub(crate) fn greeting_count(&self) -> u64 {
        self.counters.greeting_count()
    }

    /// Whether no greeting is left: the last one has been sent, or is being sent.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.quota.as_ref().is_some_and(|quota| quota.is_exhausted())
    }

    /// The counters of this worker.
    pub(crate) fn counters(&self) -> &WorkerCounters {
        &self.counters
    }

    /// Whether events are printed.
    pub(crate) fn logs_events(&self) -> bool {
        !self.event_log.is_off()
    }

    /// The addresses, if a greeting or an event contains them.
    pub(crate) fn addresses_if_needed(&self, lookup: impl FnOnce() -> Addresses) -> Option<Addresses> {
        self.needs_addresses.then(lookup)
    }

    /// Reserves the next greeting; `None` if no greeting is left. It counts once it is [recorded](Self::record).
    #[inline]
    pub(crate) fn reserve(&self) -> Option<Reservation> {
        match &self.quota {
            Some(quota) => quota.reserve(),
            None => Some(Reservation::default()),
        }
    }

    /// The number that the next greeting gets, for a reply that is not counted; `None` if no greeting is left.
    pub(crate) fn next_number(&self) -> Option<u64> {
        self.quota.as_ref().map_or(Some(0), |quota| quota.next_number())
    }

    /// The template of a socket.
    pub(crate) fn template_of(&self, socket: &ServedSocket) -> TemplateId {
        self.templates.id_for(socket)
    }

    /// The templates.
    pub(crate) fn templates(&self) -> &GreetingTemplates {
        &self.templates
    }

    /// Renders the greeting with this number, followed by a suffix, which must be the same for all calls of a template.
    pub(crate) fn render(
        &mut self,
        number: u64,
        id: TemplateId,
        addresses: Option<&Addresses>,
        suffix: &[u8],
    ) -> &[u8] {
        if self.cached == Some(id) {
            return &self.buffer;
        }
        // They are missing only if no placeholder needs them.
        let unknown = Addresses { protocol: Protocol::Tcp, peer: None, local: None };
        let addresses = addresses.unwrap_or(&unknown);
        let values = PlaceholderValues { addresses, number, hostname: &self.templates.hostname };
        let template = self.templates.get(id);
        self.buffer.clear();
        template.render(values, &mut self.buffer);
        self.buffer.extend_from_slice(suffix);
        self.cached = Some(id).filter(|_| template.is_constant());
        &self.buffer
    }

    /// Whether a datagram is itself a greeting of this server, or of one with the same templates.
    pub(crate) fn is_greeting(&self, datagram: &[u8]) -> bool {
        self.templates.can_have_sent(datagram)
    }

    /// Counts a greeting as sent and logs its event: the number of bytes received and their beginning.
    pub(crate) fn record(
        &mut self,
        reservation: Reservation,
        protocol: Protocol,
        context: &Context,
        addresses: Option<Addresses>,
        byte_count: u64,
        received: &[u8],
    ) {
        self.counters.greetings(protocol).add_one();
        if let Some(addresses) = addresses {
            self.event_log.log(context.now(), || GreetingEvent::new(addresses, byte_count, received));
        }
        if let Some(total) = reservation.commit() {
            log::info!("stopping: all greetings are sent: greetings={total}");
            // Loops that have ended already need no message.
            let _ = self.shutdown.drain();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{GreetingTemplates, ReplyOptions, TemplateId};
    use crate::cli::flags::serve_options::Mode;

    fn reply_options(mode: Mode, common: Option<&str>, udp: Option<&str>) -> ReplyOptions {
        let template = |text: Option<&str>| text.map(|text| text.parse().unwrap());
        ReplyOptions {
            mode,
            greeting: template(common),
            tcp_greeting: None,
            udp_greeting: template(udp),
            greeting_for: Vec::new(),
        }
    }

    #[test]
    fn the_default_greetings_are_those_of_the_first_programs() {
        let templates = GreetingTemplates::new(&reply_options(Mode::Greet, None, None));
        assert!(templates.get(TemplateId::Tcp).matches(b"Hello, TCP Client!"));
        assert!(templates.get(TemplateId::Udp).matches(b"Hello, UDP Client!"));
    }

    #[test]
    fn the_greeting_of_one_protocol_replaces_the_common_one() {
        let templates = GreetingTemplates::new(&reply_options(Mode::Line, Some("both"), Some("datagram")));
        assert!(templates.get(TemplateId::Tcp).matches(b"both"));
        assert!(templates.get(TemplateId::Udp).matches(b"datagram"));
    }
}
