//! Paths of unix sockets: stale files, bind errors, probes.
//!
//! A file that is not a stale socket is never removed.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::{Command, Stdio};

use support::network::streams::{GREETING, REQUEST, read_to_end, send};
use support::process::child::run;
use support::process::server::{Server, assert_fails};

use crate::HALLOO;
use crate::unix::temporary_socket_path::{SocketPath, connect_unix};

#[track_caller]
fn assert_command_fails(status: i32, arguments: &[&str], parts: &[&str]) {
    assert_fails(&HALLOO.run(arguments), status, parts);
}

// ---- paths that cannot be served ------------------------------------------------------------------------------------

#[test]
fn a_path_that_a_killed_server_has_left_is_served_again() {
    for workers in ["1", "2"] {
        let socket_path = SocketPath::new();
        drop(socket_path.start_server(&[]));
        assert!(socket_path.path.exists(), "it was killed");
        let mut server = socket_path.start_server(&["--workers", workers]);
        assert_eq!(socket_path.request(), GREETING);
        server.assert_exits_on_sigterm();
        assert!(!socket_path.path.exists());
    }
}

#[test]
fn a_path_on_which_somebody_listens_is_refused_and_served_on() {
    let socket_path = SocketPath::new();
    let _server = socket_path.start_server(&[]);
    for workers in ["1", "2"] {
        let parts = ["unix", socket_path.as_str(), "taken by another program", "--unix PATH"];
        assert_command_fails(3, &["--unix", socket_path.as_str(), "--workers", workers], &parts);
    }
    assert_eq!(socket_path.request(), GREETING);
    let foreign = SocketPath::new();
    let _listener = UnixListener::bind(&foreign.path).expect("a free path");
    let datagrams = SocketPath::new();
    let _socket = UnixDatagram::bind(&datagrams.path).expect("a free path");
    for socket_path in [foreign, datagrams] {
        assert_command_fails(3, &["--unix", socket_path.as_str()], &[socket_path.as_str(), "taken", "another path"]);
        assert!(socket_path.path.exists());
    }
}

#[test]
fn what_is_no_socket_is_never_removed() {
    let socket_path = SocketPath::new();
    fs::write(&socket_path.path, "keep me").expect("room for a file");
    assert_command_fails(
        3,
        &["--unix", socket_path.as_str()],
        &[socket_path.as_str(), "no socket", "left alone", "--unix PATH"],
    );
    assert_eq!(fs::read(&socket_path.path).expect("it is there"), b"keep me");
    let folder = socket_path.path.parent().and_then(Path::to_str).expect("a plain path");
    assert_command_fails(3, &["--unix", folder], &[folder, "no socket", "another path"]);
    let dangling = SocketPath::new();
    std::os::unix::fs::symlink(dangling.path.with_file_name("nothing"), &dangling.path).expect("a free path");
    assert_command_fails(3, &["--unix", dangling.as_str()], &[dangling.as_str(), "no socket"]);
    assert!(fs::symlink_metadata(&dangling.path).is_ok());
}

#[test]
fn a_path_that_cannot_be_is_told_with_the_way_out() {
    let socket_path = SocketPath::new();
    let folder = socket_path.path.parent().expect("it has one");
    let fill = |bytes: usize| {
        let name = "n".repeat(bytes - folder.as_os_str().len() - 1);
        folder.join(name).to_str().expect("a plain path").to_owned()
    };
    assert_command_fails(3, &["--unix", &fill(108)], &["108 bytes", "107 at most", "--unix PATH"]);
    let longest = fill(107);
    let mut server = HALLOO.start(&["--unix", &longest, "--greeting", "{local}"]);
    let client = connect_unix(Path::new(&longest));
    send(&client, REQUEST);
    assert_eq!(read_to_end(&client), longest);
    server.assert_exits_on_sigterm();

    let missing = folder.join("missing");
    let inside = missing.join("a.sock");
    let display = |path: &Path| path.to_str().expect("a plain path").to_owned();
    assert_command_fails(
        3,
        &["--unix", &display(&inside)],
        &[&format!("no folder {}", missing.display()), "make it", "--unix PATH"],
    );
    fs::write(&missing, "").expect("room for a file");
    assert_command_fails(
        3,
        &["--unix", &display(&inside)],
        &[&format!("{} is no folder", missing.display()), "--unix PATH"],
    );
    assert_command_fails(2, &["--unix", ""], &["--unix"]);
    assert_command_fails(2, &["--unix", "/tmp/a,"], &["--unix"]);
}

#[test]
fn a_folder_in_which_this_user_may_not_write_is_named() {
    // Where others may not look into the folder of the binary, a copy serves.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let copy = folder.path().join("halloo");
    fs::copy(HALLOO.path(), &copy).expect("room for a copy");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).expect("it is our own");
    let mut command = Command::new(&copy);
    if fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0) {
        // Nobody's, without root's capabilities.
        std::os::unix::process::CommandExt::uid(&mut command, 65_534);
    }
    let path = folder.path().join("a.sock");
    command.arg("--unix").arg(&path).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = run(command);
    assert_eq!(output.status, 3, "{output:?}");
    let cause = format!("this user may not make a file in {}; ", folder.path().display());
    assert!(output.stderr.contains(&cause) && output.stderr.contains("--unix PATH"), "{output:?}");
}

#[test]
fn a_start_that_fails_leaves_no_file_behind() {
    for workers in ["1", "3"] {
        let (socket_path, taken) = (SocketPath::new(), SocketPath::new());
        fs::write(&taken.path, "").expect("room for a file");
        assert_command_fails(
            3,
            &["--workers", workers, "--unix", socket_path.as_str(), "--unix", taken.as_str()],
            &[taken.as_str()],
        );
        assert!(!socket_path.path.exists(), "{workers} workers");
        assert_command_fails(
            3,
            &["--workers", workers, "--tcp", "192.0.2.1:8888", "--unix", socket_path.as_str()],
            &["192.0.2.1"],
        );
        assert!(!socket_path.path.exists(), "{workers} workers");
    }
}

// ---- probes ---------------------------------------------------------------------------------------------------------

#[test]
fn a_probe_asks_at_a_path_and_tells_what_it_finds() {
    let socket_path = SocketPath::new();
    let target = format!("unix:{}", socket_path.as_str());
    let probe = |arguments: &[&str], status: i32, begins: &str| {
        let output = HALLOO.run(&[&["probe", target.as_str()], arguments].concat());
        assert_eq!(output.status, status, "{output:?}");
        assert!(output.stdout.starts_with(&format!("unix {} {begins}", socket_path.as_str())), "{output:?}");
        assert_eq!(output.stdout.lines().count(), 1, "{output:?}");
        output.stdout
    };
    probe(&[], 3, "unreachable ");
    let server = socket_path.start_server(&[]);
    assert!(probe(&[], 0, "ok ").ends_with(" Hello, TCP Client!\n"));
    probe(&["--connect-only"], 0, "ok ");
    probe(&["--expect", "Good evening"], 5, "mismatch ");
    server.pause();
    probe(&["--timeout", "100ms"], 4, "timeout ");
    drop(server);
    probe(&[], 3, "refused ");
    // A backlog that is full keeps a probe waiting no longer than it may.
    fs::remove_file(&socket_path.path).expect("it was killed");
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&socket2::SockAddr::unix(&socket_path.path).expect("a short path")).expect("a free path");
    socket.listen(0).expect("it is bound");
    let _full = socket_path.connect();
    probe(&["--timeout", "300ms"], 4, "timeout ");
}

#[test]
fn a_probe_asks_at_a_path_that_is_no_text() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join(OsStr::from_bytes(b"\xff.sock"));
    let mut command = HALLOO.command(&["--unix"]);
    command.arg(&path);
    let _server = Server::start(command);
    let mut command = HALLOO.command(&["probe"]);
    command.arg(OsString::from_vec([b"unix:", path.as_os_str().as_bytes()].concat()));
    let output = run(command);
    assert_eq!((output.status, output.stderr.as_str()), (0, ""), "{output:?}");
    assert!(output.stdout.contains(r"/\xff.sock ok "), "{output:?}");
}
