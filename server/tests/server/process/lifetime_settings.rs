//! `--ready-file`, `--exit-on-eof` and `--user`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;
use std::time::Duration;

use support::network::streams::{GREETING, REQUEST, read_to_end, send};
use support::network::tcp::{connect, request};
use support::process::child::{Process, run};
use support::process::server::{Server, address_in, assert_fails};
use support::wait::{assert_holds_for, wait_until};
use tempfile::TempDir;

use crate::HALLOO;
use crate::unix::temporary_socket_path::SocketPath;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

#[test]
fn the_ready_file_has_the_ready_line_while_the_server_runs() {
    let folder = folder();
    let path = folder.path().join("ready");
    let file = path.to_str().expect("a plain path");
    for events in ["text", "json", "off"] {
        fs::write(&path, "READY pid=1\n").expect("a file of an earlier server");
        let mut server =
            HALLOO.start(&["--listen", "127.0.0.1:0", "--events", events, "--ready-file", file, "--workers", "2"]);
        assert_eq!(fs::read_to_string(&path).expect("a file"), format!("{}\n", server.ready_line()));
        server.assert_exits_on_sigterm();
        assert!(fs::read_dir(folder.path()).expect("the folder").next().is_none(), "it is removed");
    }
}

#[test]
fn a_start_that_fails_leaves_the_ready_file_of_the_running_server() {
    let folder = folder();
    let path = folder.path().join("ready");
    let file = path.to_str().expect("a plain path");
    let mut running = HALLOO.start(&["--tcp", "127.0.0.1:0", "--ready-file", file]);
    let output = HALLOO.run(&["--tcp", &running.tcp().to_string(), "--ready-file", file]);
    assert_fails(&output, 3, &["address already in use"]);
    assert_eq!(fs::read_to_string(&path).expect("it stays"), format!("{}\n", running.ready_line()));
    running.assert_exits_on_sigterm();
    assert!(!path.exists());
}

#[test]
fn files_of_a_killed_server_with_the_same_process_id_do_not_prevent_the_start() {
    let folder = folder();
    let path = folder.path().join("ready");
    let script = "cd \"$0\" && touch .halloo-ready-$$ .halloo-record-$$ .halloo-$$.part && exec \"$@\"";
    let wrapper = ["sh", "-c", script, folder.path().to_str().expect("a plain path")];
    let arguments = ["--tcp", "127.0.0.1:0", "--ready-file", path.to_str().expect("a plain path")];
    let mut server = Server::start(HALLOO.command_under(&wrapper, &arguments));
    assert_eq!(fs::read_to_string(&path).expect("a file"), format!("{}\n", server.ready_line()));
    server.assert_exits_on_sigterm();
    assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 3, "only those of the killed server");
}

#[test]
fn a_ready_file_of_a_later_server_stays() {
    let folder = folder();
    let path = folder.path().join("ready");
    let arguments = ["--listen", "127.0.0.1:0", "--ready-file", path.to_str().expect("a plain path")];
    let mut first = HALLOO.start(&arguments);
    let mut second = HALLOO.start(&arguments);
    first.assert_exits_on_sigterm();
    assert_eq!(fs::read_to_string(&path).expect("a file"), format!("{}\n", second.ready_line()));
    second.assert_exits_on_sigterm();
    assert!(!path.exists());
}

#[test]
fn a_ready_file_that_cannot_be_written_is_an_error_before_the_start() {
    let folder = folder();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(folder.path().join("other"), &link).expect("a link");
    let in_folder = |name: &str| folder.path().join(name).to_str().expect("a plain path").to_owned();
    for (file, cause) in [
        ("/no-such-folder/ready".to_owned(), "there is no folder /no-such-folder"),
        (in_folder(""), "it is a folder"),
        (in_folder("link"), "it is a link or a device"),
        ("/dev/null".to_owned(), "it is a link or a device"),
    ] {
        let output = HALLOO.run(&["--tcp", "127.0.0.1:0", "--ready-file", &file]);
        assert_fails(&output, 3, &["cannot write the READY line to ", cause, "--ready-file FILE"]);
    }
    assert!(link.is_symlink(), "nothing is replaced");
}

#[test]
fn a_file_that_is_no_ready_file_is_neither_replaced_nor_removed() {
    let folder = folder();
    let path = folder.path().join("ready");
    let file = path.to_str().expect("a plain path");
    for contents in ["notes\n", "READYMADE", "R", "{\"event\":\"received\"}", "\n"] {
        fs::write(&path, contents).expect("a file of the user");
        let output = HALLOO.run(&["--tcp", "127.0.0.1:0", "--ready-file", file]);
        let parts = [file, "it is not a file of an earlier server", "remove it", "--ready-file FILE"];
        assert_fails(&output, 3, &parts);
        assert_eq!(fs::read_to_string(&path).expect("it stays"), contents);
    }
    fs::write(&path, "").expect("an empty file");
    let arguments = ["--tcp", "127.0.0.1:0", "--ready-file", file];
    let mut server = HALLOO.start(&arguments);
    assert!(fs::read_to_string(&path).expect("a file").starts_with("READY "));
    fs::write(&path, "notes\n").expect("the same file with other contents");
    server.assert_exits_on_sigterm();
    assert_eq!(fs::read_to_string(&path).expect("it stays"), "notes\n");
}

#[test]
fn one_file_for_two_settings_is_an_error() {
    let folder = folder();
    let path = folder.path().join("same");
    fs::write(&path, "hello\n").expect("a greeting");
    let file = path.to_str().expect("a plain path");
    let detour = folder.path().join(".").join("..").join(folder.path().file_name().expect("a name")).join("same");
    let other = detour.to_str().expect("a plain path");
    for [left, right] in
        [["--ready-file", "--record"], ["--greeting-file", "--ready-file"], ["--greeting-file", "--record"]]
    {
        for (first, second) in [(file, file), (file, other)] {
            let output = HALLOO.run(&["--tcp", "127.0.0.1:0", left, first, right, second]);
            let parts = [&format!("{left} {first} contradicts {right} {second}"), "leave one of the two out"];
            assert_fails(&output, 2, &parts);
        }
    }
    assert_eq!(fs::read_to_string(&path).expect("it stays"), "hello\n");
    let output = HALLOO.run(&["--tcp", "127.0.0.1:0", "--ready-file", "new", "--record", "./new"]);
    assert_fails(&output, 2, &["--ready-file new contradicts --record ./new"]);
}

#[test]
fn the_end_of_standard_input_stops_the_server_as_sigterm_does() {
    let mut command = HALLOO.command(&["--listen", "127.0.0.1:0", "--exit-on-eof", "--workers", "2"]);
    command.stdin(Stdio::piped());
    let mut server = Server::start(command);
    // More than a pipe takes: what the parent writes is read.
    server.write_stdin(&"ignored ".repeat(20_000));
    assert_eq!(request(server.tcp()), GREETING);
    let open = connect(server.tcp());
    let cpu_time = server.cpu_time();
    server.close_stdin();
    server.stderr.wait_for_line("standard input has ended");
    // SIGTERM beside it is not a second signal, which would reset this connection.
    server.signal("TERM");
    send(&open, REQUEST);
    assert_eq!(read_to_end(&open), GREETING);
    assert_eq!(server.wait(), 0, "{}", server.stderr.text());
    assert!(cpu_time.as_millis() < 2000, "it does not spin: {cpu_time:?}");
}

#[test]
fn a_server_ends_with_its_killed_parent() {
    let folder = folder();
    let pipe = folder.path().join("pipe");
    // Only the shell has the pipe open for writing.
    let script = format!("mkfifo {0} && {{ \"$0\" \"$@\" <{0} & exec 3>{0}; wait; }}", pipe.display());
    let mut parent =
        Process::spawn(HALLOO.command_under(&["sh", "-c", &script], &["--tcp", "127.0.0.1:0", "--exit-on-eof"]));
    parent.stdout.wait_for_line("READY ");
    assert!(parent.is_running());
    parent.signal("KILL");
    wait_until("the end of the server", || parent.stdout.is_closed());
}

/// Starts a program in the background of a new terminal, moves it to the foreground, and ends the input.
const BACKGROUND: &str = r#"
import fcntl, os, pty, signal, sys, termios
terminal, program = pty.openpty()
os.setsid()
fcntl.ioctl(program, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
pid = os.fork()
if pid == 0:
    os.setpgid(0, 0)
    os.dup2(program, 0)
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execv(sys.argv[1], sys.argv[1:])
print("pid", pid, flush=True)
sys.stdin.readline()
os.tcsetpgrp(program, pid)
os.write(terminal, b"\x04")
_, status = os.waitpid(pid, os.WUNTRACED)
print("status", status, flush=True)
"#;

#[test]
#[ignore = "needs python3"]
fn in_the_background_of_a_terminal_the_server_goes_on_until_its_input_ends_in_the_foreground() {
    let wrapper = ["python3", "-c", BACKGROUND];
    let mut command = HALLOO.command_under(&wrapper, &["--tcp", "127.0.0.1:0", "--exit-on-eof"]);
    command.stdin(Stdio::piped());
    let mut parent = Process::spawn(command);
    let ready = parent.stdout.wait_for_line("READY ");
    let address = address_in(&ready, "tcp").expect("a port");
    let pid = parent.stdout.wait_for_line("pid ").split_off("pid ".len());
    let reader = || {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
        let stats = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("stat")).ok());
        stats
            .filter(|stat| stat.contains("(stdin)"))
            .find_map(|stat| Some(stat.split_once(") ")?.1.get(..1)?.to_owned()))
    };
    wait_until("the thread to wait", || reader().as_deref() == Some("S"));
    assert_holds_for(Duration::from_millis(200), "not stopped", || reader().as_deref() != Some("T"));
    assert_eq!(request(address), GREETING);
    parent.write_stdin("to the foreground\n");
    assert_eq!(parent.stdout.wait_for_line("status "), "status 0");
}

#[test]
fn an_input_that_ends_at_once_is_an_error() {
    let output = HALLOO.run(&["--tcp", "127.0.0.1:0", "--exit-on-eof"]);
    assert_fails(&output, 2, &["cannot wait for the end of standard input", "/dev/null", "leave --exit-on-eof out"]);
    let mut closed = HALLOO.command_under(&["sh", "-c", "exec \"$0\" \"$@\" <&-"], &["--tcp", "127.0.0.1:0"]);
    closed.env("HALLOO_EXIT_ON_EOF", "true");
    let output = run(closed);
    assert_fails(&output, 2, &["it is closed", "leave HALLOO_EXIT_ON_EOF out"]);
}

#[test]
fn an_unknown_user_is_an_error() {
    for user in ["no-such-user", "nobody:no-such-group", "root"] {
        let output = HALLOO.run(&["--tcp", "127.0.0.1:0", "--user", user]);
        assert_fails(&output, 3, &[&format!("with --user {user}: "), "; "]);
    }
}

/// Run by root.
mod as_root {
    use super::*;

    /// The values of a field in the status of each thread.
    fn thread_statuses(server: &Server, field: &str) -> Vec<String> {
        let ids = server.thread_names().into_iter().map(|(id, _)| id);
        let read = |id: u32| {
            let status =
                fs::read_to_string(format!("/proc/{}/task/{id}/status", server.pid())).expect("the thread runs");
            let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("the field");
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        ids.map(read).collect()
    }

    #[track_caller]
    fn assert_no_capability(server: &Server) {
        for set in ["CapPrm:", "CapEff:", "CapAmb:"] {
            let rights = thread_statuses(server, set);
            assert!(rights.iter().all(|rights| rights == "0000000000000000"), "{set} {rights:?}");
        }
    }

    /// A wrapper that starts a program as another user, with more options of setpriv(1).
    fn as_user<'a>(user: &'a str, group: &'a str, options: &[&'a str]) -> Vec<&'a str> {
        [&["setpriv", "--reuid", user, "--regid", group], options].concat()
    }

    /// An option of setpriv(1), and two capabilities that a program then has as any user.
    const AMBIENT: [&str; 4] =
        ["--inh-caps", "+net_bind_service,+dac_override", "--ambient-caps", "+net_bind_service,+dac_override"];

    #[test]
    #[ignore = "needs root"]
    fn every_thread_changes_to_the_user_before_ready() {
        let (socket_path, admin_path, folder) = (SocketPath::new(), SocketPath::new(), folder());
        for folder in [socket_path.path.parent(), admin_path.path.parent(), Some(folder.path())] {
            std::os::unix::fs::chown(folder.expect("a folder"), Some(65_534), None).expect("the test runs as root");
        }
        let (ready, recording) = (folder.path().join("ready"), folder.path().join("run.json"));
        let admin = format!("unix:{}", admin_path.as_str());
        let mut server = socket_path.start_server(&[
            "--listen",
            "127.0.0.1:0",
            "--workers",
            "3",
            "--user",
            "nobody:4000002",
            "--admin",
            &admin,
            "--ready-file",
            ready.to_str().expect("a plain path"),
            "--record",
            recording.to_str().expect("a plain path"),
        ]);
        let expected = "65534 65534 65534 65534";
        let uids = thread_statuses(&server, "Uid:");
        assert!(uids.len() >= 4 && uids.iter().all(|uid| uid == expected), "{uids:?}");
        assert!(thread_statuses(&server, "Gid:").iter().all(|gid| gid == "4000002 4000002 4000002 4000002"));
        assert_no_capability(&server);
        assert!(!thread_statuses(&server, "Groups:").iter().any(|groups| groups.split(' ').any(|group| group == "0")));
        for file in [&socket_path.path, &admin_path.path, &ready] {
            let metadata = fs::metadata(file).expect("a file");
            assert_eq!((metadata.uid(), metadata.gid()), (65_534, 4_000_002), "{}", file.display());
        }
        assert_eq!(socket_path.request(), GREETING);
        // Its thread starts with the first line.
        wait_until("an event", || !server.event_lines().is_empty());
        let uids = thread_statuses(&server, "Uid:");
        assert!(uids.len() >= 5 && uids.iter().all(|uid| uid == expected), "{uids:?}");
        server.assert_exits_on_sigterm();
        assert!(!socket_path.path.exists() && !admin_path.path.exists() && !ready.exists(), "the user may remove them");
        assert_eq!(fs::metadata(recording).expect("the recording").uid(), 65_534);
    }

    #[test]
    #[ignore = "needs root"]
    fn a_port_below_1024_is_served_by_a_user_without_root() {
        let port = (1..1024).rev().find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok());
        let address = format!("127.0.0.1:{}", port.expect("a free port"));
        let server = HALLOO.start(&["--tcp", &address, "--user", "nobody"]);
        assert_eq!(request(server.tcp()), GREETING);
    }

    #[test]
    #[ignore = "needs root"]
    fn a_file_that_only_root_can_write_is_an_error_with_another_user() {
        let folder = folder();
        for flag in ["--record", "--ready-file"] {
            let file = folder.path().join("file");
            let file = file.to_str().expect("a plain path");
            let output = HALLOO.run(&["--tcp", "127.0.0.1:0", "--user", "nobody", flag, file]);
            assert_fails(&output, 3, &["permission denied", flag]);
        }
    }

    #[test]
    #[ignore = "needs root and setpriv"]
    fn without_root_another_user_is_an_error_and_the_own_one_is_none() {
        let without_root = as_user("65534", "65534", &["--clear-groups"]);
        let arguments = ["--tcp", "127.0.0.1:0", "--user", "4000001:4000001"];
        let output = run(HALLOO.command_under(&without_root, &arguments));
        assert_fails(&output, 3, &["operation not permitted", "start halloo as root"]);
        for user in ["65534:65534", "nobody"] {
            let server = Server::start(HALLOO.command_under(&without_root, &["--tcp", "127.0.0.1:0", "--user", user]));
            assert_eq!(request(server.tcp()), GREETING);
        }
    }

    #[test]
    #[ignore = "needs root and setpriv"]
    fn the_own_user_with_capabilities_or_groups_of_another_one_is_an_error() {
        let with_capabilities = [&["--clear-groups"], &AMBIENT[..]].concat();
        for (options, cause) in [
            (&["--groups", "0,4,65534"][..], "the process would keep groups that the user does not have (0, 4)"),
            (&with_capabilities, "the process would keep capabilities (mask 0x402)"),
        ] {
            let without_root = as_user("65534", "65534", options);
            let output = run(HALLOO.command_under(&without_root, &["--tcp", "127.0.0.1:0", "--user", "65534:65534"]));
            assert_fails(&output, 3, &["with --user 65534:65534: ", cause, "; start halloo without them"]);
        }
        let group_of_the_user = as_user("65534", "65534", &["--groups", "65534"]);
        let arguments = ["--tcp", "127.0.0.1:0", "--user", "nobody"];
        let server = Server::start(HALLOO.command_under(&group_of_the_user, &arguments));
        assert_no_capability(&server);
    }

    #[test]
    #[ignore = "needs root and setpriv"]
    fn ambient_capabilities_are_lost_with_root_and_those_of_another_user_are_an_error() {
        let root = [&["setpriv"], &AMBIENT[..]].concat();
        let server = Server::start(HALLOO.command_under(&root, &["--tcp", "127.0.0.1:0", "--user", "nobody"]));
        assert_no_capability(&server);
        let change = "+setuid,+setgid";
        let options = ["--clear-groups", "--inh-caps", change, "--ambient-caps", change];
        let user = as_user("4000001", "4000001", &options);
        let output = run(HALLOO.command_under(&user, &["--tcp", "127.0.0.1:0", "--user", "nobody"]));
        assert_fails(&output, 3, &["the process would keep capabilities (mask 0xc0)"]);
    }

    #[test]
    #[ignore = "needs root and setpriv"]
    fn a_user_with_the_group_of_root_is_served() {
        let without_root = as_user("4000001", "0", &["--clear-groups"]);
        for wrapper in [&["setpriv"][..], &without_root] {
            let arguments = ["--tcp", "127.0.0.1:0", "--user", "4000001:0"];
            let server = Server::start(HALLOO.command_under(wrapper, &arguments));
            assert_eq!(request(server.tcp()), GREETING);
            assert!(thread_statuses(&server, "Gid:").iter().all(|gid| gid == "0 0 0 0"));
            assert_no_capability(&server);
        }
    }

    #[test]
    #[ignore = "needs root and unshare"]
    fn a_number_needs_no_file_of_users() {
        let without_files = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs none /etc && exec \"$0\" \"$@\""];
        let arguments = |user| ["--tcp", "127.0.0.1:0", "--user", user];
        let server = Server::start(HALLOO.command_under(&without_files, &arguments("65532:65532")));
        assert_eq!(request(server.tcp()), GREETING);
        assert!(thread_statuses(&server, "Uid:").iter().all(|uid| uid == "65532 65532 65532 65532"));
        for (user, cause) in [("daemon", "there is no such user"), ("65532:staff", "there is no such group")] {
            assert_fails(&run(HALLOO.command_under(&without_files, &arguments(user))), 3, &[cause]);
        }
    }
}
