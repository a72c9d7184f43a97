//! The flags of greetings: contents, files, and single listeners.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use serde_json::Value;
use support::network::streams::{GREETING, read_exactly, read_to_end, send};
use support::network::tcp::{connect, request, request_with};
use support::network::udp::{UDP_GREETING, UDP_REQUEST, recv, request_udp, try_recv, udp_client};
use support::process::server::{Server, assert_fails};
use support::wait::{TIMEOUT, wait_until};

use crate::HALLOO;
use crate::unix::temporary_socket_path::SocketPath;

fn start(greeting: &str) -> Server {
    HALLOO.start(&["--listen", "127.0.0.1:0", "--greeting", greeting])
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_greeting_contains_the_parts_of_the_address_the_time_and_what_was_received() {
    let server = start("{peer_ip} {peer_port} {time} <{received}>");
    let client = connect(server.tcp());
    let port = client.local_addr().expect("it is connected").port();
    send(&client, b"who am I\n");
    let reply = read_to_end(&client);
    let parts: Vec<&str> = reply.splitn(4, ' ').collect();
    assert_eq!((parts[0], parts[1], parts[3]), ("127.0.0.1", port.to_string().as_str(), "<who am I\n>"), "{reply}");
    assert!(parts[2].len() == 24 && parts[2].starts_with("20") && parts[2].ends_with('Z'), "{reply}");
    // A client that half-closes at once has sent nothing.
    assert!(request_with(server.tcp(), b"").ends_with(" <>"));
}

#[test]
fn each_line_is_received_without_its_end_and_a_banner_receives_nothing() {
    let server = HALLOO.start(&["--tcp", "127.0.0.1:0", "--mode", "line", "--greeting", "{received}!"]);
    let client = connect(server.tcp());
    send(&client, "one\r\n\u{fc}\n".as_bytes());
    assert_eq!(read_exactly(&client, 9), "one!\n\u{fc}!\n".as_bytes());
    let server = HALLOO.start(&["--tcp", "127.0.0.1:0", "--mode", "banner", "--greeting", "<{received}>"]);
    assert_eq!(read_to_end(&connect(server.tcp())), "<>");
}

#[test]
fn of_long_input_a_greeting_contains_1024_bytes() {
    let server = HALLOO.start(&["--tcp", "127.0.0.1:0", "--mode", "line", "--greeting", "{received}|{received}"]);
    let longest = "x".repeat(16 * 1024);
    assert_eq!(request_with(server.tcp(), longest.as_bytes()), format!("{0}|{0}\n", &longest[..1024]));
    // Together they would be longer than a greeting can be.
    let output = HALLOO.run(&["--greeting", &"{received}".repeat(17)]);
    assert_fails(&output, 2, &["the greeting is too long"]);
}

#[test]
fn over_udp_a_greeting_with_what_was_received_is_shorter_than_the_question() {
    let server = start("you said <{received}>");
    for question in ["hi", "hello, hello", "twenty characters...", "\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}"] {
        let reply = request_udp(server.udp(), question.as_bytes());
        assert!(reply.len() < question.len(), "{reply}");
    }
    assert_eq!(request_udp(server.udp(), b"twenty characters..."), "you said <twenty c>");
    let client = udp_client(server.udp());
    for question in ["", "ask"] {
        client.send(question.as_bytes()).expect("loopback takes it");
    }
    assert_eq!(recv(&client), b"yo");
    assert_eq!(try_recv(&client), None, "an empty datagram was answered");
}

#[test]
fn a_long_text_around_what_was_received_is_a_warning_if_udp_is_served() {
    const TEXT: &str = "Thank you for the message {received}";
    const WARNING: &str = "over UDP the greeting with {received} is cut";
    for (arguments, is_warned) in [
        (&["--listen", "127.0.0.1:0", "--greeting", TEXT][..], true),
        (&["--udp", "127.0.0.1:0", "--greeting-for", "udp:127.0.0.1:0=Thank you for the message {received}"], true),
        (&["--tcp", "127.0.0.1:0", "--greeting", TEXT], false),
        (&["--listen", "127.0.0.1:0", "--greeting", TEXT, "--udp-greeting", "hi"], false),
        (&["--listen", "127.0.0.1:0", "--greeting", "you said {received}"], false),
    ] {
        let output = HALLOO.run(&[arguments, &["--exit-when-idle", "50ms"]].concat());
        let warnings: Vec<&str> = output.stderr.lines().filter(|line| line.contains(WARNING)).collect();
        assert_eq!(warnings.len(), usize::from(is_warned), "{arguments:?}: {output:?}");
        let has_way_out = |line: &&str| line.contains("--udp-greeting") && line.contains("--greeting-for udp:");
        assert!(warnings.iter().all(has_way_out), "{output:?}");
    }
}

/// Passes the answer of each server on to the other one, and returns the number of answers until one is missing.
fn datagrams_between(greetings: [&str; 2], question: &[u8]) -> u64 {
    let start = |greeting: &str| HALLOO.start(&["--udp", "127.0.0.1:0", "--udp-greeting", greeting, "--events", "off"]);
    let servers = greetings.map(start);
    let (first, second) = (servers[0].udp(), servers[1].udp());
    // A server cannot distinguish its relay from the other server.
    let relays = [first, second].map(|server| {
        let relay = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        relay.connect(server).expect("loopback");
        relay.set_read_timeout(Some(Duration::from_millis(500))).expect("an option of every socket");
        relay
    });
    let (mut message, mut count, mut buffer) = (question.to_vec(), 0_u64, vec![0; 65_536]);
    let start = std::time::Instant::now();
    loop {
        let relay = &relays[usize::try_from(count % 2).expect("0 or 1")];
        relay.send(&message).expect("loopback takes it");
        let Ok(length) = relay.recv(&mut buffer) else { return count };
        assert!(count == 0 || length < message.len(), "it does not shrink: {length} after {}", message.len());
        message = buffer[..length].to_vec();
        count += 1;
        assert!(start.elapsed() < TIMEOUT, "it does not end");
    }
}

#[test]
fn two_servers_that_answer_each_other_end() {
    for greetings in [
        ["{received}", "{received}"],
        ["a{received}", "b{received}"],
        ["Hello, {received}!", "Hello, {received}!"],
        ["{received}{received}{received}", "{peer} {time} {received}"],
        ["{received}", "{json}{received}"],
    ] {
        let count = datagrams_between(greetings, &[b'x'; 300]);
        assert!(count <= 300, "{greetings:?}: {count} answers");
    }
    // The default greeting is recognized by every server.
    for greeting in ["{received}", "{json}", "hi {received}"] {
        let count = datagrams_between([greeting, "Hello, UDP Client!"], &[b'x'; 300]);
        assert_eq!(count, 2, "{greeting}");
    }
    // The same greeting is recognized, whatever is in it.
    for greeting in ["{json}", "{peer_ip}:{peer_port} at {time}\n", "#{number} {time}"] {
        assert_eq!(datagrams_between([greeting, greeting], b"hello"), 1, "{greeting}");
    }
}

#[test]
fn json_contains_all_that_is_known_of_a_client() {
    let server = start("{json}");
    let client = connect(server.tcp());
    let address = client.local_addr().expect("it is connected");
    send(&client, b"say \"hi\"\xff\n");
    let value = parse(&read_to_end(&client));
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname").expect("this machine has a name");
    for (field, expected) in [
        ("hostname", hostname.trim().into()),
        ("version", env!("CARGO_PKG_VERSION").into()),
        ("mode", "greet".into()),
        ("protocol", "tcp".into()),
        ("number", 1.into()),
        ("peer", address.to_string().into()),
        ("peer_ip", "127.0.0.1".into()),
        ("peer_port", address.port().into()),
        ("local", server.tcp().to_string().into()),
        ("proxy", Value::Null),
        ("bytes", 10.into()),
        ("received", "say \"hi\"\u{fffd}\n".into()),
        ("truncated", false.into()),
    ] {
        assert_eq!(value[field], expected, "{field}");
    }
    assert_eq!(value.as_object().expect("an object").len(), 14, "{value}");
    let value = parse(&request_udp(server.udp(), UDP_REQUEST));
    assert_eq!((&value["protocol"], &value["bytes"], value.get("received")), (&"udp".into(), &18.into(), None));
}

#[test]
fn json_contains_the_proxy_that_has_sent_the_address_of_the_client() {
    let arguments = ["--listen", "127.0.0.1:0", "--greeting", "{json}", "--proxy-protocol", "127.0.0.1"];
    let server = HALLOO.start(&arguments);
    let proxy = connect(server.tcp());
    let address = proxy.local_addr().expect("it is connected");
    send(&proxy, b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 80\r\nhello");
    let value = parse(&read_to_end(&proxy));
    assert_eq!((&value["peer"], &value["proxy"]), (&"192.0.2.7:4711".into(), &address.to_string().into()));
    assert_eq!((&value["peer_port"], &value["bytes"]), (&4711.into(), &5.into()));
}

#[test]
fn a_client_of_a_unix_socket_has_no_address_in_its_greeting() {
    let socket_path = SocketPath::new();
    let server = socket_path.start_server(&["--greeting", "{peer_ip} {peer_port}"]);
    assert_eq!(socket_path.request(), "unix -");
    drop(server);
    let _server = socket_path.start_server(&["--greeting", "{json}"]);
    let value = parse(&socket_path.request());
    assert_eq!((&value["peer"], &value["peer_ip"], &value["peer_port"]), (&Value::Null, &Value::Null, &Value::Null));
    assert_eq!((&value["protocol"], &value["local"]), (&"unix".into(), &socket_path.as_str().into()));
}

#[test]
fn a_greeting_is_read_from_a_file_at_the_start() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("greeting.txt");
    fs::write(&path, "Hello, {peer_ip}!\\n\nline two \\x41\\u{e9}\n").expect("a new file");
    let path_text = path.to_str().expect("a plain path");
    let server = HALLOO.start(&["--listen", "127.0.0.1:0", "--greeting-file", path_text]);
    fs::remove_file(&path).expect("it exists");
    let expected = "Hello, 127.0.0.1!\n\nline two A\u{e9}";
    assert_eq!((request(server.tcp()).as_str(), request_udp(server.udp(), UDP_REQUEST).as_str()), (expected, expected));
}

#[test]
fn a_typed_greeting_wins_over_the_variable_of_a_file_which_is_not_read() {
    let mut command = HALLOO.command(&["--tcp", "127.0.0.1:0", "--greeting", "typed"]);
    command.env("HALLOO_GREETING_FILE", "/none");
    let server = Server::start(command);
    assert_eq!(request(server.tcp()), "typed");
    server.stderr.wait_for_line("HALLOO_GREETING_FILE=/none has no effect beside --greeting typed");
}

#[test]
fn a_file_that_is_no_greeting_is_an_error_at_the_start() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).expect("a new file");
        path.to_str().expect("a plain path").to_owned()
    };
    let missing = folder.path().join("none").to_str().expect("a plain path").to_owned();
    for (path, status, part) in [
        (missing, 3, "no such file or directory; name a readable file with --greeting-file"),
        (folder.path().to_str().expect("a plain path").to_owned(), 3, "is a directory"),
        ("/dev/zero".to_owned(), 2, "too long"),
        (file("empty", b"\n"), 2, "it is empty"),
        (file("bytes", b"a\xff"), 2, "not valid UTF-8"),
        (file("unknown", b"{x}"), 2, "the placeholder {x} is unknown"),
    ] {
        assert_fails(&HALLOO.run(&["--tcp", "127.0.0.1:0", "--greeting-file", &path]), status, &[&path, part]);
    }
}

#[test]
fn every_text_with_escapes_is_read_in_the_same_way() {
    // All escapes, and none of another kind.
    let (escaped, bytes) = (r"\n\r\t\0\\\x41\u{e9}", "\n\r\t\0\\A\u{e9}");
    let server = start(escaped);
    let probe = HALLOO.run(&["probe", &server.tcp().to_string(), "--tcp", "--send", escaped, "--expect", escaped]);
    assert_eq!(probe.status, 0, "{probe:?}");
    assert_eq!(request(server.tcp()), bytes);
    wait_until("the request", || server.event_lines().len() == 2);
    // Printed text is an argument again. In a greeting only a brace is written twice.
    assert!(server.event_lines()[0].ends_with(&format!(" {}", escaped.replace(r"\x41\u{e9}", "A\u{e9}"))));
    for arguments in [
        &["--greeting", r"\q"][..],
        &["--greeting-for", r"9000=\q"],
        &["probe", "9", "--send", r"\q"],
        &["probe", "9", "--expect", r"\q"],
        &["tour", "--against", "9", "--slow", r"\q"],
    ] {
        let hint =
            r"\q is not an escape; write a backslash itself double; escapes are \n, \r, \t, \0, \\, \xNN and \u{N}";
        assert_fails(&HALLOO.run(arguments), 2, &[hint]);
    }
}

// ---- single listeners ------------------------------------------------------------------------------------------------

/// Two addresses with a free port each, and these flags.
fn start_two(flags: &[&str]) -> Server {
    HALLOO.start(&[&["--listen", "127.0.0.1:0", "--listen", "127.0.0.2:0"], flags].concat())
}

/// The greetings over TCP and UDP at both addresses.
fn greetings(server: &Server) -> Vec<String> {
    let addresses = server.ready_addresses();
    let of = |prefix: &str| -> Vec<SocketAddr> {
        addresses
            .iter()
            .filter_map(|one| one.strip_prefix(prefix))
            .map(|text| text.parse().expect("an address"))
            .collect()
    };
    let udp = of("udp=").into_iter().map(|address| request_udp(address, UDP_REQUEST));
    of("tcp=").into_iter().map(request).chain(udp).collect()
}

#[test]
fn each_socket_has_the_greeting_of_its_most_precise_name() {
    let flags = ["--greeting", "all", "--greeting-for", "udp:127.0.0.2:0=udp two", "--greeting-for", "127.0.0.2:0=two"];
    for workers in ["1", "3"] {
        let server = start_two(&[&flags[..], &["--workers", workers]].concat());
        assert_eq!(greetings(&server), ["all", "two", "all", "udp two"]);
    }
}

#[test]
fn the_variable_has_a_greeting_on_each_line() {
    let mut command = HALLOO.command(&["--listen", "127.0.0.1:0", "--listen", "127.0.0.2:0"]);
    command.env("HALLOO_GREETING_FOR", "127.0.0.1:0=one, or 1\ntcp:127.0.0.2:0=a=b\n");
    let server = Server::start(command);
    assert_eq!(greetings(&server), ["one, or 1", "a=b", "one, or 1", UDP_GREETING]);
}

#[test]
fn a_unix_socket_has_a_greeting_of_its_own() {
    let socket_path = SocketPath::new();
    let flag = format!("unix:{}=Hello, file!", socket_path.as_str());
    let server = socket_path.start_server(&["--tcp", "127.0.0.1:0", "--greeting-for", &flag]);
    assert_eq!((socket_path.request().as_str(), request(server.tcp()).as_str()), ("Hello, file!", GREETING));
}

#[test]
fn a_greeting_for_a_socket_that_is_not_served_is_an_error_with_the_sockets() {
    let output = HALLOO.run(&["--tcp", "127.0.0.1:0", "--udp", "127.0.0.2:0", "--greeting-for", "9001=x"]);
    let name = "--greeting-for: no socket of this server has the name 9001";
    assert_fails(&output, 2, &[name, "write one of tcp:127.0.0.1:0 udp:127.0.0.2:0"]);
}

#[test]
fn a_datagram_that_is_the_greeting_of_another_socket_has_no_reply() {
    let server = start_two(&["--greeting-for", "udp:127.0.0.2:0=ping", "--greeting-for", "tcp:127.0.0.2:0=pong"]);
    let client = udp_client(server.udp());
    for datagram in ["ping", "pong"] {
        client.send(datagram.as_bytes()).expect("loopback takes it");
    }
    server.stdout.wait_for_line(" pong");
    assert_eq!(recv(&client), UDP_GREETING.as_bytes());
    assert_eq!(try_recv(&client), None, "the greeting of another socket was answered");
}
