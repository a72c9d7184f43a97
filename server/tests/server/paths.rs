//! Paths of unix sockets that cannot be served, or were left behind, and probes that ask at one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::clients::{GREETING, QUESTION};
use crate::support::{BINARY, Server, halloo, not_run, run};
use crate::unix::{Spot, connect, rest, say};

#[track_caller]
fn refuse(status: i32, arguments: &[&str], parts: &[&str]) {
    let ended = run(halloo(arguments));
    assert_eq!((ended.status, ended.output.as_str()), (status, ""), "{ended:?}");
    let line = ended.errors.strip_suffix('\n').expect("a whole line");
    assert!(line.starts_with("halloo: ") && !line.contains('\n') && !line.ends_with('.'), "{line:?}");
    for part in parts {
        assert!(line.contains(part), "`{part}` is missing in: {line}");
    }
}

// ---- paths that cannot be served ------------------------------------------------------------------------------------

#[test]
fn a_path_that_a_killed_server_has_left_is_served_again() {
    for workers in ["1", "2"] {
        let spot = Spot::new();
        drop(spot.serve(&[]));
        assert!(spot.path.exists(), "it was killed");
        let mut server = spot.serve(&["--workers", workers]);
        assert_eq!(spot.ask(), GREETING);
        server.assert_stops();
        assert!(!spot.path.exists());
    }
}

#[test]
fn a_path_on_which_somebody_listens_is_refused_and_served_on() {
    let spot = Spot::new();
    let _server = spot.serve(&[]);
    for workers in ["1", "2"] {
        let parts = ["unix", spot.text(), "taken by another program", "--unix PATH"];
        refuse(3, &["--unix", spot.text(), "--workers", workers], &parts);
    }
    assert_eq!(spot.ask(), GREETING);
    let foreign = Spot::new();
    let _listener = UnixListener::bind(&foreign.path).expect("a free path");
    let datagrams = Spot::new();
    let _socket = UnixDatagram::bind(&datagrams.path).expect("a free path");
    for spot in [foreign, datagrams] {
        refuse(3, &["--unix", spot.text()], &[spot.text(), "taken", "another path"]);
        assert!(spot.path.exists());
    }
}

#[test]
fn what_is_no_socket_is_never_removed() {
    let spot = Spot::new();
    fs::write(&spot.path, "keep me").expect("room for a file");
    refuse(3, &["--unix", spot.text()], &[spot.text(), "no socket", "left alone", "--unix PATH"]);
    assert_eq!(fs::read(&spot.path).expect("it is there"), b"keep me");
    let folder = spot.path.parent().and_then(Path::to_str).expect("a plain path");
    refuse(3, &["--unix", folder], &[folder, "no socket", "another path"]);
    let dangling = Spot::new();
    std::os::unix::fs::symlink(dangling.path.with_file_name("nothing"), &dangling.path).expect("a free path");
    refuse(3, &["--unix", dangling.text()], &[dangling.text(), "no socket"]);
    assert!(fs::symlink_metadata(&dangling.path).is_ok());
}

#[test]
fn a_path_that_cannot_be_is_told_with_the_way_out() {
    let spot = Spot::new();
    let folder = spot.path.parent().expect("it has one");
    let fill = |bytes: usize| {
        let name = "n".repeat(bytes - folder.as_os_str().len() - 1);
        folder.join(name).to_str().expect("a plain path").to_owned()
    };
    refuse(3, &["--unix", &fill(108)], &["108 bytes", "107 at most", "--unix PATH"]);
    let longest = fill(107);
    let mut server = Server::start(&["--unix", &longest, "--greeting", "{local}"]);
    let client = connect(Path::new(&longest));
    say(&client, QUESTION);
    assert_eq!(rest(&client), longest);
    server.assert_stops();

    let missing = folder.join("missing");
    let inside = missing.join("a.sock");
    let shown = |path: &Path| path.to_str().expect("a plain path").to_owned();
    refuse(3, &["--unix", &shown(&inside)], &[&format!("no folder {}", missing.display()), "make it", "--unix PATH"]);
    fs::write(&missing, "").expect("room for a file");
    refuse(3, &["--unix", &shown(&inside)], &[&format!("{} is no folder", missing.display()), "--unix PATH"]);
    refuse(2, &["--unix", ""], &["--unix"]);
    refuse(2, &["--unix", "/tmp/a,"], &["--unix"]);
}

#[test]
fn a_folder_in_which_this_user_may_not_write_is_named() {
    // Where others may not look into the folder of the binary, a copy serves.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let copy = folder.path().join("halloo");
    fs::copy(BINARY, &copy).expect("room for a copy");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).expect("it is our own");
    let mut command = Command::new(&copy);
    if fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0) {
        // Nobody's, without root's capabilities.
        std::os::unix::process::CommandExt::uid(&mut command, 65_534);
    }
    let path = folder.path().join("a.sock");
    command.arg("--unix").arg(&path).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let ended = run(command);
    if ended.status != 3 {
        return not_run("where every folder is writable to everybody");
    }
    let cause = format!("this user may not make a file in {}; ", folder.path().display());
    assert!(ended.errors.contains(&cause) && ended.errors.contains("--unix PATH"), "{ended:?}");
}

#[test]
fn a_start_that_fails_leaves_no_file_behind() {
    for workers in ["1", "3"] {
        let (spot, taken) = (Spot::new(), Spot::new());
        fs::write(&taken.path, "").expect("room for a file");
        refuse(3, &["--workers", workers, "--unix", spot.text(), "--unix", taken.text()], &[taken.text()]);
        assert!(!spot.path.exists(), "{workers} workers");
        refuse(3, &["--workers", workers, "--tcp", "192.0.2.1:8888", "--unix", spot.text()], &["192.0.2.1"]);
        assert!(!spot.path.exists(), "{workers} workers");
    }
}

// ---- probes ---------------------------------------------------------------------------------------------------------

#[test]
fn a_probe_asks_at_a_path_and_tells_what_it_finds() {
    let spot = Spot::new();
    let target = format!("unix:{}", spot.text());
    let probe = |arguments: &[&str], status: i32, begins: &str| {
        let ended = run(halloo(&[&["probe", target.as_str()], arguments].concat()));
        assert_eq!(ended.status, status, "{ended:?}");
        assert!(ended.output.starts_with(&format!("unix {} {begins}", spot.text())), "{ended:?}");
        assert_eq!(ended.output.lines().count(), 1, "{ended:?}");
        ended.output
    };
    probe(&[], 3, "unreachable ");
    let server = spot.serve(&[]);
    assert!(probe(&[], 0, "ok ").ends_with(" Hello, TCP Client!\n"));
    probe(&["--connect-only"], 0, "ok ");
    probe(&["--expect", "Good evening"], 5, "mismatch ");
    server.freeze();
    probe(&["--timeout", "100ms"], 4, "timeout ");
    drop(server);
    probe(&[], 3, "refused ");
    // A backlog that is full keeps a probe waiting no longer than it may.
    fs::remove_file(&spot.path).expect("it was killed");
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&socket2::SockAddr::unix(&spot.path).expect("a short path")).expect("a free path");
    socket.listen(0).expect("it is bound");
    let _full = spot.connect();
    probe(&["--timeout", "300ms"], 4, "timeout ");
    let ended = run(halloo(&["probe", &target, "--udp"]));
    assert_eq!(ended.status, 2, "{ended:?}");
    assert!(ended.errors.contains("--udp has no use with the unix socket"), "{ended:?}");
}
