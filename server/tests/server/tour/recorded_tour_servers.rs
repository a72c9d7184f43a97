//! Recordings of the servers of the tour: findings, kinds of entries, sizes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use support::process::child::Process;

use crate::HALLOO;
use crate::recording::recording_reader::Events;
use crate::tour::tour_servers::start;

/// The largest recording of a server, in bytes.
const RECORDING_BYTES_MAX: u64 = 10_000_000;

/// An attack ends after several times the patience of its client, at the latest.
const ATTACK_TIME_MAX: Duration = Duration::from_secs(90);

/// Kinds of entries that every server notes when it serves a client.
const KINDS_OF_ALL: [&str; 9] =
    ["poll-begin", "poll-end", "turn-end", "readiness", "accept", "opened", "registered", "read", "write"];

/// The cases that the right servers are recorded in. Case 8 has its own limit; in 5 and 10 much is noted.
const CASES_OF_RIGHT_SERVERS: [u8; 9] = [1, 2, 3, 4, 6, 7, 9, 11, 12];

/// Recordings at the same time.
const THREADS: usize = 6;

/// What a recording has.
struct Expected {
    /// The case of the twin.
    case: u8,
    /// The kind of the finding, if the mistake is one.
    finding: Option<&'static str>,
    /// Kinds of entries besides the common ones.
    kinds: &'static [&'static str],
}

/// What the recording of the twin of each case has.
const TWINS: [Expected; 12] = [
    Expected { case: 1, finding: Some("source-left-ready"), kinds: &[] },
    Expected {
        case: 2,
        finding: Some("source-left-ready"),
        kinds: &["receive-batch", "datagram-in", "send-batch", "datagram-out"],
    },
    Expected { case: 3, finding: Some("source-left-ready"), kinds: &[] },
    Expected { case: 4, finding: None, kinds: &[] },
    Expected { case: 5, finding: None, kinds: &[] },
    Expected { case: 6, finding: None, kinds: &[] },
    Expected { case: 7, finding: None, kinds: &["deregistered", "closed", "freed"] },
    Expected { case: 8, finding: Some("source-left-ready"), kinds: &[] },
    Expected { case: 9, finding: Some("stale-event-used"), kinds: &["message", "callback-begin", "callback-end"] },
    Expected { case: 10, finding: Some("loop-lag"), kinds: &["lost"] },
    Expected { case: 11, finding: Some("slow-callback"), kinds: &["callback-begin", "callback-end"] },
    Expected { case: 12, finding: None, kinds: &["datagram-in", "datagram-out"] },
];

/// Runs the hostile clients of cases against a server of the first, and returns the path of the recording.
#[track_caller]
fn record(cases: &[u8], server: &str, folder: &Path) -> PathBuf {
    let numbers: Vec<String> = cases.iter().map(u8::to_string).collect();
    let mut process = start(&numbers[0], server, folder);
    let address = process.tcp().to_string();
    let words: Vec<&str> =
        ["tour", "--against", &address].into_iter().chain(numbers.iter().map(String::as_str)).collect();
    let mut attack = Process::spawn(HALLOO.command(&words));
    let status = attack.wait_within(ATTACK_TIME_MAX);
    attack.wait_for_eof();
    let expected = if server == "twin" { 5 } else { 0 };
    assert_eq!(status, expected, "cases {cases:?}, {server}: {}", attack.stdout.text());
    process.close_stdin();
    process.wait();
    let path = folder.join(format!("tour-{:02}-{server}.json", cases[0]));
    let bytes = path.metadata().expect("a recording").len();
    assert!(bytes < RECORDING_BYTES_MAX, "cases {cases:?}, {server}: {bytes} bytes");
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

/// Fails unless a recording has entries of all these kinds.
#[track_caller]
fn assert_has_kinds<'a>(name: &str, recording: &Path, kinds: impl Iterator<Item = &'a &'a str>) {
    let events = Events::read(recording);
    for kind in kinds {
        assert!(!events.of_kind(kind).is_empty(), "{name}: no {kind}");
    }
}

#[track_caller]
fn assert_recorded(Expected { case, finding, kinds }: &Expected) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = record(&[*case], "twin", folder.path());
    let (name, found) = (format!("twin {case}"), findings(&path));
    assert_has_kinds(&name, &path, KINDS_OF_ALL.iter().chain(*kinds));
    assert!(finding.is_none_or(|finding| found.contains(finding)), "{name}: {found:?}");
}

#[test]
fn the_recording_of_each_twin_has_the_finding_and_the_entries_of_its_mistake() {
    let waiting = Mutex::new(TWINS.iter());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().expect("no thread panics with it").next_back();
                    let Some(twin) = next else { return };
                    assert_recorded(twin);
                }
            });
        }
    });
}

#[test]
fn the_recordings_of_the_right_servers_have_no_finding_of_a_mistake() {
    let runs = ["mio", "halloo"].map(|server| [(server, &CASES_OF_RIGHT_SERVERS[..]), (server, &[8][..])]);
    thread::scope(|scope| {
        // The recordings of case 10 are large: one right server is enough.
        for (server, cases) in runs.into_iter().flatten().chain([("halloo", &[10][..])]) {
            scope.spawn(move || {
                let twins = TWINS.iter().filter(|twin| cases.contains(&twin.case));
                let mut mistakes: BTreeSet<&str> = twins.filter_map(|twin| twin.finding).collect();
                // A busy machine interrupts any callback for longer than the threshold.
                mistakes.remove("slow-callback");
                let folder = tempfile::tempdir().expect("a temporary folder");
                let path = record(cases, server, folder.path());
                let (name, found) = (format!("{server}, cases {cases:?}"), findings(&path));
                assert_has_kinds(&name, &path, KINDS_OF_ALL.iter());
                assert!(!found.iter().any(|kind| mistakes.contains(kind.as_str())), "{name}: {found:?}");
            });
        }
    });
}
