//! Compares entries of a loop with the system calls of its thread.
//!
//! A call is compared if it is a poll, or about an open socket of the loop. So the sockets of other code, the waker and
//! the opening of sockets are left out. Calls that start or end the merging of datagrams are, too. Queries such as
//! `getsockname(2)` change nothing, and are not traced.

use std::collections::BTreeMap;

use halloo::observe::{Entry, EntryKind, Object};
use nix::errno::Errno;

use crate::recordings::noted_calls::Descriptors;
use crate::recordings::strace_calls::{Call, parse_calls};

/// How often an entry of each kind had each call and outcome: `accept: accept4 EMFILE`, `read: recvfrom 0`.
pub(crate) type Outcomes = BTreeMap<String, usize>;

/// Compares in order. None may be missing, none may be extra, and none may differ.
pub(crate) fn compare(entries: &[Entry], calls: &[Call]) -> Result<Outcomes, String> {
    let (mut descriptors, mut outcomes) = (Descriptors::default(), Outcomes::new());
    // Before its first poll the server opens its sockets.
    let mut calls = calls.iter().skip_while(|call| !is_poll(call)).filter(|call| !call.is_about_merging());
    let (mut before, mut events) = (Vec::new(), 0);
    for (index, entry) in entries.iter().enumerate() {
        if let Some(noted) = descriptors.call_of(&entries[index..]) {
            // The first noted call about a descriptor may come before its socket counts as open.
            let seen = calls.find(|call| is_poll(call) || descriptors.has(call) || noted.is(call));
            let Some(seen) = seen.filter(|seen| noted.is(seen)) else {
                let seen = seen.map_or("no further call".to_owned(), ToString::to_string);
                let before = before.iter().rev().take(8).rev().map(|call| format!("\n  {call}"));
                let before: String = before.collect();
                return Err(format!("entry {index} {entry:?}\nnames {noted:?}\nstrace saw {seen}\nafter{before}"));
            };
            *outcomes.entry(format!("{}: {}", entry.kind, outcome_of(seen))).or_default() += 1;
            before.push(seen);
            descriptors.open(&noted, entry.object);
        }
        descriptors.update(entry);
        match entry.kind {
            EntryKind::Lost => return Err(format!("entries were lost: {entry:?}")),
            EntryKind::PollEnd => events += entry.numbers[0],
            EntryKind::Readiness | EntryKind::StaleEvent if events == 0 => {
                return Err(format!("entry {index} {entry:?} is an event more than the polls returned"));
            }
            EntryKind::Readiness | EntryKind::StaleEvent => events -= 1,
            EntryKind::TurnEnd if events > 0 => return Err(format!("entry {index}: {events} events were not noted")),
            _ => {}
        }
    }
    match calls.find(|call| is_poll(call) || descriptors.has(call)) {
        Some(call) => Err(format!("no entry names {call}")),
        None => Ok(outcomes),
    }
}

fn is_poll(call: &Call) -> bool {
    call.name.starts_with("epoll_") && call.name != "epoll_ctl"
}

fn outcome_of(call: &Call) -> String {
    let name = &call.name;
    match call.result {
        Ok(0) => format!("{name} 0"),
        Ok(_) => format!("{name} ok"),
        Err(errno) => format!("{name} {:?}", Errno::from_raw(errno)),
    }
}

/// Fails unless each of these outcomes was seen.
#[track_caller]
pub(crate) fn assert_seen(outcomes: &Outcomes, expected: &[&str]) {
    for outcome in expected {
        assert!(outcomes.keys().any(|seen| seen.ends_with(outcome)), "no {outcome} in {outcomes:#?}");
    }
}

#[test]
fn a_call_that_is_missing_or_extra_or_has_another_result_is_found() {
    let entry = |kind, object, slot| Entry::new(kind, object, slot, 1);
    let would_block = std::io::Error::from(Errno::EAGAIN);
    let entries = [
        entry(EntryKind::Existing, Object::Listener, 0).numbers([7, 0]),
        entry(EntryKind::PollBegin, Object::Loop, 0).numbers([1_000_001, 0]),
        entry(EntryKind::PollEnd, Object::Loop, 0).numbers([1, 0]),
        entry(EntryKind::Readiness, Object::Listener, 0),
        entry(EntryKind::Accept, Object::Listener, 0).numbers([9, 0]),
        entry(EntryKind::Opened, Object::Connection, 3).numbers([9, 0]),
        entry(EntryKind::Read, Object::Connection, 3).numbers([0, 64]).error(&would_block),
        entry(EntryKind::Closed, Object::Connection, 3),
        entry(EntryKind::TurnEnd, Object::Loop, 0),
    ];
    let lines = [
        "setsockopt(7, 0x1, 0x2, [1], 4) = 0",
        "epoll_wait(5, [...], 1024, 2) = 1",
        "accept4(7, {...}, [128 => 16], 0x80800) = 9",
        "recvfrom(8, \"\"..., 64, 0, NULL, NULL) = 4",
        "recvfrom(9, 0x1, 64, 0, NULL, NULL) = -1 EAGAIN (Resource temporarily unavailable)",
        "close(9) = 0",
        "write(9, \"\"..., 1) = 1",
    ];
    let compare_lines = |lines: &[&str]| compare(&entries, &parse_calls(&lines.join("\n")));
    let outcomes = compare_lines(&lines).expect("they are equal");
    assert_eq!(
        outcomes.keys().map(String::as_str).collect::<Vec<_>>(),
        ["accept: accept4 ok", "closed: close 0", "poll-end: epoll_wait ok", "read: recvfrom EAGAIN"]
    );
    // All but those that the entries do not name: before the first poll, of another socket, after the close.
    for missing in [1, 2, 4, 5] {
        let mut lines = lines.to_vec();
        lines.remove(missing);
        compare_lines(&lines).expect_err(lines[missing]);
    }
    let others = [
        (1, "epoll_wait(5, [...], 1024, 1) = 1"),
        (1, "epoll_wait(5, [...], 1024, 2) = 2"),
        (2, "accept4(7, {...}, [128 => 16], 0x80800) = 8"),
        (4, "recvfrom(9, 0x1, 65, 0, NULL, NULL) = -1 EAGAIN (Resource temporarily unavailable)"),
        (4, "recvfrom(9, 0x1, 64, 0, NULL, NULL) = -1 EINTR (Interrupted system call)"),
        (4, "recvfrom(9, \"\"..., 64, 0, NULL, NULL) = 0"),
        (5, "close(9) = 0\nepoll_wait(5, [], 1024, 0) = 0"),
        (5, "shutdown(9, 0x1) = 0\nclose(9) = 0"),
        (5, "read(9, \"\"..., 64) = 1\nclose(9) = 0"),
        (6, "setsockopt(7, 0x1, 0xd, {...}, 8) = 0"),
    ];
    for (index, other) in others {
        let mut lines = lines;
        lines[index] = other;
        compare_lines(&lines).expect_err(other);
    }
}
