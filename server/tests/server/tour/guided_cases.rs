//! `halloo tour 6`: a case with the mistake and without it.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use support::process::child::{Process, children_of, run};
use support::process::server::assert_fails;
use support::wait::{wait_for, wait_until};

use crate::HALLOO;
use crate::tour::{assert_fits, command_in, files_in};

#[test]
fn a_case_shows_the_failure_the_right_server_the_lines_the_reasons_and_its_recordings() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = run(command_in(folder.path(), &["tour", "6"]));
    assert_eq!((output.status, output.stderr.as_str()), (0, ""), "{output:?}");
    assert_fits(&output.stdout);
    let mut rest = output.stdout.as_str();
    for part in [
        "Case 6, fatal-reset: ",
        "With the mistake, on mio:\n  sent     ",
        "\n  came     ",
        "\n  then     the server has ended: connection reset by peer\n",
        "  verdict  FAIL",
        "Without it, on halloo's loop:\n  sent     ",
        "\n  verdict  pass\n",
        "The broken lines (server/src/tour/cases/fatal_reset.rs):\n",
        "Err(error)\n",
        "The right lines (server/src/tour/mio_server/rules.rs):\n",
        "server.close(key, CloseReason::Reset);\n",
        "\n`halloo tour 6 --serve mio` runs these lines; halloo's loop ",
        "\nRead:\n",
        "\nRecordings:\n  tour-06-twin.json\n",
        "\n  tour-06-halloo.json\n",
        "\n  halloo view tour-06-twin.json --html tour-06-twin.html\n",
        "  halloo view tour-06-halloo.json --html tour-06-halloo.html\n",
    ] {
        let (_, after) = rest.split_once(part).unwrap_or_else(|| panic!("{part:?} is not in: {rest}"));
        rest = after;
    }
    let names = ["tour-06-halloo.json", "tour-06-twin.json"];
    assert_eq!(files_in(folder.path()), names);
    for name in names {
        let output = run(command_in(folder.path(), &["view", name, "--html", &name.replace("json", "html")]));
        assert_eq!(output.status, 0, "{output:?}");
    }
}

#[test]
fn the_findings_of_both_recordings_are_printed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = run(command_in(folder.path(), &["tour", "1"]));
    assert_eq!(output.status, 0, "{output:?}");
    let (_, recordings) = output.stdout.split_once("\nRecordings:\n").expect("they are named");
    assert!(recordings.starts_with("  tour-01-twin.json\n    source-left-ready: listener "), "{recordings}");
    assert!(recordings.contains("\n  tour-01-halloo.json\n    no findings\n"), "{recordings}");
}

#[test]
fn several_cases_run_by_number_or_name_each_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = run(command_in(folder.path(), &["tour", "accept-once", "6", "1", "--json", "--save", "."]));
    assert_eq!(output.status, 0, "{output:?}");
    let objects: Vec<Value> =
        output.stdout.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    let numbers: Vec<u64> = objects.iter().map(|case| case["case"].as_u64().expect("a number")).collect();
    assert_eq!(numbers, [1, 6]);
    for case in &objects {
        assert_eq!((&case["twin"]["verdict"], &case["halloo"]["verdict"]), (&"fail".into(), &"pass".into()), "{case}");
        let name = case["twin"]["recording"].as_str().expect("a path");
        assert!(folder.path().join(name).is_file() && case["read"].is_array(), "{case}");
    }
    let finding = objects[0]["twin"]["findings"][0].as_str().expect("a finding");
    assert!(finding.contains("source-left-ready"), "{finding}");
    assert_eq!(files_in(folder.path()).len(), 4);
}

#[test]
fn with_html_the_recordings_are_pages_in_the_folder_of_save() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::create_dir(folder.path().join("a folder")).expect("a folder");
    let output = run(command_in(folder.path(), &["tour", "6", "--html", "--save", "a folder"]));
    assert_eq!(output.status, 0, "{output:?}");
    assert!(output.stdout.contains("  a folder/tour-06-twin.html\n"), "{output:?}");
    assert_eq!(files_in(folder.path()), ["a folder"]);
    assert_eq!(files_in(&folder.path().join("a folder")), ["tour-06-halloo.html", "tour-06-twin.html"]);
    let page = fs::read_to_string(folder.path().join("a folder/tour-06-twin.html")).expect("a page");
    assert!(page.starts_with("<!") && page.contains("tour-06-twin.html"), "{}", &page[..200]);
    // The path of a command is one word of a shell.
    let output = run(command_in(folder.path(), &["tour", "6", "--save", "a folder"]));
    let command = "halloo view 'a folder/tour-06-twin.json' --html 'a folder/tour-06-twin.html'\n";
    assert!(output.stdout.contains(command), "{output:?}");
}

#[test]
fn an_older_recording_is_replaced_only_by_a_whole_one() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("tour-06-twin.json");
    fs::write(&path, "old").expect("a new file");
    // Too small for a recording, as a full disk is.
    let script = "ulimit -f 1; exec \"$0\" \"$@\"";
    let mut command = HALLOO.command_under(&["sh", "-c", script], &["tour", "6"]);
    let output = run(std::mem::replace(command.current_dir(folder.path()), HALLOO.command(&[])));
    assert_eq!(output.status, 1, "{output:?}");
    let parts = ["case 6 left no recording: cannot write", "tour-06-twin.json: file too large; "];
    assert!(parts.iter().all(|part| output.stderr.contains(part)), "{output:?}");
    assert!(output.stderr.lines().count() == 1 && !output.stderr.contains(".halloo-tour"), "{output:?}");
    assert_eq!(files_in(folder.path()), ["tour-06-twin.json"]);
    assert_eq!(fs::read_to_string(&path).expect("a file"), "old");
    let output = run(command_in(folder.path(), &["tour", "6"]));
    assert_eq!(output.status, 0, "{output:?}");
    assert!(fs::read_to_string(&path).expect("a file").contains("traceEvents"));
}

#[test]
fn a_folder_that_cannot_be_written_is_an_error_before_anything_runs() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::create_dir(folder.path().join("tour-11-halloo.json")).expect("a folder");
    for (arguments, parts) in [
        (
            &["tour", "6", "--save", "missing"][..],
            &[
                "cannot write recordings to missing: no such file or directory; create this folder, or choose another with",
            ][..],
        ),
        (
            &["tour", "6", "--save", "/dev/null"],
            &["to /dev/null: not a directory; create this folder", "--save FOLDER"],
        ),
        (&["tour", "6", "11"], &["tour-11-halloo.json: it is a folder"]),
    ] {
        assert_fails(&run(command_in(folder.path(), arguments)), 3, parts);
    }
    assert_eq!(files_in(folder.path()), ["tour-11-halloo.json"]);
}

#[test]
fn a_server_that_does_not_behave_as_expected_is_exit_status_5() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    // Too few descriptors for the clients.
    let mut command = HALLOO.command_with_fd_limits(20, 20, &["tour", "1"]);
    command.current_dir(folder.path());
    let output = run(command);
    assert_eq!(output.status, 5, "{output:?}");
    assert!(output.stdout.contains("verdict  cannot be judged\n"), "{output:?}");
    assert!(output.stdout.contains("files, the limit is 20; raise the limit with ulimit -n"), "{output:?}");
}

#[test]
fn colours_are_for_terminals_without_no_color() {
    for no_colour in ["", "1"] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let terminal = openpty(None, None).expect("a terminal");
        let mut command = HALLOO.command(&["tour", "6"]);
        command.current_dir(folder.path()).env("TERM", "xterm").env("NO_COLOR", no_colour);
        command.stdout(Stdio::from(terminal.slave));
        let mut process = Process::spawn(command);
        let mut printed = Vec::new();
        // When the last process has closed the terminal, a read fails (EIO).
        let _ = fs::File::from(terminal.master).read_to_end(&mut printed);
        assert_eq!(process.wait(), 0);
        let printed = String::from_utf8_lossy(&printed);
        let has_colours = printed.contains("\x1b[31mFAIL\x1b[0m") && printed.contains("\x1b[32mpass\x1b[0m");
        assert_eq!((has_colours, printed.contains('\x1b')), (no_colour.is_empty(), no_colour.is_empty()), "{printed}");
    }
}

#[test]
fn a_killed_server_is_one_clear_sentence_and_leaves_no_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    // This twin has a client that waits for 2 s.
    let mut tour = Process::spawn(command_in(folder.path(), &["tour", "1"]));
    let twin = wait_for("the process of the twin", || children_of(tour.pid()).first().copied());
    signal(twin, Signal::SIGKILL);
    assert_eq!(tour.wait(), 1, "{}", tour.stderr.text());
    tour.wait_for_eof();
    let error = tour.stderr.text();
    let is_clear = error.contains("twin of case 1") && error.contains("SIGKILL") && error.lines().count() == 1;
    assert!(is_clear, "{error}");
    assert_eq!(files_in(folder.path()), [""; 0]);
}

/// Fails unless a tour ends with this error, and with its server.
#[track_caller]
fn assert_ends_with(mut tour: Process, twin: u32, part: &str) {
    assert_eq!(tour.wait_within(Duration::from_secs(60)), 1, "{}", tour.stderr.text());
    tour.wait_for_eof();
    let error = tour.stderr.text();
    assert!(error.contains(part) && error.lines().count() == 1, "{error}");
    assert!(!Path::new(&format!("/proc/{twin}")).exists(), "the twin is left");
}

#[test]
fn a_server_that_hangs_or_does_not_start_is_killed_after_a_deadline() {
    // Both deadlines at the same time.
    let start = || {
        let folder = tempfile::tempdir().expect("a temporary folder");
        // Its clients wait for 2 s.
        let tour = Process::spawn(command_in(folder.path(), &["tour", "4"]));
        let twin = wait_for("the process of the twin", || children_of(tour.pid()).first().copied());
        (folder, tour, twin)
    };
    let (first_folder, starting, first) = start();
    signal(first, Signal::SIGSTOP);
    let (second_folder, serving, second) = start();
    // Two sockets are for signals.
    wait_until("the clients of the twin", || {
        serving.fd_targets().iter().filter(|target| target.to_string_lossy().starts_with("socket:")).count() > 2
    });
    signal(second, Signal::SIGSTOP);
    // On a busy machine it has started before.
    assert_ends_with(starting, first, "within ");
    assert_ends_with(serving, second, "left no recording: it did not end within 6s and was killed");
    for folder in [first_folder, second_folder] {
        assert_eq!(files_in(folder.path()), [""; 0]);
    }
}

#[track_caller]
fn signal(process: u32, signal: Signal) {
    let pid = Pid::from_raw(process.try_into().expect("a process id"));
    kill(pid, signal).expect("it runs");
}

#[test]
fn one_finding_of_each_kind_is_printed_and_the_rest_are_counted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = run(command_in(folder.path(), &["tour", "11"]));
    assert_eq!(output.status, 0, "{output:?}");
    let findings = run(command_in(folder.path(), &["view", "--findings", "tour-11-twin.json"])).stdout;
    let count = findings.matches(" slow-callback: ").count();
    assert!(count > 1, "{findings}");
    assert_eq!(output.stdout.matches("\n    slow-callback: ").count(), 1, "{output:?}");
    let text = output.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains(&format!("(and {} more of this kind)", count - 1)), "{output:?}");
}
