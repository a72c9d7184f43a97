//! Files of `--record` that cannot be written, at the start and later.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::process::Command;

use support::network::streams::GREETING;
use support::network::tcp::request;
use support::process::child::run;
use support::process::server::{Server, assert_fails};
use support::wait::wait_until;

use crate::HALLOO;
use crate::recording::recording_reader::{Events, RecordingPath};

const TCP: &str = "--tcp=127.0.0.1:0";

#[test]
fn a_file_that_cannot_be_written_is_an_error_at_the_start() {
    let path = RecordingPath::new();
    fs::write(path.path(), "").expect("a new file");
    let folder = path.path().parent().expect("a folder").to_str().expect("a plain path").to_owned();
    for (file, parts) in [
        ("/nope/run.json".to_owned(), ["there is no folder /nope; create it", "another file with --record FILE"]),
        (folder.clone(), ["it is a folder", "name a file in it with --record FILE"]),
        (format!("{folder}/new/"), ["it is a folder", "name a file in it with --record FILE"]),
        (format!("{}/run.json", path.text()), ["not a directory", "is not a folder; choose another file"]),
        (
            "/proc/run.json".to_owned(),
            ["cannot write the recording to /proc/run.json: ", "another file with --record FILE"],
        ),
    ] {
        assert_fails(&HALLOO.run(&[TCP, "--record", &file]), 3, &parts);
    }
    let pipe = path.path().with_file_name("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    assert_fails(&HALLOO.run(&[TCP, "--record", pipe.to_str().expect("text")]), 3, &["it is a pipe, which blocks"]);
    fs::remove_file(&pipe).expect("it is there");
    let mut command = HALLOO.command(&[TCP]);
    command.env("HALLOO_RECORD", "/nope/run.json");
    assert_fails(&run(command), 3, &["/nope/run.json", "choose another file with HALLOO_RECORD=FILE"]);
    assert_fails(&HALLOO.run(&[TCP, "--record", "-"]), 2, &["'-' for --record", "write ./- for a file of that name"]);
    assert_eq!(path.files(), ["run.json"], "the checks leave no file");
}

#[test]
fn a_folder_that_may_not_be_written_is_an_error_at_the_start() {
    // Another user may be unable to enter the folder of the binary, so a copy is run.
    let path = RecordingPath::new();
    let folder = path.path().parent().expect("a folder").to_owned();
    let copy = folder.join("halloo");
    // A child of another test that starts now would inherit the descriptor of a copy made here: the file would be busy.
    let copied = Command::new("cp").arg(HALLOO.path()).arg(&copy).status().expect("cp is there");
    assert!(copied.success(), "no room for a copy");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).expect("it is our own");
    let copy = copy.to_str().expect("a plain path");
    let mut command =
        HALLOO.command_under(&["sh", "-c", "shift; exec \"$0\" \"$@\"", copy], &[TCP, "--record", &path.text()]);
    if fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0) {
        // Another user, without root's capabilities.
        command.uid(65_534);
    }
    assert_fails(&run(command), 3, &["permission denied: this user may not create a file in", "another file with"]);
}

#[test]
fn a_server_that_never_served_leaves_the_file_of_the_one_before() {
    let path = RecordingPath::new();
    fs::write(path.path(), "the recording before").expect("a new file");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let output = HALLOO.run(&["--tcp", &address, "--record", &path.text()]);
    assert_fails(&output, 3, &["address already in use"]);
    assert_eq!(fs::read_to_string(path.path()).expect("a file"), "the recording before");
}

#[test]
fn a_recording_replaces_the_file_behind_a_link() {
    let path = RecordingPath::new();
    let link = path.path().with_file_name("link.json");
    fs::write(path.path(), "the recording before").expect("a new file");
    symlink(path.path(), &link).expect("a new link");
    let mut server = HALLOO.start(&[TCP, "--record", link.to_str().expect("a plain path")]);
    assert_eq!(request(server.tcp()), GREETING);
    server.assert_exits_on_sigterm();
    assert!(fs::symlink_metadata(&link).expect("a link").is_symlink());
    assert_eq!(Events::read(&path.path()).of_kind("opened").len(), 1);
}

/// Fails unless an error of the file is a log line at SIGUSR2, and at the end an error with exit status 1.
#[track_caller]
fn assert_reports_errors(mut server: Server, part: &str) {
    assert_eq!(request(server.tcp()), GREETING);
    server.signal("USR2");
    let line = server.stderr.wait_for_line("cannot write ");
    assert!(line.contains(" ERROR ") && line.contains(part) && !line.contains("(os error"), "{line}");
    assert_eq!(request(server.tcp()), GREETING, "the server goes on");
    server.signal("USR2");
    server.stderr.wait_for_line("recording again");
    assert_eq!(request(server.tcp()), GREETING);
    server.signal("TERM");
    assert_eq!(server.wait(), 1);
    wait_until("standard error to end", || server.stderr.is_closed());
    let last = server.stderr.lines().pop().expect("a line");
    assert!(last.starts_with("halloo: cannot write ") && last.contains(part), "{last}");
}

#[test]
fn a_full_disk_is_a_log_line_and_at_the_end_exit_status_1() {
    let path = RecordingPath::new();
    fs::write(path.path(), "the recording before").expect("a new file");
    // A block, of 512 or 1024 bytes: a file system with as much room.
    let command =
        HALLOO.command_under(&["sh", "-c", "ulimit -f 1; exec \"$0\" \"$@\""], &[TCP, "--record", &path.text()]);
    assert_reports_errors(Server::start(command), "file too large");
    assert_eq!(path.files(), ["run.json"], "no part of a recording is left");
    assert_eq!(fs::read_to_string(path.path()).expect("a file"), "the recording before");
    assert_reports_errors(HALLOO.start(&[TCP, "--record", "/dev/full"]), "no space left on device");
}
