//! Renders, numbers, counts and logs the greetings of one worker.
//!
//! Over all protocols and workers, greetings are numbered without a gap, and their number reaches the limit exactly.
//! The last greeting drains all loops.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use halloo::Context;

use crate::greeting::greeting_quota::{GreetingQuota, Reservation};
use crate::greeting::greeting_templates::{GreetingTemplates, TemplateId};
use crate::greeting::worker_counters::WorkerCounters;
use crate::output::event_log::EventLog;
use crate::process::shutdown::Shutdown;
use crate::text::bound_address::Addresses;
use crate::text::greeting_event::GreetingEvent;
use crate::text::protocol::Protocol;
use crate::text::served_socket::ServedSocket;
use crate::text::template::placeholder::PlaceholderValues;

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
}

/// A greeting that is the same for every client, has no number, and is not printed: only a counter records it.
#[derive(Debug)]
pub(crate) struct PlainGreeting {
    /// One greeting with its suffix, or several in a row.
    copies: Vec<u8>,
    /// The length of one.
    bytes: usize,
    counters: Arc<WorkerCounters>,
    protocol: Protocol,
}

impl PlainGreeting {
    /// The greeting.
    pub(crate) fn once(&self) -> &[u8] {
        &self.copies[..self.bytes]
    }

    /// As many greetings in a row. The copies stay for the next call.
    pub(crate) fn repeated(&mut self, count: usize) -> &[u8] {
        while self.copies.len() < count * self.bytes {
            self.copies.extend_from_within(..self.bytes);
        }
        &self.copies[..count * self.bytes]
    }

    /// Counts greetings as sent.
    pub(crate) fn record(&self, count: usize) {
        self.counters.greetings(self.protocol).add(count as u64);
    }
}

/// What a greeting replies to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    /// `None` if nothing [needs](Greeter::addresses_if_needed) them.
    pub(crate) addresses: Option<&'a Addresses>,
    /// The sender of the PROXY header with the client's address.
    pub(crate) proxy: Option<SocketAddr>,
    pub(crate) received: &'a [u8],
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
        Self { templates, quota, shutdown, event_log, counters, buffer: Vec::new() }
    }

    /// A greeter that prints nothing, for tests.
    #[cfg(test)]
    pub(crate) fn for_test(
        mode: crate::cli::flags::serve_options::Mode,
        greeting: Option<&str>,
        greetings_max: Option<u64>,
    ) -> std::cell::RefCell<Self> {
        let greeting = greeting.map(|text| text.parse().unwrap());
        let replies = crate::cli::flags::serve_options::ReplyOptions {
            greeting,
            ..crate::cli::flags::serve_options::ReplyOptions::for_test(mode)
        };
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
        let templates = GreetingTemplates::new(&replies).unwrap();
        let quota = GreetingQuota::if_needed(greetings_max, &templates);
        std::cell::RefCell::new(Self::new(templates, quota, shutdown, event_log, Arc::default()))
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
        (self.logs_events() || !self.templates.are_constant()).then(lookup)
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

    /// The greeting of a socket, followed by a suffix, if it is a [`PlainGreeting`].
    pub(crate) fn plain_greeting(&self, socket: &ServedSocket, suffix: &[u8]) -> Option<PlainGreeting> {
        let greeting = self.templates.constant(self.template_of(socket))?;
        (self.quota.is_none() && !self.logs_events()).then(|| PlainGreeting {
            copies: [greeting, suffix].concat(),
            bytes: greeting.len() + suffix.len(),
            counters: Arc::clone(&self.counters),
            protocol: socket.protocol,
        })
    }

    /// Renders the greeting with this number, followed by a suffix.
    pub(crate) fn render(&mut self, number: u64, id: TemplateId, question: &Question<'_>, suffix: &[u8]) -> &[u8] {
        // They are missing only if no placeholder needs them.
        let unknown = Addresses { protocol: Protocol::Tcp, peer: None, local: None };
        let Question { addresses, proxy, received } = *question;
        self.buffer.clear();
        self.templates.render(id, &mut self.buffer, |hostname, mode| PlaceholderValues {
            addresses: addresses.unwrap_or(&unknown),
            number,
            hostname,
            mode,
            time: SystemTime::now(),
            proxy,
            received,
        });
        self.buffer.extend_from_slice(suffix);
        &self.buffer
    }

    /// Whether a datagram to a socket with this template can be a greeting of this server, of one with the same templates,
    /// or of one with the default greeting; if `is_cut`, also the beginning of one.
    pub(crate) fn is_greeting(&self, id: TemplateId, datagram: &[u8], is_cut: bool) -> bool {
        self.templates.can_have_sent(id, datagram, is_cut)
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
