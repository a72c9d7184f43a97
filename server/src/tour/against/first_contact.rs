//! One calm exchange: what a server serves, and which mode fits.
//!
//! Each step ends after the patience of the tour.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::cli::flags::tour_options::TourMode;
use crate::exit::{ExitError, ExitStatus, describe_io_error};
use crate::text::address::Address;
use crate::text::escape;
use crate::tour::client::{Client, End, PATIENCE, Received, Target};

/// A server that greets at connect does so within this time.
const GREETING_TIME: Duration = Duration::from_millis(300);

/// How long the resolver may take.
const LOOKUP_TIME: Duration = Duration::from_secs(10);

/// How often a datagram is sent again: one may be lost.
const DATAGRAM_TRIES: u32 = 3;

const LINE: &[u8] = b"halloo tour\n";
const DATAGRAM: &[u8] = b"halloo tour";

/// Finds the server, and whether it does what the mode says. Returns also why a protocol is not judged.
pub(crate) fn find(
    address: &Address,
    mode: TourMode,
    slow_request: Vec<u8>,
) -> Result<(Target, Option<String>), ExitError> {
    let unreachable = |cause: String| {
        let hint = "start the server, or write its address and port";
        ExitError::new(ExitStatus::Unavailable, format!("cannot reach the server at {address}: {cause}; {hint}"))
    };
    let addresses = look_up(address).map_err(|error| unreachable(describe_io_error(&error)))?;
    let mut target = Target { tcp: None, udp: None, mode, slow_request, patience: PATIENCE };
    let mut tcp_error = io::Error::other("the name has no address");
    for address in &addresses {
        target.tcp = Some(*address);
        match target.connect() {
            Ok(client) => {
                check_mode(client, *address, mode)?;
                break;
            }
            Err(error) => tcp_error = error,
        }
        target.tcp = None;
    }
    // The same address first.
    let mut candidates = addresses.clone();
    candidates.sort_by_key(|address| target.tcp != Some(*address));
    let reply = candidates.iter().find_map(|address| Some((*address, datagram_reply(&target, *address)?)));
    let note = match &reply {
        Some((_, reply)) if mode == TourMode::Echo && reply != DATAGRAM => {
            Some(format!("over UDP the server does not echo: it replied with {}", quoted(reply)))
        }
        Some((address, _)) => {
            target.udp = Some(*address);
            None
        }
        None => Some("the server does not reply over UDP".to_owned()),
    };
    match (target.tcp, target.udp) {
        (None, None) => {
            let note = note.unwrap_or_default();
            Err(unreachable(format!("{} over TCP, and {note}", describe_io_error(&tcp_error))))
        }
        (None, _) => {
            let cause = describe_io_error(&tcp_error);
            Ok((target, Some(format!("the server does not serve TCP: {cause}"))))
        }
        _ => Ok((target, note)),
    }
}

/// Asks the resolver on a thread of its own: the call has no timeout.
fn look_up(address: &Address) -> io::Result<Vec<SocketAddr>> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let address = address.clone();
    thread::Builder::new().spawn(move || sender.send(address.resolve_in_order()))?;
    receiver.recv_timeout(LOOKUP_TIME).unwrap_or_else(|_| Err(io::Error::other("no address for the name within 10 s")))
}

/// Returns an error with the mode that fits, if it is not this one.
fn check_mode(mut client: Client, address: SocketAddr, mode: TourMode) -> Result<(), ExitError> {
    let seen = first_reply(&mut client).map_err(|error| {
        let cause = describe_io_error(&error);
        ExitError::new(
            ExitStatus::Unavailable,
            format!("cannot talk to the server at {address}: {cause}; a server of the tour replies to a line"),
        )
    })?;
    let fitting = fitting_modes(&seen);
    if fitting.contains(&mode) {
        return Ok(());
    }
    let did = format!("the server at {address} does not do what --mode {} says: {}", name(mode), describe(&seen));
    match fitting.first() {
        Some(other) => Err(ExitError::new(ExitStatus::UsageError, format!("{did}; write --mode {}", name(*other)))),
        None => Err(ExitError::new(
            ExitStatus::Unavailable,
            format!("{did}; a server of the tour sends input back, replies to each line, or greets"),
        )),
    }
}

/// What a server did for one line.
struct FirstReply {
    /// What came before the line was sent.
    greeting: Vec<u8>,
    /// What came after it, or, if the server had closed, how.
    reply: Received,
}

fn first_reply(client: &mut Client) -> io::Result<FirstReply> {
    let mut first = client.receive_for(GREETING_TIME, &mut |bytes| !bytes.is_empty())?;
    if matches!(first.end, End::Eof | End::Reset) {
        let reply = Received { bytes: Vec::new(), end: first.end };
        return Ok(FirstReply { greeting: std::mem::take(&mut first.bytes), reply });
    }
    client.send(LINE)?;
    Ok(FirstReply { greeting: first.bytes, reply: client.receive_greeting()? })
}

/// The modes that a reply fits, the one that says the most first.
fn fitting_modes(seen: &FirstReply) -> &'static [TourMode] {
    let is_open = seen.reply.end == End::Silence;
    match (&seen.greeting[..], &seen.reply.bytes[..]) {
        (b"", b"") => &[],
        (b"", LINE) if is_open => &[TourMode::Echo, TourMode::Line, TourMode::Greet],
        (b"", [.., b'\n']) if is_open => &[TourMode::Line, TourMode::Greet],
        _ => &[TourMode::Greet],
    }
}

fn describe(seen: &FirstReply) -> String {
    let silence = if seen.reply.end == End::Silence { format!(" within {PATIENCE:?}") } else { String::new() };
    let end = match seen.reply.end {
        End::Eof => "and closed the connection",
        End::Reset => "and reset the connection",
        End::Complete | End::Silence => "and kept the connection open",
    };
    match (&seen.greeting[..], &seen.reply.bytes[..]) {
        (b"", b"") => format!("for the line \"halloo tour\" it sent nothing{silence} {end}"),
        (b"", reply) => format!("for the line \"halloo tour\" it sent {} {end}", quoted(reply)),
        (greeting, _) => format!("at connect it sent {}", quoted(greeting)),
    }
}

/// The beginning of bytes, in quotes.
fn quoted(bytes: &[u8]) -> String {
    format!("\"{}\"", escape::excerpt(&escape::text(bytes)))
}

/// The mode on the command line.
pub(crate) fn name(mode: TourMode) -> &'static str {
    match mode {
        TourMode::Echo => "echo",
        TourMode::Line => "line",
        TourMode::Greet => "greet",
    }
}

/// Sends a datagram, and returns the reply; `None` without one.
pub(crate) fn datagram_reply(target: &Target, address: SocketAddr) -> Option<Vec<u8>> {
    let target = Target { udp: Some(address), ..target.clone() };
    match target.connected_reply(DATAGRAM) {
        Ok(reply) => return Some(reply),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return None,
        // Perhaps it replies from another address, which a connected socket does not receive.
        Err(_) => {}
    }
    let socket = target.open_datagrams().ok()?;
    for _ in 0..DATAGRAM_TRIES {
        socket.send(DATAGRAM).ok()?;
        if let Some((reply, _)) = socket.receive_for(PATIENCE / DATAGRAM_TRIES).ok()? {
            return Some(reply);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(greeting: &[u8], reply: &[u8], end: End) -> FirstReply {
        FirstReply { greeting: greeting.to_vec(), reply: Received { bytes: reply.to_vec(), end } }
    }

    #[test]
    fn the_first_reply_tells_which_modes_fit() {
        for (reply, modes) in [
            (seen(b"", LINE, End::Silence), &[TourMode::Echo, TourMode::Line, TourMode::Greet][..]),
            (seen(b"", b"+OK\r\n", End::Silence), &[TourMode::Line, TourMode::Greet]),
            (seen(b"", LINE, End::Eof), &[TourMode::Greet]),
            (seen(b"", b"Hello!", End::Silence), &[TourMode::Greet]),
            (seen(b"Hello!\n", LINE, End::Silence), &[TourMode::Greet]),
            (seen(b"Hello!", b"", End::Eof), &[TourMode::Greet]),
            (seen(b"", b"", End::Silence), &[]),
            (seen(b"", b"", End::Reset), &[]),
        ] {
            assert_eq!(fitting_modes(&reply), modes, "{}", describe(&reply));
        }
    }

    #[test]
    fn only_a_server_that_kept_silent_is_described_with_the_time() {
        let of = |end| describe(&seen(b"", b"", end));
        assert!(of(End::Eof).ends_with("it sent nothing and closed the connection"), "{}", of(End::Eof));
        assert!(of(End::Reset).ends_with("it sent nothing and reset the connection"), "{}", of(End::Reset));
        let silent = of(End::Silence);
        assert!(silent.ends_with("it sent nothing within 2s and kept the connection open"), "{silent}");
    }
}
