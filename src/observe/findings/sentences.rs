//! The sentences of findings: cause, numbers, remedy.
//!
//! Each is one line, and begins with the object.

use std::fmt::Write;
use std::io;
use std::time::Duration;

use crate::address::Address;
use crate::observe::entry::{Callback, Entry, EntryKind, Object};
use crate::observe::findings::object_history::{ObjectKey, WorkKind};
use crate::observe::journal::Detail;

/// The name of an object: its address, or its slot.
pub(super) fn name(key: ObjectKey, detail: Option<&Detail>) -> String {
    let address = match detail {
        Some(Detail::Address(address)) => Address::Inet(*address).to_string(),
        Some(Detail::Path(path)) if !path.as_os_str().is_empty() => Address::Unix(path.clone()).to_string(),
        _ => String::new(),
    };
    let kind = match key.object {
        Object::Loop => return String::from("the loop"),
        Object::Connection if !address.is_empty() => return address,
        Object::UdpSocket => "UDP socket",
        other => other.as_str(),
    };
    if address.is_empty() { format!("{kind} {}", key.slot) } else { format!("{kind} {address}") }
}

/// A time, with the digits that matter.
fn time(nanoseconds: u64) -> String {
    match Duration::from_nanos(nanoseconds) {
        time if time >= Duration::from_secs(1) => format!("{:.1} s", time.as_secs_f64()),
        time if time >= Duration::from_millis(1) => format!("{} ms", time.as_millis()),
        time => format!("{} us", time.as_micros()),
    }
}

/// A count with its noun: `no event`, `1 event`, `2 events`.
fn counted(count: u64, noun: &str) -> String {
    match count {
        0 => format!("no {noun}"),
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
}

pub(super) fn slow_callback(name: &str, callback: Callback, input: u64, took: u64, waiting: u64) -> String {
    let mut sentence = format!("{callback} of {name} took {}", time(took));
    if callback == Callback::Datagram && input > 1 {
        // Writing to a string cannot fail.
        let _ = write!(sentence, " for {input} datagrams");
    }
    let waiting = counted(waiting, "other event");
    format!("{sentence}; {waiting} waited; move the work to another thread, or split it")
}

/// A turn of `took` nanoseconds, with callbacks of `in_callbacks` together.
pub(super) fn long_turn(took: u64, callbacks: u64, in_callbacks: u64, longest: u64, waiting: u64) -> String {
    let (turn, waiting) = (time(took), counted(waiting, "event"));
    let callbacks = counted(callbacks, "callback");
    if in_callbacks >= took / 2 {
        let (sum, longest) = (time(in_callbacks), time(longest));
        format!(
            "a turn took {turn}, {sum} of it in {callbacks} of at most {longest}; {waiting} and all timers waited for its \
             end; do less in callbacks, or divide the clients among several loops"
        )
    } else {
        let sum = time(in_callbacks);
        format!(
            "a turn took {turn}, only {sum} of it in {callbacks}; {waiting} and all timers waited for its end; system \
             calls took long, or the thread had no processor or was stopped: give the process more processor time"
        )
    }
}

/// Callbacks may be missing, so their time is not known.
pub(super) fn long_turn_with_lost_steps(took: u64, lost: u64, waiting: u64) -> String {
    let (turn, waiting, lost) = (time(took), counted(waiting, "event"), counted(lost, "step"));
    format!(
        "a turn took {turn}, and {lost} of it did not fit the recording; {waiting} and all timers waited for its end; \
         bound the work for each object in a turn, and defer the rest to the next turn"
    )
}

pub(super) fn late_poll(late: u64) -> String {
    format!(
        "a poll returned {} after its time; the thread had no processor, or was stopped; give the process more processor \
         time",
        time(late)
    )
}

pub(super) fn late_timer(name: &str, late: u64) -> String {
    format!(
        "{name} fired {} late, and no callback, turn or poll was long; call EventLoop::turn before next_timeout has \
         passed, or let run() call it",
        time(late)
    )
}

pub(super) fn work(name: &str, kind: WorkKind, waited: u64, others: u64) -> String {
    let (waited, others) = (time(waited), counted(others, "call"));
    match kind {
        WorkKind::Unserved => {
            format!(
                "{name} was ready and was not served for {waited}, in which others had {others}; serve each ready object \
                 in the turn of its event"
            )
        }
        WorkKind::ReadInPart { count, of } => format!(
            "{name} was readable, and its last call took {count} of at most {of}; the rest waited {waited}; an \
             edge-triggered poll does not report it again: call until EAGAIN, or defer the rest to the next turn"
        ),
        WorkKind::Failed { errno } => format!(
            "{name} was ready, and its last call failed: {}; what it had waited {waited}; an edge-triggered poll does not \
             report it again: call again after a pause",
            system_text(errno)
        ),
        WorkKind::Deferred => {
            format!(
                "{name} was deferred and was not served for {waited}, in which others had {others}; serve each deferred \
                 object in the next turn"
            )
        }
        WorkKind::Memory => format!(
            "input of {name} waited {waited} for memory of the loop's buffers; raise buffer_bytes_max, or lower \
             input_bytes_max and outbox_bytes_max"
        ),
        WorkKind::Full { connections, .. } => format!(
            "a client of {name} waited {waited} in the backlog, because its handler has {} and may not have more; raise connections_max, or close idle connections earlier",
            counted(connections, "connection")
        ),
    }
}

pub(super) fn stale_event(name: &str, entry: &Entry, is_closed: bool) -> String {
    let call = match entry.kind {
        EntryKind::CallbackBegin => Callback::from_index(entry.numbers[0]).map_or("a callback", Callback::as_str),
        kind => kind.as_str(),
    };
    if is_closed {
        format!("{call} of {name} followed its close; forget its slot and its events when it closes")
    } else {
        format!(
            "an event of an object that is gone led to {call} of {name}, which has its slot now; compare the generation \
             in the event before acting on it"
        )
    }
}

fn system_text(errno: Option<i32>) -> String {
    errno.map_or_else(|| String::from("unknown error"), |errno| io::Error::from_raw_os_error(errno).to_string())
}

pub(super) fn backoff(name: &str, object: Object, errno: Option<i32>, tries: u64, lasted: u64) -> String {
    let error = system_text(errno);
    let (call, waiting) = match object {
        Object::Listener => ("accept", "clients waited in the backlog"),
        _ => ("receive", "datagrams waited"),
    };
    let (tries, lasted) = (if tries == 1 { String::from("1 try") } else { format!("{tries} tries") }, time(lasted));
    format!(
        "{call} of {name} failed in {tries} within {lasted}: {error}; {waiting}; free what the error names, or \
         raise its limit"
    )
}

pub(super) fn slow_reader(name: &str, bytes: Option<u64>, waited: u64, is_closed: bool) -> String {
    let bytes = bytes.map_or_else(|| String::from("its output"), |bytes| counted(bytes, "byte"));
    let end = if is_closed { "; the loop closed it as write-stalled" } else { "" };
    format!(
        "{name} accepted no output for {}, and {bytes} waited{end}; it does not read, or its network is slow; send it \
         less, or close it earlier with write_timeout",
        time(waited)
    )
}

pub(super) fn spin(name: Option<&str>, polls: u64, lasted: u64) -> String {
    let (cause, remedy) = match name {
        Some(name) => (
            format!("{name} was served in each turn without result"),
            "return Watch::Again only after progress, and close what fails or is at EOF",
        ),
        None => (String::from("the turns did nothing"), "let the poll wait"),
    };
    format!("{polls} polls in a row returned at once within {}; {cause}; {remedy}", time(lasted))
}
