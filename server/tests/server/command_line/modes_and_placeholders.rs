//! The reply of each `--mode`, and the placeholders of a greeting.

use support::network::streams::{GREETING, REQUEST, read_exactly, read_to_end, read_until_closed, send};
use support::network::tcp::{connect, half_close, request, request_with};
use support::network::udp::{UDP_GREETING, UDP_REQUEST, recv, request_udp, try_recv, udp_client};
use support::process::server::Server;
use support::wait::wait_for;

use crate::HALLOO;

fn start(mode: &str) -> Server {
    HALLOO.start(&["--listen", "127.0.0.1:0", "--mode", mode])
}

#[test]
fn greet_answers_the_first_bytes_and_closes() {
    let server = start("greet");
    let client = connect(server.tcp());
    client.set_nonblocking(true).expect("an option of every stream");
    let early_read = std::io::Read::read(&mut &client, &mut [0; 8]);
    assert_eq!(early_read.expect_err("nothing was asked").kind(), std::io::ErrorKind::WouldBlock);
    client.set_nonblocking(false).expect("an option of every stream");
    send(&client, REQUEST);
    assert_eq!(read_to_end(&client), GREETING);
    assert_eq!(request_udp(server.udp(), UDP_REQUEST), UDP_GREETING);
}

#[test]
fn banner_answers_without_a_question_and_closes() {
    let server = start("banner");
    assert_eq!(read_to_end(&connect(server.tcp())), GREETING);
    // A client that half-closes before it reads gets no reset either.
    assert_eq!(request_with(server.tcp(), b""), GREETING);
    assert_eq!(request_udp(server.udp(), UDP_REQUEST), UDP_GREETING);
}

#[test]
fn line_answers_each_line_with_a_line_and_stays_open() {
    let server = start("line");
    let client = connect(server.tcp());
    let answer = format!("{GREETING}\n");
    for question in ["one\n", "two\r\n", "\n", "three\nfour\n"] {
        send(&client, question.as_bytes());
        let answers = answer.repeat(question.matches('\n').count());
        assert_eq!(read_exactly(&client, answers.len()), answers.as_bytes(), "to {question:?}");
    }
    half_close(&client);
    assert_eq!(read_to_end(&client), "");
    assert_eq!(request_udp(server.udp(), UDP_REQUEST), UDP_GREETING);
    let texts = wait_for("the lines", || Some(server.event_lines()).filter(|events| events.len() == 6));
    let texts: Vec<&str> = texts.iter().filter_map(|event| event.splitn(4, ' ').nth(3)).collect();
    assert_eq!(texts, ["one", "two", "three", "four", "Hello, UDP Server!"]);
}

#[test]
fn in_line_mode_an_unterminated_last_line_is_answered_at_eof() {
    let server = start("line");
    let answer = format!("{GREETING}\n");
    for (questions, lines) in
        [("one", 1), ("one\ntwo", 2), ("one\r\n\rtwo\r", 2), ("one\n", 1), ("one\n\r", 1), ("\r", 0)]
    {
        assert_eq!(request_with(server.tcp(), questions.as_bytes()), answer.repeat(lines), "to {questions:?}");
    }
    let events = wait_for("the lines", || Some(server.event_lines()).filter(|events| events.len() == 7));
    for (event, text) in events.iter().zip([" one", " one", " two", " one", r" \rtwo", " one", " one"]) {
        assert!(event.ends_with(text), "{event}");
    }
}

#[test]
fn echo_sends_its_input_back_and_prints_the_total_at_the_end() {
    let server = start("echo");
    let client = connect(server.tcp());
    for part in ["one", "two", "three"] {
        send(&client, part.as_bytes());
        assert_eq!(read_exactly(&client, part.len()), part.as_bytes());
    }
    assert_eq!(server.event_lines(), Vec::<String>::new(), "an event before the end of the connection");
    half_close(&client);
    assert_eq!(read_to_end(&client), "");
    assert!(server.stdout.wait_for_line("tcp 127.0.0.1:").ends_with(" bytes=11 onetwothree"));
    assert_eq!(request_udp(server.udp(), b"once"), "once");
    assert!(server.stdout.wait_for_line("udp 127.0.0.1:").ends_with(" bytes=4 once"));
}

#[test]
fn discard_reads_everything_and_answers_nothing() {
    let server = start("discard");
    assert_eq!(request_with(server.tcp(), &vec![b'x'; 100_000]), "");
    assert!(server.stdout.wait_for_line("tcp 127.0.0.1:").contains(" bytes=100000 "));
    let client = udp_client(server.udp());
    client.send(b"nothing to say").expect("loopback takes it");
    server.stdout.wait_for_line("udp 127.0.0.1:");
    assert_eq!(try_recv(&client), None);
}

#[test]
fn each_placeholder_is_replaced_by_its_value() {
    let greeting = "{{{peer}}} at {local} over {protocol}, number {number} on {hostname}";
    let server = HALLOO.start(&["--listen", "127.0.0.1:0", "--greeting", greeting]);
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("this machine has a name");
    let hostname = hostname.trim();
    let client = connect(server.tcp());
    send(&client, REQUEST);
    let (client_address, address) = (client.local_addr().expect("it is connected"), server.tcp());
    assert_eq!(read_to_end(&client), format!("{{{client_address}}} at {address} over tcp, number 1 on {hostname}"));
    let client = udp_client(server.udp());
    client.send(UDP_REQUEST).expect("loopback takes it");
    let (client_address, address) = (client.local_addr().expect("it is connected"), server.udp());
    let expected = format!("{{{client_address}}} at {address} over udp, number 2 on {hostname}");
    assert_eq!(String::from_utf8(recv(&client)).expect("UTF-8"), expected);
}

#[test]
#[ignore = "needs unshare"]
fn the_hostname_is_that_of_the_system_also_without_proc() {
    // In new namespaces: another host name, and an empty folder in place of /proc.
    let script = "hostname box-of-a-test && mount -t tmpfs none /proc && exec \"$0\" \"$@\"";
    let wrapper = ["unshare", "--user", "--map-root-user", "--uts", "--mount", "sh", "-c", script];
    let arguments = ["--tcp", "127.0.0.1:0", "--greeting", "{hostname}"];
    let server = Server::start(HALLOO.command_under(&wrapper, &arguments));
    assert_eq!(request(server.tcp()), "box-of-a-test");
}

#[test]
fn a_greeting_for_one_protocol_overrides_the_common_one() {
    let server = HALLOO.start(&["--listen", "127.0.0.1:0", "--greeting", "both", "--udp-greeting", "datagram"]);
    assert_eq!((request(server.tcp()), request_udp(server.udp(), b"")), ("both".to_owned(), "datagram".to_owned()));
    let server = HALLOO.start(&["--listen", "127.0.0.1:0", "--tcp-greeting", "-stream"]);
    assert_eq!(
        (request(server.tcp()), request_udp(server.udp(), b"")),
        ("-stream".to_owned(), UDP_GREETING.to_owned())
    );
}

#[test]
fn in_line_mode_a_line_of_16_kib_is_answered_and_a_longer_one_closes_the_connection() {
    let server = start("line");
    let longest = "x".repeat(16 * 1024);
    let client = connect(server.tcp());
    send(&client, format!("{longest}\n").as_bytes());
    assert_eq!(read_exactly(&client, GREETING.len() + 1), format!("{GREETING}\n").as_bytes());
    send(&client, format!("{longest}x").as_bytes());
    assert_eq!(read_until_closed(&client), b"");
}
