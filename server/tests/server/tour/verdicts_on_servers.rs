//! `halloo tour --against`: verdicts on servers that are not the tour's own.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;

use serde_json::Value;
use socket2::SockRef;
use support::process::child::{Process, ProcessOutput, run};

use crate::HALLOO;
use crate::tour::tour_servers::ServerAndFolder;
use crate::tour::{assert_fits, command_in, files_in};

/// Tries cases on a server. It leaves no file.
#[track_caller]
fn try_server(address: &str, arguments: &[&str]) -> ProcessOutput {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let arguments: Vec<&str> = ["tour", "--against", address].iter().chain(arguments).copied().collect();
    let output = run(command_in(folder.path(), &arguments));
    assert_eq!(files_in(folder.path()), [""; 0]);
    if !arguments.contains(&"--json") {
        assert_fits(&output.stdout);
    }
    output
}

fn objects(output: &ProcessOutput) -> Vec<Value> {
    output.stdout.lines().map(|line| serde_json::from_str(line).expect("an object")).collect()
}

/// Fails unless standard error is one line with this text, and the exit status is this.
#[track_caller]
fn assert_error(output: &ProcessOutput, status: i32, parts: &[&str]) {
    assert_eq!((output.status, output.stderr.lines().count()), (status, 1), "{output:?}");
    assert!(parts.iter().all(|part| output.stderr.contains(part)), "{parts:?}: {output:?}");
    assert!(!output.stdout.contains("pass") && !output.stdout.contains("FAIL"), "{output:?}");
}

#[test]
fn a_right_server_passes_each_case_with_exit_status_0() {
    let server = ServerAndFolder::start("1", "mio");
    let output = try_server(&server.address().to_string(), &["1", "6", "7", "slow-handler"]);
    assert_eq!((output.status, output.stderr.as_str()), (0, ""), "{output:?}");
    assert!(output.stdout.starts_with("Expected of the server at 127.0.0.1:"), "{output:?}");
    let (tcp, udp) = (server.process.tcp(), server.address());
    assert!(output.stdout.contains(&format!("\nIt serves TCP at {tcp} and UDP at {udp}.\n")), "{output:?}");
    for line in [" 1 accept-once     pass", " 6 fatal-reset     pass", "11 slow-handler    pass"] {
        assert!(output.stdout.lines().any(|one| one == line), "{line}: {output:?}");
    }
    assert!(output.stdout.ends_with("\n\n4 passed, 0 failed, 0 cannot be judged\n"), "{output:?}");
}

#[test]
fn a_failed_case_shows_what_was_sent_what_came_and_what_to_read() {
    let server = ServerAndFolder::start("6", "twin");
    let output = try_server(&server.address().to_string(), &["7", "6"]);
    assert_eq!(output.status, 5, "{output:?}");
    let lines: Vec<&str> = output.stdout.lines().collect();
    let at = lines.iter().position(|line| *line == " 6 fatal-reset     FAIL").expect("a verdict");
    for part in ["     sent  ", "     came  ", "     read  halloo tour 6; "] {
        assert!(lines[at..].iter().any(|line| line.starts_with(part)), "{part}: {output:?}");
    }
    assert!(output.stdout.ends_with("\n1 passed, 1 failed, 0 cannot be judged\n"), "{output:?}");
}

#[test]
fn verdicts_as_json_are_one_object_a_line() {
    let server = ServerAndFolder::start("6", "twin");
    let output = try_server(&server.address().to_string(), &["--json", "7", "6"]);
    assert_eq!((output.status, output.stderr.as_str()), (5, ""), "{output:?}");
    let objects = objects(&output);
    assert_eq!(objects.len(), 2);
    assert_eq!(
        (&objects[0]["case"], &objects[0]["name"], &objects[0]["verdict"]),
        (&7.into(), &"half-close".into(), &"pass".into())
    );
    assert_eq!(objects[1]["verdict"], "fail");
    for object in &objects {
        let is_text = |name: &str| object[name].as_str().is_some_and(|text| !text.is_empty());
        assert!(is_text("sent") && is_text("came") && object["read"].is_array(), "{object}");
    }
}

#[test]
fn a_server_that_a_case_ended_is_not_judged_further() {
    let server = ServerAndFolder::start("6", "twin");
    let address = server.address().to_string();
    let output = try_server(&address, &["1", "6", "7", "11"]);
    assert_eq!(output.status, 5, "{output:?}");
    assert!(output.stdout.contains("\n11 slow-handler    cannot be judged\n"), "{output:?}");
    let end = format!(
        "\nNote: not judged: the server is gone after case 6. Start it again and run:\n  \
         halloo tour --against {address} 7 11\n\n1 passed, 1 failed, 2 cannot be judged\n"
    );
    assert!(output.stdout.ends_with(&end), "{output:?}");
}

#[test]
fn a_server_that_serves_no_calm_client_any_more_is_not_judged_further() {
    let server = ServerAndFolder::start("1", "twin");
    let output = try_server(&server.address().to_string(), &["1", "6", "--json"]);
    assert_eq!(output.status, 5, "{output:?}");
    let objects = objects(&output);
    assert_eq!((&objects[0]["verdict"], &objects[1]["verdict"]), (&"fail".into(), &"cannot-be-judged".into()));
    let reason = objects[1]["came"].as_str().expect("a reason");
    let parts = ["not judged: the server serves no client after case 1: no reply within 2s; start it again", " 6"];
    assert!(parts.iter().all(|part| reason.contains(part)), "{reason}");
}

#[test]
fn each_verdict_is_printed_as_it_is_found() {
    let server = ServerAndFolder::start("1", "twin");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let address = server.address().to_string();
    let mut tour = Process::spawn(command_in(folder.path(), &["tour", "--against", &address, "7", "1"]));
    tour.stdout.wait_for_line(" 7 half-close      pass");
    // The second takes 2 s.
    tour.stdout.wait_for_end(" 1 accept-once     ");
    assert!(tour.is_running());
    assert_eq!(tour.wait(), 5);
}

/// Sends back all input on each connection, and ends at the first reset.
fn serve_until_reset(listener: TcpListener) {
    let listener = Arc::new(listener);
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let listener = Arc::clone(&listener);
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                loop {
                    match stream.read(&mut buffer) {
                        Ok(0) => return,
                        Ok(bytes) if stream.write_all(&buffer[..bytes]).is_ok() => {}
                        Err(error) if error.kind() == ErrorKind::Interrupted => {}
                        // The listener returns an error to accept.
                        _ => return drop(SockRef::from(&*listener).shutdown(std::net::Shutdown::Both)),
                    }
                }
            });
        }
    });
}

#[test]
fn a_server_that_is_started_again_within_2_s_is_judged_further() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("an address");
    serve_until_reset(listener);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = address.to_string();
    let mut tour = Process::spawn(command_in(folder.path(), &["tour", "--against", &text, "6", "7"]));
    tour.stdout.wait_for_line(" 6 fatal-reset     FAIL");
    serve_until_reset(TcpListener::bind(address).expect("the port is free again"));
    assert_eq!(tour.wait(), 5, "{}", tour.stdout.text());
    tour.wait_for_eof();
    assert!(!tour.stdout.text().contains("not judged"), "{}", tour.stdout.text());
}

#[test]
fn an_unreachable_server_is_exit_status_3() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    drop(listener);
    let parts = [&format!("cannot reach the server at {address}: connection refused over TCP"), "start the server"];
    assert_error(&try_server(&address, &[]), 3, &parts);
    assert_error(&try_server(&address, &["--json", "6"]), 3, &parts);
    assert_error(&try_server("no-such-name.invalid:1", &["6"]), 3, &["cannot reach the server", "name"]);
}

#[test]
fn a_mode_that_does_not_fit_is_one_error_with_the_mode_that_does() {
    for (server_mode, tour_mode, part) in [
        ("greet", "echo", "it sent \"Hello, TCP Client!\" and closed the connection; write --mode greet"),
        ("greet", "line", "write --mode greet"),
        ("banner", "echo", "at connect it sent \"Hello, TCP Client!\"; write --mode greet"),
        ("line", "echo", "it sent \"Hello, TCP Client!\\n\" and kept the connection open; write --mode line"),
    ] {
        let server = HALLOO.start(&["--listen", "127.0.0.1:0", "--mode", server_mode]);
        let output = try_server(&server.tcp().to_string(), &["--mode", tour_mode]);
        assert_error(&output, 2, &[&format!("does not do what --mode {tour_mode} says"), part]);
    }
}

#[test]
fn a_server_that_does_what_no_mode_says_is_exit_status_3() {
    // Connections wait in the backlog.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    let parts = ["it sent nothing within 2s", "sends input back, replies to each line, or greets"];
    assert_error(&try_server(&address, &["6"]), 3, &parts);
}

#[test]
fn every_mode_is_tried_on_a_server_that_does_it() {
    for mode in ["echo", "line", "greet"] {
        let server = HALLOO.start(&["--listen", "127.0.0.1:0", "--mode", mode, "--udp-rate", "100"]);
        let output = try_server(&server.tcp().to_string(), &["--mode", mode, "1", "6"]);
        assert_eq!(output.status, 0, "{mode}: {output:?}");
        assert!(output.stdout.contains(&format!("(--mode {mode})")), "{output:?}");
    }
}

#[test]
fn cases_of_a_protocol_that_is_not_served_cannot_be_judged() {
    let server = HALLOO.start(&["--tcp", "127.0.0.1:0", "--mode", "echo"]);
    let output = try_server(&server.tcp().to_string(), &["2", "12", "7"]);
    assert_eq!(output.status, 0, "{output:?}");
    assert!(output.stdout.contains("Note: the server does not reply over UDP."), "{output:?}");
    assert!(output.stdout.ends_with("\n1 passed, 0 failed, 2 cannot be judged\n"), "{output:?}");

    let server = HALLOO.start(&["--udp", "127.0.0.1:0", "--mode", "echo"]);
    let output = try_server(&server.udp().to_string(), &["2", "7", "--json"]);
    assert_eq!(output.status, 0, "{output:?}");
    let objects = objects(&output);
    assert_eq!((&objects[0]["verdict"], &objects[1]["verdict"]), (&"pass".into(), &"cannot-be-judged".into()));
    assert_eq!(objects[1]["came"], "the server does not serve TCP: connection refused");
}

#[test]
fn exit_status_5_if_no_case_could_be_judged() {
    let server = HALLOO.start(&["--tcp", "127.0.0.1:0", "--mode", "echo"]);
    let output = try_server(&server.tcp().to_string(), &["2", "12"]);
    assert_eq!(output.status, 5, "{output:?}");
    assert!(output.stdout.ends_with("\n0 passed, 0 failed, 2 cannot be judged\n"), "{output:?}");
}

/// The paragraphs before the first verdict, without line breaks.
#[track_caller]
fn preamble(arguments: &[&str]) -> String {
    let server = HALLOO.start(&["--tcp", "127.0.0.1:0", "--mode", "echo"]);
    let output = try_server(&server.tcp().to_string(), arguments);
    output.stdout.split_once("It serves ").expect("it is printed").0.replace('\n', " ")
}

#[test]
fn what_the_cases_need_and_how_long_they_take_comes_first() {
    let text = preamble(&["12", "9", "8", "11", "--slow", "wait"]);
    let slow = "To be judged in the cases 9 and 11: it replies to the line \"wait\" (--slow), sent alone, after 300 ms of work";
    let time = "A case takes a few seconds; one that is not done within 20s fails.";
    for part in [slow, "To be judged in the case 8: it was started with few descriptors, after ulimit -n 64.", time] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let text = preamble(&["2"]);
    assert!(text.contains(time) && !text.contains("To be judged"), "{text}");
}

#[test]
fn a_server_that_ends_in_its_last_case_is_exit_status_5() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    thread::spawn(move || {
        // The first contact, case 4, and a calm client. The next one ends the server.
        let mut buffer = [0; 4096];
        let mut is_last = false;
        while let Ok((mut stream, _)) = listener.accept() {
            while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
                if is_last {
                    return;
                }
                let _ = stream.write_all(&buffer[..bytes]);
                is_last = buffer.starts_with(b"still there?");
            }
        }
    });
    let output = try_server(&address, &["7", "4", "--json"]);
    assert_eq!(output.status, 5, "{output:?}");
    let objects = objects(&output);
    assert_eq!((&objects[0]["verdict"], &objects[1]["verdict"]), (&"pass".into(), &"cannot-be-judged".into()));
    assert_eq!(objects[1]["came"], "the server ended; see case 6");
}

#[test]
fn a_server_that_echoes_over_tcp_and_greets_over_udp_is_judged_over_tcp() {
    let echo = HALLOO.start(&["--tcp", "127.0.0.1:0", "--mode", "echo"]);
    let address: SocketAddr = echo.tcp();
    let _greeter = HALLOO.start(&["--udp", &address.to_string()]);
    let output = try_server(&address.to_string(), &["2", "7"]);
    assert_eq!(output.status, 0, "{output:?}");
    assert!(
        output
            .stdout
            .replace('\n', " ")
            .contains("over UDP the server does not echo: it replied with \"Hello, UDP Client!\""),
        "{output:?}"
    );
}

#[test]
#[ignore = "needs IPv6"]
fn the_first_address_of_a_name_that_answers_is_tried() {
    let server = HALLOO.start(&["--listen", "[::1]:0", "--mode", "echo", "--udp-rate", "100"]);
    let output = try_server(&format!("localhost:{}", server.tcp().port()), &["1", "2", "7", "12"]);
    assert_eq!(output.status, 0, "{output:?}");
    // Of case 12 a second address could not be asked.
    assert!(output.stdout.ends_with("\n3 passed, 0 failed, 1 cannot be judged\n"), "{output:?}");
}
