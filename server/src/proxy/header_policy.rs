//! Which clients send PROXY headers, and what becomes of the refused ones.
//!
//! Each refused connection or datagram is counted by its error. At most one warning a second is logged, with the count.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use halloo::{Context, HandlerId, TimerId};

use crate::cli::trusted_source::TrustedSource;
use crate::greeting::greeter::Greeter;
use crate::greeting::worker_counters::HeaderError;
use crate::text::protocol::Protocol;

/// The time for a whole header: the specification asks for at least 3 s, so that one lost segment delays no client.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// The time between two warnings.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// The trusted sources, and the refused headers of one worker.
pub(crate) struct HeaderPolicy<'h> {
    trusted: Vec<TrustedSource>,
    greeter: &'h RefCell<Greeter>,
    pub(crate) header_timeout: Duration,
    /// Refused since the last warning, and the last one.
    unlogged: Cell<u64>,
    last: Cell<Option<(Client, HeaderError)>>,
    /// It runs for one interval after a warning.
    log_timer: Cell<Option<(TimerId, HandlerId)>>,
}

impl<'h> HeaderPolicy<'h> {
    pub(crate) fn new(trusted: Vec<TrustedSource>, greeter: &'h RefCell<Greeter>) -> Self {
        let (unlogged, last, log_timer) = (Cell::new(0), Cell::new(None), Cell::new(None));
        Self { trusted, greeter, header_timeout: HEADER_TIMEOUT, unlogged, last, log_timer }
    }

    /// Whether the headers of a client are believed.
    pub(crate) fn trusts(&self, client: Option<SocketAddr>) -> bool {
        let ip = client.map(|address| address.ip());
        self.trusted.iter().any(|source| source.contains(ip))
    }

    /// Whether no greeting is left, so that a header would come too late.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.greeter.borrow().is_exhausted()
    }

    /// Counts the header at the beginning of some input by its version.
    pub(crate) fn count_accepted(&self, input: &[u8]) {
        let greeter = self.greeter.borrow();
        let counters = greeter.counters();
        let is_version_1 = input.first() == Some(&b'P');
        if is_version_1 { &counters.version_1_headers } else { &counters.version_2_headers }.add_one();
    }

    /// Counts a datagram that is refused for its header.
    pub(crate) fn count_refused_datagram(&self) {
        self.greeter.borrow().counters().refused_datagrams.add_one();
    }

    /// Counts and logs a refused client.
    #[cold]
    pub(crate) fn refuse(
        &self,
        context: &mut Context,
        handler: HandlerId,
        client: Option<SocketAddr>,
        error: HeaderError,
    ) {
        let client = Client(client);
        self.greeter.borrow().counters().header_errors(error).add_one();
        log::debug!("{client}: refused for its PROXY header: {}: {}", error.as_str(), error.cause());
        self.unlogged.set(self.unlogged.get() + 1);
        self.last.set(Some((client, error)));
        if self.log_timer.get().is_none() {
            self.warn(context, handler);
        }
    }

    /// Logs a warning if this is the timer of the policy, and clients were refused since; false if it is another timer.
    pub(crate) fn on_timer(&self, context: &mut Context, timer: TimerId) -> bool {
        let Some((_, handler)) = self.log_timer.get().filter(|(log_timer, _)| *log_timer == timer) else {
            return false;
        };
        self.log_timer.set(None);
        self.warn(context, handler);
        true
    }

    fn warn(&self, context: &mut Context, handler: HandlerId) {
        let Some((client, error)) = self.last.take() else { return };
        let count = self.unlogged.take();
        log::warn!(
            "refused for their PROXY headers: clients={count}, last {client}: {}: {}",
            error.as_str(),
            error.cause()
        );
        self.log_timer.set(Some((context.schedule(handler, LOG_INTERVAL, 0), handler)));
    }
}

/// The address of a client; none for a client of a unix socket.
#[derive(Clone, Copy)]
struct Client(Option<SocketAddr>);

impl fmt::Display for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(formatter),
            None => Protocol::Unix.fmt(formatter),
        }
    }
}
