//! Recordings of the servers of the tour: findings, kinds of entries, sizes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use support::process::child::Process;

use crate::HALLOO;
use crate::recording::recording_reader::Events;
use crate::tour::tour_servers::{SERVERS, start};

/// The largest recording of a server, in bytes.
const RECORDING_BYTES_MAX: u64 = 10_000_000;

/// An attack ends after several times the patience of its client, at the latest.
const ATTACK_TIME_MAX: Duration = Duration::from_secs(90);

/// Kinds of entries that every server notes when it serves a client.
const KINDS_OF_ALL: [&str; 9] =
    ["poll-begin", "poll-end", "turn-end", "readiness", "accept", "opened", "registered", "read", "write"];

/// Runs the hostile client of a case against one of its servers, and returns the path of the recording.
#[track_caller]
fn record(case: u8, server: &str, folder: &Path) -> PathBuf {
    let number = case.to_string();
    let mut process = start(&number, server, folder);
    let address = process.tcp().to_string();
    let mut attack = Process::spawn(HALLOO.command(&["tour", &number, "--against", &address]));
    let status = attack.wait_within(ATTACK_TIME_MAX);
    attack.wait_for_eof();
    let expected = if server == "twin" { 5 } else { 0 };
    assert_eq!(status, expected, "case {case}, {server}: {}", attack.stdout.text());
    process.close_stdin();
    process.wait();
    let path = folder.join(format!("tour-{case:02}-{server}.json"));
    let bytes = path.metadata().expect("a recording").len();
    assert!(bytes < RECORDING_BYTES_MAX, "case {case}, {server}: {bytes} bytes");
    path
}

/// The kinds of the findings in a recording.
#[track_caller]
fn findings(recording: &Path) -> BTreeSet<String> {
    let output = HALLOO.run(&["view", "--findings", recording.to_str().expect("a plain path")]);
    assert!([0, 5].contains(&output.status), "{output:?}");
    let lines = output.stdout.lines().filter_map(|line| line.split_once(" entry "));
    lines.map(|(_, rest)| rest.split([' ', ':']).nth(1).expect("the kind").to_owned()).collect()
}

/// Fails unless the recording of the broken server of a case has this finding and these kinds of entries, and those of
/// the right servers have the same common kinds and no such finding.
#[track_caller]
fn assert_recorded(case: u8, finding: Option<&str>, kinds: &[&str]) {
    assert_recorded_of(&SERVERS, case, finding, kinds);
}

#[track_caller]
fn assert_recorded_of(servers: &[&str], case: u8, finding: Option<&str>, kinds: &[&str]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for &server in servers {
        let path = record(case, server, folder.path());
        let (found, events) = (findings(&path), Events::read(&path));
        let is_common = |kind: &&&str| server == "twin" || KINDS_OF_ALL.contains(kind);
        for kind in KINDS_OF_ALL.iter().chain(kinds).filter(is_common) {
            assert!(!events.of_kind(kind).is_empty(), "case {case}, {server}: no {kind}");
        }
        if let Some(finding) = finding {
            assert_eq!(found.contains(finding), server == "twin", "case {case}, {server}: {found:?}");
        }
    }
}

#[test]
fn a_listener_that_is_left_with_clients_is_found() {
    assert_recorded(1, Some("source-left-ready"), &[]);
}

#[test]
fn a_udp_socket_that_is_left_with_datagrams_is_found() {
    assert_recorded(2, Some("source-left-ready"), &["receive-batch", "datagram-in", "send-batch", "datagram-out"]);
}

#[test]
fn a_connection_that_is_left_with_input_is_found() {
    assert_recorded(3, Some("source-left-ready"), &[]);
}

#[test]
fn an_eof_without_a_close_is_recorded() {
    assert_recorded(4, None, &[]);
}

#[test]
fn a_write_that_was_accepted_in_part_is_recorded() {
    assert_recorded(5, None, &[]);
}

#[test]
fn the_error_that_ends_a_server_is_recorded() {
    assert_recorded(6, None, &[]);
}

#[test]
fn a_close_after_a_half_close_is_recorded() {
    assert_recorded(7, None, &["deregistered", "closed", "freed"]);
}

#[test]
fn a_listener_that_is_forgotten_without_a_descriptor_is_found() {
    assert_recorded(8, Some("source-left-ready"), &[]);
}

#[test]
fn a_result_for_the_client_that_had_the_slot_before_is_found() {
    assert_recorded(9, Some("stale-event-used"), &["message", "callback-begin", "callback-end"]);
}

#[test]
fn a_turn_that_serves_one_client_without_end_is_found() {
    // Its recordings are large: one right server is enough.
    assert_recorded_of(&["twin", "halloo"], 10, Some("loop-lag"), &["lost"]);
}

#[test]
fn a_slow_handler_is_found() {
    assert_recorded(11, Some("slow-callback"), &["callback-begin", "callback-end"]);
}

#[test]
fn a_reply_over_udp_is_recorded_with_its_addresses() {
    assert_recorded(12, None, &["datagram-in", "datagram-out"]);
}
