//! Paths of unix sockets: relative, with a NUL, or abstract; the mode.

use std::cell::RefCell;
use std::error::Error as _;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use halloo::{Connect, Context, ErrorKind, EventLoop, Listen, stream};

use crate::helpers::nonblocking_client::Client;
use crate::helpers::recording_handler::{Call, CallLog, RecordingHandler};
use crate::helpers::simple_handlers::{GREETING, greet};
use crate::helpers::turn_until::turn_until;

/// Set for the child process of the test of relative paths.
const IS_CHILD: &str = "HALLOO_TEST_RELATIVE_PATH";

/// The path is bound as it is given, so only the relative path must fit the 108 bytes of an address. The file is
/// removed from the folder in which it was made. A child process changes its working directory.
#[test]
fn a_relative_path_in_a_deep_folder_is_served_and_removed() {
    if std::env::var_os(IS_CHILD).is_some() {
        let relative = Path::new("listener.sock");
        let mut events = EventLoop::new().expect("a loop");
        events.listen(Listen::unix(relative), stream(greet)).expect("the relative path is short");
        let mut client = Client::connect_unix(relative);
        assert_eq!(client.request(&mut events, b"?", GREETING.len()), GREETING);
        let absolute = std::path::absolute(relative).expect("a working directory");
        std::env::set_current_dir("/").expect("a root directory");
        assert!(absolute.exists());
        drop(events);
        assert!(!absolute.exists(), "the file is removed from the folder where it was made");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let deep = folder.path().join("f".repeat(100)).join("g".repeat(100));
    fs::create_dir_all(&deep).expect("a folder");
    let test = "listening::unix_paths::a_relative_path_in_a_deep_folder_is_served_and_removed";
    let child = Command::new(std::env::current_exe().expect("this program"))
        .args([test, "--exact", "--nocapture"])
        .current_dir(&deep)
        .env(IS_CHILD, "")
        .output()
        .expect("the child starts");
    let output = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success() && output.contains("1 passed"),
        "{output}{}",
        String::from_utf8_lossy(&child.stderr)
    );
    assert_eq!(fs::read_dir(&deep).expect("the folder").count(), 0, "no file is left");
}

#[test]
fn the_error_of_a_too_long_path_contains_its_length_and_the_limit() {
    let (log, failures) = (CallLog::default(), RefCell::new(Vec::new()));
    let mut events = EventLoop::new().expect("a loop");
    let error = events.listen(Listen::unix("p".repeat(120)), stream(greet)).expect_err("the path is too long");
    let cause = error.source().expect("a cause").to_string();
    let most = if cfg!(target_os = "linux") { 107 } else { 103 };
    let expected =
        format!("invalid argument: the path of a unix socket has {most} bytes at most, and this one has 120");
    assert_eq!(cause, expected);
    let on_failure = |_: &mut Context, _, error: &io::Error| failures.borrow_mut().push(error.to_string());
    let handler = events.attach(RecordingHandler::new(&log).on_connect_failed(on_failure));
    events.context().connect(Connect::unix("p".repeat(120)), handler);
    turn_until(&mut events, "the failure", |_| !failures.borrow().is_empty());
    assert_eq!(*failures.borrow(), [expected]);
}

#[test]
fn a_nul_in_a_path_is_refused_and_creates_no_file() {
    let (folder, log) = (tempfile::tempdir().expect("a folder"), CallLog::default());
    let path = folder.path().join("before\0behind");
    let mut events = EventLoop::new().expect("a loop");
    let error = events.listen(Listen::unix(&path), stream(greet)).expect_err("the path contains a NUL");
    assert_eq!((error.kind(), fs::read_dir(folder.path()).expect("the folder").count()), (ErrorKind::InvalidOption, 0));
    let sentence = error.to_string();
    assert!(sentence.contains("NUL") && sentence.contains("before\\0behind"), "{sentence}");
    let _other_name = std::os::unix::net::UnixListener::bind(folder.path().join("before")).expect("a free path");
    let handler = events.attach(RecordingHandler::new(&log).on_connect_failed(|_, _, error| {
        assert!(error.to_string().contains("NUL"), "{error}");
    }));
    let id = events.context().connect(Connect::unix(&path), handler);
    turn_until(&mut events, "the failure", |_| !log.connect_errors().is_empty());
    assert_eq!(log.of(id), [Call::Failed(io::ErrorKind::InvalidInput)]);
}

#[cfg(target_os = "linux")]
#[test]
fn an_empty_abstract_name_is_refused() {
    let mut events = EventLoop::new().expect("a loop");
    let error = events.listen(Listen::unix("\0"), stream(greet)).expect_err("the name is empty");
    assert_eq!(error.kind(), ErrorKind::InvalidOption);
    assert!(error.to_string().contains("the abstract name is empty"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn an_abstract_name_can_be_listened_on_and_connected_to_and_is_displayed_with_an_at_sign() {
    let (folder, log) = (tempfile::tempdir().expect("a folder"), CallLog::default());
    let name = PathBuf::from(format!("\0{}/name", folder.path().display()));
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(Listen::unix(&name), stream(greet)).expect("a free name");
    let error = events.listen(Listen::unix(&name), stream(greet)).expect_err("the name is in use");
    let text = format!("cannot listen at @{}/name: Address already in use", folder.path().display());
    assert!(error.to_string().starts_with(&text), "{error}");
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::AddrInUse);
    let handler = events.attach(RecordingHandler::new(&log).on_open(|connection| connection.send(b"?").is_ok()));
    events.context().connect(Connect::unix(&name), handler);
    turn_until(&mut events, "the greeting", |_| !log.inputs().is_empty());
    assert_eq!(log.inputs().concat(), GREETING);
    assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 0, "an abstract name has no file");
    assert!(events.context().remove(listener));
    events.listen(Listen::unix(&name), stream(greet)).expect("the name is free");
}

#[test]
fn the_socket_file_has_the_requested_mode() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("listener.sock");
    let mode = || fs::symlink_metadata(&path).expect("the socket's file").permissions().mode() & 0o7777;
    for wanted in [0o600, 0o660, 0o777] {
        let mut events = EventLoop::new().expect("a loop");
        events.listen(Listen::unix(&path).unix_mode(wanted), stream(greet)).expect("a free path");
        assert_eq!(mode(), wanted);
        let mut client = Client::connect_unix(&path);
        assert_eq!(client.request(&mut events, b"?", GREETING.len()), GREETING);
    }
    let by_std = std::os::unix::net::UnixListener::bind(&path).expect("a free path");
    let default = mode();
    drop((by_std, fs::remove_file(&path)));
    let mut events = EventLoop::new().expect("a loop");
    events.listen(Listen::unix(&path), stream(greet)).expect("a free path");
    assert_eq!(mode(), default, "the mode is that of the umask");
    let error =
        events.listen(Listen::unix(&path).unix_mode(0o1777), stream(greet)).expect_err("0o1777 is not a permission");
    assert_eq!(error.kind(), ErrorKind::InvalidOption);
}
