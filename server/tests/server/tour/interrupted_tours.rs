//! A tour that ends early leaves no process and no file.

use std::io::Read;
use std::path::Path;
use std::process::Stdio;

use nix::sys::signal::Signal;
use support::process::child::{Process, children_of};
use support::wait::{wait_for, wait_until};

use crate::tour::{command_in, files_in};

/// Whether a process exists, zombies included.
fn exists(process: u32) -> bool {
    Path::new(&format!("/proc/{process}")).exists()
}

#[test]
fn a_signal_ends_the_tour_and_its_server_and_removes_what_is_unfinished() {
    for (name, signal) in
        [("INT", Signal::SIGINT), ("TERM", Signal::SIGTERM), ("HUP", Signal::SIGHUP), ("QUIT", Signal::SIGQUIT)]
    {
        let folder = tempfile::tempdir().expect("a temporary folder");
        // A client of this twin waits for 2 s.
        let mut tour = Process::spawn(command_in(folder.path(), &["tour", "1"]));
        let twin = wait_for("the process of the twin", || children_of(tour.pid()).first().copied());
        tour.signal(name);
        assert_eq!(tour.wait_for_signal(), Some(signal));
        assert!(!exists(twin), "the twin is left after SIG{name}");
        assert_eq!(files_in(folder.path()), [""; 0]);
    }
}

#[test]
fn a_tour_between_two_servers_can_be_interrupted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut tour = Process::spawn(command_in(folder.path(), &["tour", "6", "1", "11"]));
    tour.stdout.wait_for_text("Case 1, ");
    tour.signal("TERM");
    assert_eq!(tour.wait_for_signal(), Some(Signal::SIGTERM));
    // The first case is complete.
    assert_eq!(files_in(folder.path()), ["tour-06-halloo.json", "tour-06-twin.json"]);
}

#[test]
fn a_reader_that_closes_the_pipe_ends_the_tour() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = command_in(folder.path(), &["tour", "11", "1", "6"]);
    command.stderr(Stdio::null());
    let mut child = command.spawn().expect("the program starts");
    let mut stdout = child.stdout.take().expect("a pipe");
    stdout.read_exact(&mut [0; 4]).expect("the first line");
    drop(stdout);
    let mut children = children_of(child.id());
    wait_until("the end of the tour", || {
        children.extend(children_of(child.id()));
        child.try_wait().expect("a child").is_some()
    });
    assert_eq!(child.wait().expect("a child").code(), Some(0));
    assert!(!children.into_iter().any(exists), "a server is left");
    // Its recordings were not named.
    assert_eq!(files_in(folder.path()), [""; 0]);
}

#[test]
fn a_full_standard_output_ends_the_tour_with_an_error() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = command_in(folder.path(), &["tour", "6"]);
    command.stdout(std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it"));
    let mut tour = Process::spawn(command);
    assert_eq!(tour.wait(), 1);
    tour.wait_for_eof();
    let error = tour.stderr.text();
    assert!(error.starts_with("halloo: cannot write to standard output: no space left on device"), "{error}");
    assert_eq!(files_in(folder.path()), [""; 0]);
}
