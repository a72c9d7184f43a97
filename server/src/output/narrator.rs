//! `-vv`: logs each step of each connection, from the journal.
//!
//! Lines are formatted and printed only at the level trace. At other levels the narrator only follows the connections.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use halloo::CloseReason;
use halloo::observe::{CLOSE_REASONS, Detail, Entry, EntryKind, Object, TurnEntries};
use log::{Level, LevelFilter};
use nix::errno::Errno;

use crate::exit::describe_io_error;
use crate::output::printer_thread::Printer;
use crate::output::stderr::StderrLine;
use crate::text::bound_address::BoundAddress;
use crate::text::duration::format_elapsed;
use crate::text::protocol::Protocol;

/// The module that the lines name.
const TARGET: &str = "halloo::clients";

/// Logs the steps of the connections of one loop; an observer calls it.
#[derive(Debug)]
pub(crate) struct Narrator {
    printer: Printer,
    /// Listeners and UDP sockets, by their slot.
    sockets: HashMap<(Object, u32), (Protocol, BoundAddress)>,
    /// Connections, by their slot. The loop reuses slots.
    clients: HashMap<u32, Client>,
}

/// A connection, as far as its lines need it.
#[derive(Debug)]
struct Client {
    protocol: Protocol,
    /// `None` for a client of a unix socket.
    peer: Option<SocketAddr>,
    /// The number of a connection in the process.
    generation: u64,
    /// When it was accepted; `None` if that is not noted.
    accepted_at: Option<u64>,
    received: u64,
    sent: u64,
}

impl Client {
    fn name(&self) -> String {
        match self.peer {
            Some(peer) => format!("{} {peer}", self.protocol),
            None => format!("{} client {}", self.protocol, self.generation),
        }
    }
}

impl Narrator {
    /// A narrator that prints to this printer.
    pub(crate) fn new(printer: Printer) -> Self {
        Self { printer, sockets: HashMap::new(), clients: HashMap::new() }
    }

    /// Logs the steps of a turn, at the level trace.
    pub(crate) fn narrate(&mut self, turn: &TurnEntries<'_>) {
        if log::max_level() < LevelFilter::Trace {
            return self.follow_turn(turn.entries, turn.details, None);
        }
        let printer = self.printer.clone();
        let mut log_line = |line| printer.eprint(StderrLine::Log(Level::Trace, TARGET, line));
        self.follow_turn(turn.entries, turn.details, Some(&mut log_line));
    }

    /// Follows the steps of a turn, and formats their lines if they are logged.
    fn follow_turn(
        &mut self,
        entries: &[Entry],
        details: &[(u32, Detail)],
        mut log_line: Option<&mut dyn FnMut(String)>,
    ) {
        let mut details = details.iter().peekable();
        for (index, entry) in entries.iter().enumerate() {
            let mut detail = None;
            while let Some((_, found)) = details.next_if(|(of, _)| *of as usize <= index) {
                // An entry with payload has its address first.
                detail = detail.or(Some(found));
            }
            self.follow(entry, detail);
            if let Some(log_line) = &mut log_line
                && let Some(line) = self.line(entry, detail)
            {
                log_line(line);
            }
            let is_end = (entry.kind, entry.object) == (EntryKind::Closed, Object::Connection);
            if is_end && self.clients.get(&entry.slot).is_some_and(|client| client.generation == entry.generation) {
                self.clients.remove(&entry.slot);
            }
        }
    }

    /// Follows a step, without a line: sockets and connections that begin, and the bytes of connections.
    fn follow(&mut self, entry: &Entry, detail: Option<&Detail>) {
        match (entry.kind, entry.object, detail) {
            (
                EntryKind::Existing | EntryKind::Listening | EntryKind::Bound,
                Object::Listener | Object::UdpSocket,
                Some(detail),
            ) => self.add_socket(entry, detail),
            (EntryKind::Existing, Object::Connection, Some(detail)) => self.add_client(entry, detail, None),
            (EntryKind::Opened, Object::Connection, Some(detail)) => {
                self.add_client(entry, detail, Some(entry.nanoseconds));
            }
            (EntryKind::Read | EntryKind::Write, Object::Connection, _) if entry.errno.is_none() => {
                let client = self.clients.get_mut(&entry.slot).filter(|client| client.generation == entry.generation);
                let Some(client) = client else { return };
                let bytes = if entry.kind == EntryKind::Read { &mut client.received } else { &mut client.sent };
                *bytes += entry.numbers[0];
            }
            _ => {}
        }
    }

    /// The line of a step that was followed, if it has one.
    fn line(&self, entry: &Entry, detail: Option<&Detail>) -> Option<String> {
        match (entry.kind, entry.object) {
            (EntryKind::Lost, _) => {
                Some(format!("{} steps of this turn are not logged: there are too many", entry.numbers[0]))
            }
            (EntryKind::Opened, Object::Connection) => {
                let client = self.clients.get(&entry.slot)?;
                let local = self.listener_of(entry).map_or_else(|| "-".to_owned(), |(_, address)| address.to_string());
                Some(format!("{}: accepted on {local}", client.name()))
            }
            (_, Object::Connection) => self.client_line(entry),
            (EntryKind::DatagramOut, _) => {
                let Detail::Address(peer) = detail? else { return None };
                Some(match error_of(entry) {
                    None => format!("udp {peer}: sent {} bytes", entry.numbers[0]),
                    Some(cause) => format!("udp {peer}: the reply is lost: {cause}"),
                })
            }
            (_, Object::Listener) => self.listener_line(entry),
            _ => None,
        }
    }

    fn add_socket(&mut self, entry: &Entry, detail: &Detail) {
        let socket = match detail {
            Detail::Address(address) if entry.object == Object::UdpSocket => (Protocol::Udp, (*address).into()),
            Detail::Address(address) => (Protocol::Tcp, (*address).into()),
            Detail::Path(path) => (Protocol::Unix, BoundAddress::from_path(path)),
            _ => return,
        };
        self.sockets.insert((entry.object, entry.slot), socket);
    }

    fn add_client(&mut self, entry: &Entry, detail: &Detail, accepted_at: Option<u64>) {
        let peer = if let Detail::Address(peer) = detail { Some(*peer) } else { None };
        let protocol = self.listener_of(entry).map_or(Protocol::Tcp, |(protocol, _)| *protocol);
        let client = Client { protocol, peer, generation: entry.generation, accepted_at, received: 0, sent: 0 };
        self.clients.insert(entry.slot, client);
    }

    /// The listener of a connection that begins with this entry.
    fn listener_of(&self, entry: &Entry) -> Option<&(Protocol, BoundAddress)> {
        self.sockets.get(&(Object::Listener, u32::try_from(entry.numbers[1]).ok()?))
    }

    fn client_line(&self, entry: &Entry) -> Option<String> {
        let client = self.clients.get(&entry.slot).filter(|client| client.generation == entry.generation)?;
        let (failed, [count, second]) = (error_of(entry), entry.numbers);
        let would_block = entry.errno() == Some(Errno::EAGAIN as i32);
        let step = match entry.kind {
            EntryKind::Read if would_block => return None,
            EntryKind::Write if would_block => format!("the client does not read: {second} bytes wait"),
            EntryKind::Read | EntryKind::Write if failed.is_some() => {
                let verb = if entry.kind == EntryKind::Read { "read" } else { "send" };
                format!("cannot {verb}: {}", failed.unwrap_or_default())
            }
            EntryKind::Read if count == 0 => "read EOF".to_owned(),
            EntryKind::Read => format!("read {count} bytes"),
            EntryKind::Write if count < second => format!("sent {count} of {second} bytes"),
            EntryKind::Write => format!("sent {count} bytes"),
            EntryKind::ShutdownWrite if failed.is_none() => "sent EOF".to_owned(),
            EntryKind::Paused => "reading is paused".to_owned(),
            EntryKind::Resumed => "reading goes on".to_owned(),
            EntryKind::AwaitsMemory => "reading waits for memory".to_owned(),
            EntryKind::Closed => end_of(client, entry),
            _ => return None,
        };
        Some(format!("{}: {step}", client.name()))
    }

    fn listener_line(&self, entry: &Entry) -> Option<String> {
        let (protocol, address) = self.sockets.get(&(Object::Listener, entry.slot))?;
        let step = match entry.kind {
            EntryKind::Refused if entry.numbers[0] == 0 => "a client is refused: too many connections".to_owned(),
            EntryKind::Refused => "a client is refused: too many connections of its source".to_owned(),
            EntryKind::Full => format!("{} connections are the most; new clients wait", entry.numbers[0]),
            _ => return None,
        };
        Some(format!("{protocol} on {address}: {step}"))
    }
}

/// How a connection ended, after how long, and how many bytes it had.
fn end_of(client: &Client, entry: &Entry) -> String {
    let reason = usize::try_from(entry.numbers[0]).ok().and_then(|index| CLOSE_REASONS.get(index));
    let words = match reason {
        Some(CloseReason::Eof) => "closed by the client",
        Some(CloseReason::Local) => "closed by us",
        Some(CloseReason::Aborted) => "reset by us",
        Some(CloseReason::Reset) => "reset by the client",
        Some(CloseReason::TimedOut) => "closed by us: idle timeout",
        Some(CloseReason::WriteStalled) => "closed by us: the client has not read its reply",
        Some(CloseReason::InputOverflow) => "closed by us: the input is too long",
        Some(CloseReason::InvalidInput) => "closed by us: the input is invalid",
        Some(CloseReason::OutOfMemory) => "closed by us: no memory is left",
        Some(CloseReason::Drained) => "closed by us: the server stops",
        Some(CloseReason::Panicked) => "closed by us: its handler panicked",
        Some(CloseReason::Rejected) => "refused",
        _ => "closed: its socket has an error",
    };
    let reset = if entry.numbers[1] == 1 && !words.starts_with("reset") { ", with a reset," } else { "" };
    let elapsed = client.accepted_at.map(|at| Duration::from_nanos(entry.nanoseconds.saturating_sub(at)));
    let after = elapsed.map_or_else(String::new, |elapsed| format!(" after {}", format_elapsed(elapsed)));
    format!("{words}{reset}{after}, {} bytes in, {} out", client.received, client.sent)
}

/// The system's phrase for the error of an entry.
fn error_of(entry: &Entry) -> Option<String> {
    entry.errno().map(|errno| describe_io_error(&io::Error::from_raw_os_error(errno)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use halloo::observe::{Detail, Entry, EntryKind, Object};
    use support::measurement::fastest_of;

    use super::Narrator;
    use crate::output::printer_thread::Printer;

    fn entry(kind: EntryKind, numbers: [u64; 2]) -> Entry {
        Entry { kind, object: Object::Connection, errno: None, slot: 3, generation: 7, numbers, nanoseconds: 0 }
    }

    /// The lines of a turn. The address of its first entry is the one of the client.
    fn lines(narrator: &mut Narrator, entries: &[Entry], is_logged: bool) -> Vec<String> {
        let details = [(0, Detail::Address(([127, 0, 0, 1], 5).into()))];
        let details: &[_] = if entries[0].kind == EntryKind::Opened { &details } else { &[] };
        let mut lines = Vec::new();
        let mut log_line = |line| lines.push(line);
        narrator.follow_turn(entries, details, is_logged.then_some(&mut log_line));
        lines
    }

    #[test]
    fn a_connection_is_followed_while_its_lines_are_not_logged() {
        let mut narrator = Narrator::new(Printer::null());
        let start = [entry(EntryKind::Opened, [0, 0]), entry(EntryKind::Read, [18, 0])];
        assert!(lines(&mut narrator, &start, false).is_empty());
        let end = [entry(EntryKind::Write, [5, 5]), entry(EntryKind::Closed, [0, 0])];
        let logged = lines(&mut narrator, &end, true);
        assert_eq!(logged[0], "tcp 127.0.0.1:5: sent 5 bytes");
        assert!(logged[1].ends_with("18 bytes in, 5 out"), "{logged:?}");
        assert!(narrator.clients.is_empty());
    }

    #[test]
    fn lines_that_are_not_logged_are_not_formatted() {
        let mut narrator = Narrator::new(Printer::null());
        lines(&mut narrator, &[entry(EntryKind::Opened, [0, 0])], false);
        let entries = vec![entry(EntryKind::Read, [18, 0]); 20_000];
        let mut elapsed = |is_logged| -> Duration { fastest_of(5, || drop(lines(&mut narrator, &entries, is_logged))) };
        let (formatted, followed) = (elapsed(true), elapsed(false));
        assert!(followed * 2 < formatted, "{followed:?} without lines, {formatted:?} with them");
    }
}
