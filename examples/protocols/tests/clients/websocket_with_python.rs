//! `websocket_echo` with the Python client `websockets`, and with invalid frames.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use support::process::child::Process;
use support::process::shell::shell;
use support::wait::TIMEOUT;

use crate::programs::start_example;

fn start_server() -> (Process, SocketAddr) {
    start_example(env!("CARGO_BIN_EXE_websocket_echo"), &["127.0.0.1:0"])
}

/// Runs a script of the `websockets` client, in which `uri` is the server. Debian's Python has the package.
#[track_caller]
fn run_client(at: SocketAddr, script: &str) -> String {
    let script = format!(
        "import asyncio, os, websockets\nuri = 'ws://{at}'\nasync def main():\n    {}\nasyncio.run(main())\n",
        script.trim().replace('\n', "\n    ")
    );
    shell(&format!("/usr/bin/python3 - <<'END'\n{script}END"))
}

#[test]
#[ignore = "needs python3-websockets"]
fn messages_of_every_length_come_back() {
    let (_server, at) = start_server();
    let output = run_client(
        at,
        "
async with websockets.connect(uri, max_size=2**21, compression=None) as ws:
    for size in [0, 1, 125, 126, 127, 65535, 65536, 100000, 2**20]:
        data = os.urandom(size)
        await ws.send(data)
        assert await ws.recv() == data, size
        text = 'ä' * (size // 2)
        await ws.send(text)
        assert await ws.recv() == text, size
    await ws.send(['in ', 'three ', 'frames'])
    print(await ws.recv())
    await (await ws.ping(b'payload'))
    print('pong')
print(ws.close_code)",
    );
    assert_eq!(output, "in three frames\npong\n1000\n");
}

#[test]
#[ignore = "needs python3-websockets"]
fn two_hundred_clients_get_their_own_messages() {
    let (_server, at) = start_server();
    let output = run_client(
        at,
        "
async def client(number):
    async with websockets.connect(uri) as ws:
        for message in range(20):
            await ws.send(f'{number} {message}')
            assert await ws.recv() == f'{number} {message}'
await asyncio.gather(*[client(number) for number in range(200)])
print('all')",
    );
    assert_eq!(output, "all\n");
}

#[test]
#[ignore = "needs python3-websockets"]
fn a_frame_over_the_maximum_is_refused_with_status_1009() {
    let (_server, at) = start_server();
    let output = run_client(
        at,
        "
ws = await websockets.connect(uri)
try:
    await ws.send(bytes(2**20 + 1))
    await ws.recv()
except websockets.ConnectionClosed:
    print(ws.close_code)",
    );
    assert_eq!(output, "1009\n");
}

/// The key and the accept value of RFC 6455 section 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Opens a connection, sends frames, and returns all that follows the response of the handshake.
fn reply_to(at: SocketAddr, frames: &[u8]) -> Vec<u8> {
    let mut client = TcpStream::connect(at).expect("the server listens");
    client.set_read_timeout(Some(TIMEOUT)).expect("an option of every socket");
    let head = format!("Host: {at}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13");
    let request = format!("GET / HTTP/1.1\r\n{head}\r\nSec-WebSocket-Key: {KEY}\r\n\r\n");
    client.write_all(&[request.as_bytes(), frames].concat()).expect("the server reads");
    let mut reply = Vec::new();
    client.read_to_end(&mut reply).expect("the server closes");
    let end = reply.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("the end of the response") + 4;
    let response = String::from_utf8_lossy(&reply[..end]).into_owned();
    assert!(response.starts_with("HTTP/1.1 101 ") && response.contains(ACCEPT), "{response}");
    reply.split_off(end)
}

#[test]
fn invalid_frames_are_answered_with_a_status_and_an_end() {
    let (_server, at) = start_server();
    let masked = |first: u8, payload: &[u8]| {
        [&[first, 0x80 | u8::try_from(payload.len()).expect("a short one")], &[0; 4][..], payload].concat()
    };
    let close = |status: u16| [&[0x88, 2], &status.to_be_bytes()[..]].concat();
    let cases = [
        ("not masked", vec![0x81, 1, b'x'], close(1002)),
        ("reserved bit", masked(0xc1, b"x"), close(1002)),
        ("unknown opcode", masked(0x83, b""), close(1002)),
        ("a continuation of nothing", masked(0x80, b"x"), close(1002)),
        ("a ping in two frames", masked(0x09, b""), close(1002)),
        ("a close frame of one byte", masked(0x88, b"x"), close(1002)),
        ("text that is not UTF-8", masked(0x81, b"\xff"), close(1007)),
        ("a close frame without a status", masked(0x88, b""), vec![0x88, 0]),
        ("a close frame with a status and a reason", masked(0x88, b"\x03\xe8bye"), close(1000)),
        (
            "a frame before it",
            [masked(0x82, b"\xff"), masked(0x83, b"")].concat(),
            [&b"\x82\x01\xff"[..], &close(1002)].concat(),
        ),
        (
            "a character in two frames, then half of one",
            [masked(0x01, b"\xc3"), masked(0x00, b"\xa4"), masked(0x80, b"\xc3")].concat(),
            [&b"\x01\x01\xc3\x00\x01\xa4"[..], &close(1007)].concat(),
        ),
    ];
    for (case, frames, expected) in cases {
        assert_eq!(reply_to(at, &frames), expected, "{case}");
    }
}

#[test]
fn a_request_that_is_no_handshake_is_refused() {
    let (_server, at) = start_server();
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "HTTP/1.1 426 "),
        ("nonsense\r\n\r\n".to_owned(), "HTTP/1.1 400 "),
        (format!("GET / HTTP/1.1\r\nA: {}", "a".repeat(9000)), "HTTP/1.1 400 "),
    ] {
        let mut client = TcpStream::connect(at).expect("the server listens");
        client.set_read_timeout(Some(TIMEOUT)).expect("an option of every socket");
        client.write_all(request.as_bytes()).expect("the server reads");
        let mut reply = String::new();
        client.read_to_string(&mut reply).expect("the server closes");
        assert!(reply.starts_with(status), "{reply}");
    }
}
