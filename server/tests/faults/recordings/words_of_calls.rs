//! The calls in a page, compared with those that strace prints.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;

use support::network::tcp::{connect, half_close};

use crate::recordings::clients_under_load::{put_load_on, send_datagrams};
use crate::recordings::traced_server::TracedServer;

/// Prints the system call of each entry of a page.
const PRINT: &str = r"
const folder = process.argv[1];
const { decodeRecording } = await import(`${folder}/recording/decode.js`);
const { Replay } = await import(`${folder}/recording/replay.js`);
const { systemCallOf } = await import(`${folder}/words/system_call.js`);
const page = (await import('node:fs')).readFileSync(process.argv[2], 'utf8');
const recording = decodeRecording(JSON.parse(/id=.recording.>(.*?)<\/script>/s.exec(page)[1]));
const replay = new Replay(recording);
for (let index = 0; index < recording.entryCount; index += 1) {
  const call = systemCallOf(recording, replay.before(index), index);
  if (call !== null) console.log(call);
}
";

/// The calls in the words of a page. The begin of a poll is the same call as its end.
#[track_caller]
fn calls_in_page(page: &Path) -> Vec<String> {
    let mut command = Command::new("node");
    command.args(["--input-type=module", "--eval", PRINT, concat!(env!("CARGO_MANIFEST_DIR"), "/page")]).arg(page);
    let output = command.output().expect("node is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).expect("text");
    lines.lines().filter(|line| !line.ends_with("<unfinished ...>")).map(str::to_owned).collect()
}

/// Replaces each shortest part from one mark up to another, which stays.
fn replace_parts(text: &str, from: &str, to: &str, with: &str) -> String {
    let (mut rest, mut replaced) = (text, String::new());
    while let Some((before, part)) = rest.split_once(from) {
        let end = part.find(to).unwrap_or_else(|| panic!("no {to} after {from} in {text}"));
        replaced.push_str(before);
        replaced.push_str(with);
        rest = &part[end..];
    }
    replaced + rest
}

/// A line of strace, with what no recording has as the page writes it.
fn as_in_page(line: &str) -> String {
    let (call, result) = line.rsplit_once(" = ").unwrap_or_else(|| panic!("not a call: {line}"));
    let (name, arguments) = call.trim_end().split_once('(').unwrap_or_else(|| panic!("not a call: {line}"));
    let call = match name {
        // The descriptor of the epoll, the data of events, and the memory of the arguments.
        "epoll_wait" | "epoll_ctl" => {
            let (_, arguments) = arguments.split_once(',').expect("a second argument");
            let arguments = replace_parts(arguments, "data={", "}", "...");
            format!("?,{}", arguments.replace("...}}", "...}"))
        }
        // The flags of a write: whether a FIN follows.
        "sendto" if arguments.ends_with(", NULL, 0)") => arguments
            .replace("MSG_NOSIGNAL|MSG_MORE,", "MSG_NOSIGNAL|...,")
            .replace("MSG_NOSIGNAL,", "MSG_NOSIGNAL|...,"),
        // The room for a datagram, and control messages.
        "recvmmsg" | "sendmmsg" => {
            let arguments = replace_parts(arguments, "msg_control", "}, msg_len=", "...");
            if name == "recvmmsg" { replace_parts(&arguments, "iov_len=", "}", "iov_len=...") } else { arguments }
        }
        _ => arguments.to_owned(),
    };
    let call = replace_parts(&format!("{name}({call}"), ", 0x", ",", ", ...");
    // The bytes of a write that has failed.
    let call = if name == "sendto" && result.starts_with("-1") { without_bytes(&call) } else { call };
    // The result of a close, which the loop ignores.
    format!("{call} = {}", if name == "close" { "?" } else { result })
}

/// A write without its bytes: they end before the length and the flags.
fn without_bytes(call: &str) -> String {
    let (start, _) = call.split_once('"').expect("bytes");
    let (rest, flags) = call.rsplit_once(", MSG_NOSIGNAL").expect("flags");
    let (_, length) = rest.rsplit_once(", ").expect("a length");
    format!("{start}\"...\", {length}, MSG_NOSIGNAL{flags}")
}

/// The descriptor that a call is about. A poll has none.
fn descriptor_of(call: &str) -> Option<u32> {
    let (name, arguments) = call.split_once('(')?;
    let index = if name == "epoll_ctl" { 2 } else { 0 };
    arguments.split(", ").nth(index)?.trim_end_matches(|letter: char| !letter.is_ascii_digit()).parse().ok()
}

/// Whether the page has this call. How the datagrams of a call were divided into messages may not be recorded. The
/// buffers of several datagrams in one message are not, nor is the address of a filter.
fn is_same(in_page: &str, traced: &str) -> bool {
    // The messages contain lists, so the last bracket ends them.
    let without_messages = || {
        let ((before, _), (_, after)) = traced.split_once(", [{").zip(traced.rsplit_once("], "))?;
        Some(format!("{before}, [...], {after}"))
    };
    let without_buffers = || {
        let ((before, _), (_, after)) = traced.split_once("msg_iov=[{").zip(traced.rsplit_once(", ...}, msg_len="))?;
        Some(format!("{before}msg_iov=[...], msg_iovlen=..., ...}}, msg_len={after}"))
    };
    let without_filter = || {
        let (before, after) = traced.split_once("filter=")?;
        Some(format!("{before}filter=...{}", after.get(after.find('}')?..)?))
    };
    if in_page.contains("SO_ATTACH_FILTER") {
        return without_filter().is_some_and(|call| call == in_page);
    }
    let shortened = || [without_messages(), without_buffers()].into_iter().flatten();
    in_page == traced || in_page.starts_with("sendmmsg(") && shortened().any(|call| call == in_page)
}

/// Compares in order. Only calls about descriptors that are not of the loop may be missing in the page.
fn compare_lines(in_page: &[String], traced: &[String]) {
    let descriptors: BTreeSet<u32> = in_page.iter().filter_map(|call| descriptor_of(call)).collect();
    let (mut closed, mut next) = (BTreeSet::new(), 0);
    for call in in_page {
        while !is_same(call, &traced[next]) {
            let is_of_loop = descriptor_of(&traced[next])
                .is_none_or(|descriptor| descriptors.contains(&descriptor) && !closed.contains(&descriptor));
            assert!(!is_of_loop, "the page has\n{call}\nstrace has\n{}", traced[next]);
            next += 1;
            assert!(next < traced.len(), "strace does not have\n{call}");
        }
        next += 1;
        match (call.starts_with("close("), call.starts_with("accept4(") && !call.contains(" = -1 ")) {
            (true, _) => drop(descriptor_of(call).map(|descriptor| closed.insert(descriptor))),
            (_, true) => {
                let opened = call.rsplit(' ').next().and_then(|number| number.parse().ok());
                closed.remove(&opened.unwrap_or_else(|| panic!("no descriptor: {call}")));
            }
            _ => {}
        }
    }
}

/// Serves every kind of client, and compares the calls.
#[track_caller]
fn compare_under_load(mode: &str) -> Vec<String> {
    let traced = TracedServer::start_for_page(&["--listen", "127.0.0.1:0", "--mode", mode]);
    let (server, streams) = (&traced.server, traced.stream_addresses());
    let silent = put_load_on(server, &streams);
    send_datagrams(server, server.udp());
    // Bytes that strace escapes: control characters, a digit after an octal number, quotes, UTF-8, others.
    let mut client = connect(server.tcp());
    client.write_all(b"\x00\x001\x078\x7f\xff\"\\\t\r\x0b\x0c\xc3\xa4 end\n").expect("there is room");
    half_close(&client);
    client.read_to_end(&mut Vec::new()).expect("the server replies and closes");
    // The silent clients are still connected, and are reset.
    let (_folder, page, trace) = traced.end_with_page();
    drop(silent);
    let in_page = calls_in_page(&page);
    let lines = trace.lines().filter(|line| !line.starts_with("+++ ") && !line.contains(" = ? ERESTART"));
    // Those that start or end the merging of received datagrams are not recorded.
    let lines = lines.filter(|line| !line.contains(", SOL_UDP, UDP_GRO, ") && !line.contains(", MSG_PEEK, "));
    let traced: Vec<String> = lines.skip_while(|line| !line.starts_with("epoll_wait(")).map(as_in_page).collect();
    compare_lines(&in_page, &traced);
    in_page
}

#[test]
#[ignore = "needs strace and node"]
fn the_calls_in_a_page_are_those_that_strace_prints() {
    let mut seen = compare_under_load("greet");
    seen.extend(compare_under_load("echo"));
    for part in [
        "AF_INET, ",
        "{sa_family=AF_UNIX}, [110 => 2]",
        "EPOLL_CTL_ADD",
        "EPOLLRDHUP, ...}",
        "recvfrom(",
        r#""\0\0001\78\177\377\"\\\t\r\v\f\303\244 end\n""#,
        "sendto(",
        " = -1 EAGAIN (Resource temporarily unavailable)",
        "recvmmsg(",
        "sendmmsg(",
        "SHUT_WR",
        "SO_ATTACH_FILTER, {len=8, filter=...}, 16) = 0",
        "TCP_NOTSENT_LOWAT, [1], 4) = 0",
        "SO_DETACH_FILTER, [0], 4) = 0",
        "SO_LINGER, {l_onoff=1, l_linger=0}, 8) = 0",
        "close(",
    ] {
        assert!(seen.iter().any(|call| call.contains(part)), "no call has {part}");
    }
}
