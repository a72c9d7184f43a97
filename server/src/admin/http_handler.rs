//! The connections of the admin endpoint: requests in, responses out.
//!
//! Responses follow in the order of the requests. A client that does not read, or sends slowly, costs a bounded time
//! and memory; the one that has waited longest makes room for a new one.

use std::mem;
use std::time::Duration;

use halloo::{CloseReason, Connection, ConnectionId, Handle, SharedBytes, StreamHandler};

use crate::admin::http_request::{Parsed, Request, parse};
use crate::admin::http_response::{Response, ResponseForm};
use crate::admin::pages::{Page, WaitingPage};
use crate::admin::worker_query::{ANSWER_TIMEOUT, Asker};
use crate::admin::{AdminContext, LargePagePermit, access, pages};

/// The most connections at once.
const CONNECTIONS_MAX: usize = 64;

/// Connections that are being closed while new ones are accepted.
const CLOSING_CONNECTIONS_MAX: usize = 16;

/// Descriptors of each listener that stay free for new connections when the process has none left.
pub(crate) const DESCRIPTOR_RESERVE: u32 = 8;

/// With fewer descriptors of the reserve left, answered clients make room for new ones.
const RESERVE_LEFT_MIN: usize = 4;

/// The most connections that the loop accepts, closing ones included.
pub(crate) const ACCEPTED_MAX: usize = CONNECTIONS_MAX + CLOSING_CONNECTIONS_MAX;

/// The most descriptors of the endpoint: its connections, two listeners with their reserves, the poll and its waker.
pub(crate) const ADMIN_DESCRIPTORS_MAX: usize = ACCEPTED_MAX + 2 * (1 + DESCRIPTOR_RESERVE as usize) + 2;

/// How long a request may take to arrive.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection may stay open between two requests: longer than any usual interval of Prometheus.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// How long a client may take to close its side after the last response.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The longest of these times while few descriptors are left.
const SCARCE_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves the connections of the endpoint.
pub(crate) struct HttpHandler {
    context: AdminContext,
    handle: Handle,
    clients: Vec<Client>,
    /// How many times a client has connected or sent a whole request.
    steps: u64,
    is_draining: bool,
}

/// An open connection, among those that may have to make room.
struct Client {
    id: ConnectionId,
    /// The step at which it connected or sent its last request.
    last_step: u64,
    state: ClientState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ClientState {
    /// Has not sent a whole request.
    New,
    /// Waits for a response, or for the rest of it.
    Waiting,
    /// Has all responses.
    Answered,
}

/// What is left of a response, and what follows it.
struct Unsent {
    bytes: SharedBytes,
    keeps_alive: bool,
    _permit: Option<LargePagePermit>,
}

/// What a connection does.
pub(crate) struct Session {
    phase: Phase,
    has_eof: bool,
}

enum Phase {
    /// Waits for a request.
    Idle,
    /// Waits for the rest of a request.
    Reading,
    /// Waits for the workers, with the form of the response.
    Asking(Box<dyn WaitingPage>, ResponseForm),
    /// Sends the rest of a response that did not fit the outbox; then it stays open, or closes.
    Sending(Unsent),
    /// Waits for EOF after the last response.
    Closing,
}

impl HttpHandler {
    pub(crate) fn new(context: AdminContext, handle: Handle) -> Self {
        Self { context, handle, clients: Vec::new(), steps: 0, is_draining: false }
    }

    /// Answers one request.
    fn answer(&mut self, connection: &mut Connection<'_>, session: &mut Session, request: &Request<'_>) {
        let form = ResponseForm {
            is_head: request.method == "HEAD",
            keeps_alive: request.keeps_alive && !self.is_draining && !is_scarce(connection),
            is_http_1_0: request.is_http_1_0,
        };
        self.note_request(connection.id());
        let page = match access::check(request, connection.peer_addr()) {
            Ok(()) => {
                let asker = Asker { handle: self.handle.clone(), connection: connection.id() };
                pages::answer(&self.context, request, &asker)
            }
            Err(refusal) => Page::Ready(refusal),
        };
        match page {
            Page::Ready(response) => self.send(connection, session, response, form),
            Page::Waiting(page) => {
                session.phase = Phase::Asking(page, form);
                self.set_state(connection.id(), ClientState::Waiting);
                connection.pause();
                connection.set_timeout(Some(ANSWER_TIMEOUT));
                self.finish_complete_page(connection, session);
            }
        }
    }

    /// Queues a response, as far as it fits.
    fn send(
        &mut self,
        connection: &mut Connection<'_>,
        session: &mut Session,
        mut response: Response,
        form: ResponseForm,
    ) {
        let permit = response.permit.take();
        let bytes = SharedBytes::from(response.into_bytes(form));
        self.send_rest(connection, session, Unsent { bytes, keeps_alive: form.keeps_alive, _permit: permit });
    }

    fn send_rest(&mut self, connection: &mut Connection<'_>, session: &mut Session, mut unsent: Unsent) {
        let taken = connection.try_write_shared(&unsent.bytes);
        if taken < unsent.bytes.len() {
            unsent.bytes = unsent.bytes.slice(taken..);
            session.phase = Phase::Sending(unsent);
            self.set_state(connection.id(), ClientState::Waiting);
            // The write timeout of the listener applies, too.
            return connection.set_timeout(is_scarce(connection).then_some(SCARCE_TIMEOUT));
        }
        self.set_state(connection.id(), ClientState::Answered);
        if unsent.keeps_alive && !session.has_eof && !self.is_draining {
            session.phase = Phase::Idle;
            connection.set_timeout(Some(IDLE_TIMEOUT));
        } else {
            self.close(connection, session);
        }
    }

    /// Sends a FIN after the responses, and discards what the client still sends: unread input would turn the FIN into
    /// an RST. The connection stays among those that make room.
    fn close(&mut self, connection: &mut Connection<'_>, session: &mut Session) {
        session.phase = Phase::Closing;
        if self.is_draining {
            return connection.close();
        }
        connection.shutdown_write();
        set_timeout(connection, CLOSE_TIMEOUT);
    }

    /// Ends the wait for the workers if no other answer will arrive.
    fn finish_complete_page(&mut self, connection: &mut Connection<'_>, session: &mut Session) {
        if let Phase::Asking(page, _) = &mut session.phase
            && page.is_complete()
        {
            self.finish_page(connection, session);
        }
    }

    /// Ends the wait for the workers.
    fn finish_page(&mut self, connection: &mut Connection<'_>, session: &mut Session) {
        match mem::replace(&mut session.phase, Phase::Idle) {
            Phase::Asking(page, form) => {
                self.send(connection, session, page.finish(), form);
                connection.resume();
            }
            phase => session.phase = phase,
        }
    }

    // ---- the order in which clients make room -----------------------------------------------------------------------

    fn add_client(&mut self, connection: &mut Connection<'_>) {
        let (is_full, is_scarce) = (self.clients.len() >= CONNECTIONS_MAX, is_scarce(connection));
        let may_leave = |client: &Client| is_full || is_scarce && client.state == ClientState::Answered;
        let leaving = self.clients.iter().filter(|client| may_leave(client));
        let oldest = leaving.min_by_key(|client| (client.state == ClientState::Waiting, client.last_step));
        if let Some(oldest) = oldest.map(|client| client.id) {
            self.clients.retain(|client| client.id != oldest);
            if let Some(mut oldest) = connection.context().connection(oldest) {
                oldest.abort();
            }
        }
        self.steps += 1;
        self.clients.push(Client { id: connection.id(), last_step: self.steps, state: ClientState::New });
    }

    fn client(&mut self, id: ConnectionId) -> Option<&mut Client> {
        self.clients.iter_mut().find(|client| client.id == id)
    }

    fn note_request(&mut self, id: ConnectionId) {
        self.steps += 1;
        let steps = self.steps;
        if let Some(client) = self.client(id) {
            client.last_step = steps;
        }
    }

    fn set_state(&mut self, id: ConnectionId, state: ClientState) {
        if let Some(client) = self.client(id) {
            client.state = state;
        }
    }
}

/// Whether the process has no descriptor, and few are left for the endpoint.
fn is_scarce(connection: &Connection<'_>) -> bool {
    connection.reserved_descriptors() < RESERVE_LEFT_MIN
}

/// Sets the timeout, or a short one while few descriptors are left.
fn set_timeout(connection: &mut Connection<'_>, after: Duration) {
    let after = if is_scarce(connection) { after.min(SCARCE_TIMEOUT) } else { after };
    connection.set_timeout(Some(after));
}

impl StreamHandler for HttpHandler {
    type Session = Session;

    fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<Session> {
        self.add_client(connection);
        set_timeout(connection, REQUEST_TIMEOUT);
        Some(Session { phase: Phase::Idle, has_eof: false })
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, session: &mut Session, input: &[u8]) -> usize {
        let mut taken = 0;
        while matches!(session.phase, Phase::Idle | Phase::Reading) {
            match parse(&input[taken..]) {
                Parsed::Complete(request, length) => {
                    taken += length;
                    self.answer(connection, session, &request);
                }
                Parsed::Invalid(response) => self.send(connection, session, response, ResponseForm::default()),
                Parsed::Incomplete => {
                    if taken < input.len() && matches!(session.phase, Phase::Idle) {
                        session.phase = Phase::Reading;
                        set_timeout(connection, REQUEST_TIMEOUT);
                    }
                    break;
                }
            }
        }
        if matches!(session.phase, Phase::Closing) { input.len() } else { taken }
    }

    /// A client may half-close after its last request; it still gets its responses. Part of a request is dropped.
    fn on_eof(&mut self, connection: &mut Connection<'_>, session: &mut Session, _: &[u8]) {
        session.has_eof = true;
        if matches!(session.phase, Phase::Idle | Phase::Reading) {
            self.close(connection, session);
        }
    }

    fn on_notify(&mut self, connection: &mut Connection<'_>, session: &mut Session, _: u64) {
        self.finish_complete_page(connection, session);
    }

    fn on_flushed(&mut self, connection: &mut Connection<'_>, session: &mut Session) {
        match mem::replace(&mut session.phase, Phase::Idle) {
            Phase::Sending(unsent) => self.send_rest(connection, session, unsent),
            phase => session.phase = phase,
        }
    }

    fn on_timeout(&mut self, connection: &mut Connection<'_>, session: &mut Session) {
        match session.phase {
            Phase::Reading => {
                let response = Response::text(408, "the request did not arrive in time");
                self.send(connection, session, response, ResponseForm::default());
            }
            Phase::Idle => self.close(connection, session),
            Phase::Asking(..) => self.finish_page(connection, session),
            Phase::Sending(_) | Phase::Closing => connection.abort(),
        }
    }

    fn on_drain(&mut self, connection: &mut Connection<'_>, session: &mut Session) {
        self.is_draining = true;
        if matches!(session.phase, Phase::Idle | Phase::Reading | Phase::Closing) {
            self.close(connection, session);
        }
    }

    fn on_close(&mut self, connection: &mut Connection<'_>, _: Session, _: CloseReason) {
        let id = connection.id();
        self.clients.retain(|client| client.id != id);
    }
}
