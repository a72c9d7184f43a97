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
use support::network::tcp::request;
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
fn a_stale_path_of_a_killed_server_is_reused() {
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
fn a_path_in_use_is_refused_and_its_server_continues() {
    let socket_path = SocketPath::new();
    let _server = socket_path.start_server(&[]);
    for workers in ["1", "2"] {
        let parts = ["unix", socket_path.as_str(), "address already in use", "--unix PATH"];
        assert_command_fails(3, &["--unix", socket_path.as_str(), "--workers", workers], &parts);
    }
    assert_eq!(socket_path.request(), GREETING);
    let foreign = SocketPath::new();
    let _listener = UnixListener::bind(&foreign.path).expect("a free path");
    let datagrams = SocketPath::new();
    let _socket = UnixDatagram::bind(&datagrams.path).expect("a free path");
    for socket_path in [foreign, datagrams] {
        assert_command_fails(
            3,
            &["--unix", socket_path.as_str()],
            &[socket_path.as_str(), "address already in use", "another path"],
        );
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
        &[socket_path.as_str(), "not a socket", "left alone", "--unix PATH"],
    );
    assert_eq!(fs::read(&socket_path.path).expect("it is there"), b"keep me");
    assert_command_fails(3, &["--unix", "/dev/null"], &["not a socket", "left alone; choose another path"]);
    let folder = socket_path.path.parent().and_then(Path::to_str).expect("a plain path");
    assert_command_fails(
        3,
        &["--unix", folder],
        &[folder, "address already in use", "is a folder", "name a file in it"],
    );
    let dangling = SocketPath::new();
    std::os::unix::fs::symlink(dangling.path.with_file_name("nothing"), &dangling.path).expect("a free path");
    assert_command_fails(3, &["--unix", dangling.as_str()], &[dangling.as_str(), "not a socket"]);
    assert!(fs::symlink_metadata(&dangling.path).is_ok());
}

#[test]
fn an_impossible_path_is_an_error_with_a_hint() {
    let socket_path = SocketPath::new();
    let folder = socket_path.path.parent().expect("it has one");
    let fill = |bytes: usize| {
        let name = "n".repeat(bytes - folder.as_os_str().len() - 1);
        folder.join(name).to_str().expect("a plain path").to_owned()
    };
    assert_command_fails(3, &["--unix", &fill(108)], &["107 bytes at most, and this one has 108", "--unix PATH"]);
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
        &["no such file or directory", &format!("no folder {}", missing.display()), "create it", "--unix PATH"],
    );
    fs::write(&missing, "").expect("room for a file");
    assert_command_fails(
        3,
        &["--unix", &display(&inside)],
        &["not a directory", &format!("{} is not a folder", missing.display()), "--unix PATH"],
    );
    assert_command_fails(2, &["--unix", ""], &["--unix"]);
    assert_command_fails(2, &["--unix", "/tmp/a,"], &["--unix"]);
}

#[test]
fn a_relative_path_in_a_deleted_working_directory_is_an_error_that_names_the_cause() {
    for path in ["a.sock", "./folder/a.sock"] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let script = "rmdir \"$PWD\"; exec \"$0\" \"$@\"";
        let mut command = HALLOO.command_under(&["sh", "-c", script], &["--unix", path]);
        command.current_dir(&folder);
        let parts = ["no such file or directory", "the working directory was deleted", "give an absolute path"];
        assert_fails(&run(command), 3, &parts);
    }
}

#[test]
fn a_folder_without_write_permission_is_an_error_that_names_it() {
    // Another user may be unable to enter the folder of the binary, so a copy is run.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let copy = folder.path().join("halloo");
    fs::copy(HALLOO.path(), &copy).expect("room for a copy");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).expect("it is our own");
    let mut command = Command::new(&copy);
    if fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0) {
        // Another user, without root's capabilities.
        std::os::unix::process::CommandExt::uid(&mut command, 65_534);
    }
    let path = folder.path().join("a.sock");
    command.arg("--unix").arg(&path).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = run(command);
    assert_eq!(output.status, 3, "{output:?}");
    let cause = format!("permission denied: this user may not create a file in {}; ", folder.path().display());
    assert!(output.stderr.contains(&cause) && output.stderr.contains("--unix PATH"), "{output:?}");
}

#[test]
fn a_failed_start_leaves_no_socket_file() {
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

// ---- permissions ----------------------------------------------------------------------------------------------------

#[test]
fn the_file_has_the_mode_of_unix_mode_or_else_of_the_umask() {
    for workers in ["1", "2"] {
        for (arguments, umask, mode) in [
            (&["--unix-mode", "666"][..], "077", 0o666),
            (&["--unix-mode", "0o600"], "000", 0o600),
            (&["--unix-mode=0660"], "000", 0o660),
            (&[], "077", 0o700),
            (&[], "022", 0o755),
        ] {
            let socket_path = SocketPath::new();
            let script = format!("umask {umask}; exec \"$0\" \"$@\"");
            let arguments = [&["--workers", workers, "--unix", socket_path.as_str()], arguments].concat();
            let server = Server::start(HALLOO.command_under(&["sh", "-c", &script], &arguments));
            let metadata = fs::metadata(&socket_path.path).expect("it is there");
            assert_eq!(metadata.permissions().mode() & 0o7777, mode, "{arguments:?} with umask {umask}");
            assert_eq!(server.stderr.text(), "");
        }
    }
}

#[test]
fn unix_mode_without_a_file_is_a_warning() {
    let server = HALLOO.start(&["--tcp", "127.0.0.1:0", "--unix-mode", "660"]);
    server.stderr.wait_for_line("--unix-mode has no effect: no unix socket file is created");
    assert_eq!(request(server.tcp()), GREETING);
    assert_eq!(server.log_lines().len(), 1);
}

// ---- abstract names -------------------------------------------------------------------------------------------------

#[test]
#[cfg(target_os = "linux")]
fn an_abstract_name_has_no_file_and_is_printed_in_the_syntax_of_the_probe() {
    for workers in ["1", "2"] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        // The path of the folder is unique, so the name is free.
        let name = format!("@{} name", folder.path().display());
        let arguments = ["--unix", &name, "--greeting", "{protocol} {local}", "--workers", workers];
        let mut command = HALLOO.command(&arguments);
        command.current_dir(&folder);
        let mut server = Server::start(command);
        let percent_encoded = name.replace(' ', "%20");
        assert_eq!(server.ready_addresses(), [format!("unix={percent_encoded}")]);
        let output = HALLOO.run(&["probe", &format!("unix:{name}")]);
        assert!(output.stdout.starts_with(&format!("unix {name} ok ")), "{output:?}");
        assert!(output.stdout.ends_with(&format!(" unix {name}\n")), "{output:?}");
        server.stdout.wait_for_line(&format!("unix {name} "));
        assert_command_fails(3, &["--unix", &name], &[&name, "address already in use", "--unix PATH"]);
        server.assert_exits_on_sigterm();
        assert_eq!(fs::read_dir(&folder).expect("it is there").count(), 0, "it has no file");
        assert_eq!(HALLOO.run(&["probe", &format!("unix:{name}")]).status, 3, "the name is free");
    }
}

#[test]
fn a_file_name_that_begins_with_an_at_sign_is_printed_with_its_folder() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = HALLOO.command(&["--unix", "./@a"]);
    command.current_dir(&folder);
    let mut server = Server::start(command);
    let path = folder.path().join("@a");
    assert_eq!(server.ready_addresses(), [format!("unix={}/%40a", folder.path().display())]);
    let mut probe = HALLOO.command(&["probe", "unix:./@a"]);
    probe.current_dir(&folder);
    assert!(run(probe).stdout.starts_with("unix ./@a ok "));
    server.stdout.wait_for_line(&format!("unix {} ", path.display()));
    server.assert_exits_on_sigterm();
    assert!(!path.exists());
}

// ---- probes ---------------------------------------------------------------------------------------------------------

#[test]
fn a_probe_of_a_path_reports_each_result() {
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
    // With a full backlog the probe ends at its timeout.
    fs::remove_file(&socket_path.path).expect("it was killed");
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&socket2::SockAddr::unix(&socket_path.path).expect("a short path")).expect("a free path");
    socket.listen(0).expect("it is bound");
    let _full = socket_path.connect();
    probe(&["--timeout", "300ms"], 4, "timeout ");
    let output = HALLOO.run(&["probe", &format!("unix:{}", "p".repeat(120))]);
    assert_eq!(output.status, 3, "{output:?}");
    assert!(
        output.stdout.contains(" unreachable ") && output.stdout.contains("107 bytes at most, and this one has 120"),
        "{output:?}"
    );
}

#[test]
fn a_probe_takes_a_path_that_is_not_utf_8() {
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
