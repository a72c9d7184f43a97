//! `halloo view`: its output, exit statuses, and files that are no recordings.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use halloo::observe::{Callback, Entry, EntryKind, LoopRecording, Object, Recording};
use support::network::streams::GREETING;
use support::network::tcp::request;
use support::process::child::{ProcessOutput, run};
use support::process::server::assert_fails;

use crate::HALLOO;
use crate::recording::recording_reader::RecordingPath;

fn view(path: &RecordingPath) -> ProcessOutput {
    HALLOO.run(&["view", "--findings", &path.text()])
}

/// A recording of one callback.
pub(crate) fn recording(callback_time: Duration) -> Recording {
    let poll = |kind, milliseconds| Entry::new(kind, Object::Loop, 0, 0).at(Duration::from_millis(milliseconds));
    let end = Duration::from_millis(2) + callback_time;
    let callback =
        |kind, time| Entry::new(kind, Object::Connection, 3, 17).numbers([Callback::Data as u64, 5]).at(time);
    let mut part = LoopRecording::default();
    part.name = String::from("worker 1");
    part.entries = vec![
        poll(EntryKind::PollBegin, 1).numbers([u64::MAX, 0]),
        poll(EntryKind::PollEnd, 2).numbers([1, 0]),
        callback(EntryKind::CallbackBegin, Duration::from_millis(2)),
        callback(EntryKind::CallbackEnd, end),
        Entry::new(EntryKind::TurnEnd, Object::Loop, 0, 0).at(end).numbers([1, 0]),
    ];
    let mut recording = Recording::default();
    recording.loops.push(part);
    recording
}

#[test]
fn a_healthy_recording_is_exit_status_0() {
    let path = RecordingPath::new();
    recording(Duration::from_millis(1)).save(path.path()).expect("a new file");
    let output = view(&path);
    assert_eq!((output.status, output.stdout.as_str()), (0, "findings=0 entries=5 lost=0 loops=1\n"), "{output:?}");
}

#[test]
fn findings_are_one_line_each_and_exit_status_5() {
    let path = RecordingPath::new();
    recording(Duration::from_secs(2)).save(path.path()).expect("a new file");
    let output = view(&path);
    assert_eq!((output.status, output.stderr.as_str()), (5, ""), "{output:?}");
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert!(lines.len() == 2 && lines[0].contains("slow-callback: on_data of connection 3 took 2.0 s"), "{lines:?}");
    assert_eq!(lines[1], "findings=1 entries=5 lost=0 loops=1");
    // From standard input.
    let mut command = HALLOO.command(&["view", "--findings", "-"]);
    command.stdin(Stdio::from(fs::File::open(path.path()).expect("a file")));
    assert_eq!(run(command).stdout, output.stdout);
    // A variable stands for the flag.
    let mut command = HALLOO.command(&["view", &path.text()]);
    command.env("HALLOO_VIEW_FINDINGS", "yes").env("HALLOO_VIEW_FINDNIGS", "yes");
    let with_variable = run(command);
    assert_eq!((with_variable.status, &with_variable.stdout), (5, &output.stdout));
    assert!(with_variable.stderr.contains("did you mean HALLOO_VIEW_FINDINGS?"), "{with_variable:?}");
}

#[test]
fn a_recording_of_a_server_is_read_whole() {
    let path = RecordingPath::new();
    let mut server = HALLOO.start(&["--listen", "127.0.0.1:0", "--record", &path.text(), "--workers", "2"]);
    assert_eq!(request(server.tcp()), GREETING);
    server.assert_exits_on_sigterm();
    let line = server.stderr.wait_for_line("recording written to ");
    let entries = line.split_once(" entries=").expect("their number").1.split(' ').next().expect("a word").to_owned();
    let output = view(&path);
    // On a busy machine a turn may be late, which is a finding.
    assert!([0, 5].contains(&output.status), "{output:?}");
    assert!(output.stdout.ends_with(&format!(" entries={entries} lost=0 loops=2\n")), "{line}: {output:?}");
}

#[test]
fn a_file_that_is_no_whole_recording_is_exit_status_3_with_the_cause() {
    let path = RecordingPath::new();
    let mut whole = Vec::new();
    recording(Duration::from_secs(2)).write_to(&mut whole).expect("memory");
    let whole = String::from_utf8(whole).expect("ASCII");
    let lines = whole.lines().count();
    let first_lines = |count: usize| whole.split_inclusive('\n').take(count).collect::<String>();
    let later = whole.replacen("\"version\":1", "\"version\":7", 1);
    for (text, part) in [
        (String::new(), "it is empty; record again"),
        ("{}\n".to_owned(), "line 1 is not the first line of a recording; name a file"),
        ("{\"traceEvents\":[]}".to_owned(), "line 1 is not the first line of a recording"),
        ("\u{0}\u{1}\u{2}".to_owned(), "line 1 is not the first line of a recording"),
        ("<!DOCTYPE html>\n".to_owned(), "it is an HTML page; open it in a browser, or name a JSON file"),
        (whole[..20].to_owned(), "line 1 is not the first line of a recording"),
        (later, "it has version 7 of the format, and this halloo reads version 1; use a newer halloo"),
        (whole[..whole.len() - 40].to_owned(), "it is cut off after line "),
        (first_lines(lines - 1), "it is cut off after line "),
        (first_lines(lines - 3), "it is cut off after line "),
        (format!("{whole}{whole}"), "is no event of a recording: it is behind the end"),
        (whole.replacen("poll-end", "poll-dance", 1), "is no event of a recording: the kind poll-dance is unknown"),
        (whole.replacen("poll-end", "poll\\u001b[2J", 1), r"the kind poll\x1b[2J is unknown"),
        (whole.replacen("\"events\":1,", "", 1), "is no event of a recording: events is missing"),
        (whole.replacen("\"events\":1,", "\"events\":-1,", 1), "events has the wrong value -1"),
        (whole.replacen("\"events\":1,", "\"events\":1 ", 1), "is no event of a recording: invalid JSON in column "),
    ] {
        fs::write(path.path(), &text).expect("a new file");
        assert_fails(&view(&path), 3, &["cannot read ", "run.json: ", part]);
    }
}

#[test]
fn a_file_that_cannot_be_opened_is_exit_status_3() {
    let path = RecordingPath::new();
    assert_fails(&view(&path), 3, &["run.json: no such file or directory; write the path of a file that halloo"]);
    let folder = path.path().parent().expect("a folder").to_str().expect("a plain path").to_owned();
    assert_fails(&HALLOO.run(&["view", "--findings", &folder]), 3, &["is a directory", "; "]);
    assert_fails(&HALLOO.run(&["view", "--findings", "-"]), 3, &["cannot read standard input: it is empty"]);
}

#[test]
fn the_command_line_of_view_is_checked() {
    for (arguments, parts) in [
        (
            &["view", "run.json"][..],
            &["nothing to do without --findings or --html", "view --findings FILE", "view FILE --html OUT"][..],
        ),
        (&["view", "--findings"], &["the <FILE> of the recording is missing", "halloo view --findings run.json"]),
        (
            &["view", "--findigns", "run.json"],
            &["unknown flag --findigns; did you mean --findings? halloo view --help"],
        ),
        (&["view", "--findings", "a", "b"], &["unexpected argument b: one recording is read"]),
        (&["view", "a", "b.HTML"], &["unexpected argument b.HTML: a page is written with a flag; write --html b.HTML"]),
        (&["view", "a", "--html"], &["a value is required for --html; write --html run.html"]),
        (&["view", "a", "--html", "-x"], &["'-x' for --html: ", "write ./-x for a file of that name"]),
        (
            &["view", "a", "--html", "-", "--findings"],
            &["--findings contradicts --html -: both write to standard output; leave one of the two out"],
        ),
        (&["--html", "a"], &["--html is a flag of halloo view; halloo --help lists those of serve"]),
        (&["view", "--findings", "a", "9000"], &["unexpected argument 9000: one recording is read"]),
        (&["view", "--port", "a"], &["unknown flag --port; halloo view --help lists all flags"]),
        (
            &["view", "--expect", "a", "b"],
            &["--expect is a flag of halloo probe; halloo view --help lists those of view"],
        ),
        (&["view", "--record", "a"], &["--record is a flag of halloo serve; halloo view --help lists those of view"]),
        (&["--findings"], &["--findings is a flag of halloo view; halloo --help lists those of serve"]),
        (&["probe", "1", "--findings"], &["--findings is a flag of halloo view; halloo probe --help"]),
        (&["probe", "1", "--record", "a"], &["--record is a flag of halloo serve; halloo probe --help"]),
        (&["veiw", "a"], &["unknown command veiw; did you mean view?"]),
        (&["--recrod", "a"], &["unknown flag --recrod; did you mean --record?"]),
        (&["--record"], &["a value is required for --record; write --record run.json"]),
        (&["--record", "--tcp"], &["a value is required for --record, but --tcp is a flag; write --record run.json"]),
        (&["--record-memory", "9"], &["'9' for --record-memory", "KiB, MiB or GiB"]),
        (&["--record-memory", "9KiB"], &["'9KiB' for --record-memory: too small; write at least 1MiB"]),
        (&["--record-payload", "65537"], &["for --record-payload: write a whole number from 0 to 65536"]),
    ] {
        assert_fails(&HALLOO.run(arguments), 2, parts);
    }
}
