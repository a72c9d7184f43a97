//! The system calls that the entries of a recording name.
//!
//! [`EntryKind`] states the call of each kind. An entry names the descriptor of its object by earlier entries.

use std::collections::HashMap;

use halloo::observe::{Entry, EntryKind, Object};
use nix::errno::Errno;

use crate::recordings::strace_calls::Call;

/// `epoll_ctl(2)`, `shutdown(2)` and `setsockopt(2)`.
const EPOLL_CTL_ADD: i64 = 1;
const EPOLL_CTL_DEL: i64 = 2;
const SHUT_RD: i64 = 0;
const SHUT_WR: i64 = 1;
const SHUT_RDWR: i64 = 2;
const SOL_SOCKET: i64 = 1;
const SO_ATTACH_FILTER: i64 = 26;
const EINPROGRESS: i32 = Errno::EINPROGRESS as i32;

/// The call that an entry names.
#[derive(Debug)]
pub(crate) struct NotedCall {
    /// An entry may name one of several calls.
    names: &'static [&'static str],
    descriptor: Option<u64>,
    /// Arguments of the first call, by their index.
    arguments: Vec<(usize, i64)>,
    result: NotedResult,
}

/// What an entry states about the result of its call.
#[derive(Debug)]
enum NotedResult {
    Number(Result<u64, i32>),
    /// The number of datagrams, and the bytes of the first. A call for one datagram returns its bytes.
    Datagrams(Result<(u64, Option<u64>), i32>),
    /// The error number of a connect. None was noted for one in progress.
    Connect(Option<i32>),
    /// The loop ignores the result of close(2).
    Ignored,
}

impl NotedCall {
    /// Whether strace saw this call.
    pub(crate) fn is(&self, call: &Call) -> bool {
        let is_first = call.name == self.names[0];
        self.names.contains(&call.name.as_str())
            && self.descriptor.is_none_or(|descriptor| call.descriptor() == Some(descriptor))
            && self.arguments.iter().all(|(index, number)| !is_first || call.argument(*index) == Some(*number))
            && match self.result {
                NotedResult::Number(result) => call.result == result,
                NotedResult::Datagrams(Err(errno)) | NotedResult::Connect(Some(errno)) => call.result == Err(errno),
                NotedResult::Datagrams(Ok((count, bytes))) => match call.name.as_str() {
                    "recvmmsg" | "sendmmsg" => call.result == Ok(count),
                    _ => count == 1 && call.result.is_ok_and(|result| bytes.is_none_or(|bytes| bytes == result)),
                },
                NotedResult::Connect(None) => matches!(call.result, Ok(0) | Err(EINPROGRESS)),
                NotedResult::Ignored => true,
            }
    }
}

/// An object of a loop.
type ObjectKey = (Object, u32, u64);

/// The descriptors of the loop's objects, as far as a recording has told.
#[derive(Default)]
pub(crate) struct Descriptors {
    of: HashMap<ObjectKey, u64>,
    /// Those that are open, and what they are.
    open: HashMap<u64, Object>,
    /// The last that a listener has accepted, by its slot.
    accepted: HashMap<u32, u64>,
    /// The most nanoseconds that the poll may wait.
    wait: u64,
}

impl Descriptors {
    /// The call that the first of these entries names.
    pub(crate) fn call_of(&self, entries: &[Entry]) -> Option<NotedCall> {
        use EntryKind as Kind;
        let (entry, rest) = entries.split_first()?;
        let ([first, second], own) = (entry.numbers, self.of.get(&key_of(entry)).copied());
        let result = |number| NotedResult::Number(entry.errno().map_or(Ok(number), Err));
        let datagrams = |bytes| NotedResult::Datagrams(entry.errno().map_or(Ok((first, bytes)), Err));
        let (names, descriptor, arguments, result): (&[&str], _, _, _) = match entry.kind {
            Kind::PollEnd => (&["epoll_wait"], None, vec![(3, self.wait_milliseconds())], result(first)),
            Kind::Accept => (&["accept4"], own, vec![], result(first)),
            Kind::Registered => (&["epoll_ctl"], own, vec![(1, EPOLL_CTL_ADD)], result(0)),
            Kind::Deregistered => (&["epoll_ctl"], own, vec![(1, EPOLL_CTL_DEL)], result(0)),
            Kind::Read => (&["recvfrom"], own, vec![(2, to_i64(second))], result(first)),
            Kind::Write => (&["sendto", "sendmsg"], own, vec![(2, to_i64(second))], result(first)),
            Kind::ShutdownWrite => {
                let how = if second == 1 { SHUT_RDWR } else { SHUT_WR };
                (&["shutdown"], own, vec![(1, how)], result(0))
            }
            Kind::OptionSet => (&["setsockopt"], own, vec![(1, to_i64(first)), (2, to_i64(second))], result(0)),
            Kind::InputStopped if first == 1 => (&["shutdown"], own, vec![(1, SHUT_RD)], result(0)),
            Kind::InputStopped => (&["setsockopt"], own, vec![(1, SOL_SOCKET), (2, SO_ATTACH_FILTER)], result(0)),
            Kind::ReceiveBatch => (&["recvmmsg", "recvmsg"], own, vec![(2, to_i64(second))], datagrams(None)),
            Kind::SendBatch => {
                let bytes = rest.first().filter(|entry| entry.kind == Kind::DatagramOut).map(|entry| entry.numbers[0]);
                (&["sendmmsg", "sendto", "sendmsg"], own, vec![(2, to_i64(second))], datagrams(bytes))
            }
            Kind::Refused => (&["close"], self.accepted.get(&entry.slot).copied(), vec![], NotedResult::Ignored),
            // A watched descriptor is the embedder's.
            Kind::Closed if own.is_some() && entry.object != Object::Watch => {
                (&["close"], own, vec![], NotedResult::Ignored)
            }
            // Of an inherited stream, which is connected.
            Kind::Connect if second == 1 => return None,
            Kind::Connect => (
                &["connect"],
                Some(first).filter(|_| entry.errno.is_none()),
                vec![],
                NotedResult::Connect(entry.errno()),
            ),
            _ => return None,
        };
        let is_known = descriptor.is_some() || matches!(entry.kind, Kind::PollEnd | Kind::Connect);
        assert!(is_known, "no entry before has the descriptor of {entry:?}");
        Some(NotedCall { names, descriptor, arguments, result })
    }

    /// Whether a call is about an open descriptor. The embedder makes the other calls about a watched one.
    pub(crate) fn has(&self, call: &Call) -> bool {
        let object = call.descriptor().and_then(|descriptor| self.open.get(&descriptor));
        object.is_some_and(|object| *object != Object::Watch || call.name == "epoll_ctl")
    }

    /// All later calls about the descriptor of a noted call are noted.
    pub(crate) fn open(&mut self, noted: &NotedCall, object: Object) {
        if let Some(descriptor) = noted.descriptor {
            self.open.entry(descriptor).or_insert(object);
        }
    }

    /// Takes over what an entry tells about descriptors.
    pub(crate) fn update(&mut self, entry: &Entry) {
        let ([number, _], key) = (entry.numbers, key_of(entry));
        match entry.kind {
            EntryKind::PollBegin => self.wait = number,
            EntryKind::Accept if entry.errno.is_none() => drop(self.accepted.insert(entry.slot, number)),
            // A connection has no descriptor before its connect.
            EntryKind::Opened if number == 0 => {}
            EntryKind::Connect if entry.errno.is_some() => {}
            EntryKind::Listening | EntryKind::Bound | EntryKind::Watching | EntryKind::Connect => {
                self.of.insert(key, number);
            }
            EntryKind::Existing | EntryKind::Opened => {
                self.of.insert(key, number);
                self.open.insert(number, entry.object);
            }
            EntryKind::Refused => {
                self.accepted.get(&entry.slot).map(|descriptor| self.open.remove(descriptor));
            }
            EntryKind::Closed => {
                self.of.remove(&key).map(|descriptor| self.open.remove(&descriptor));
            }
            _ => {}
        }
    }

    /// The timeout of `epoll_wait(2)`: rounded up, so that a poll does not end before a deadline.
    fn wait_milliseconds(&self) -> i64 {
        if self.wait == u64::MAX { -1 } else { to_i64(self.wait.div_ceil(1_000_000)) }
    }
}

fn key_of(entry: &Entry) -> ObjectKey {
    (entry.object, entry.slot, entry.generation)
}

fn to_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
