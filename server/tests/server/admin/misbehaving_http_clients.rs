//! Slow, endless, silent and unread clients: the endpoint goes on.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use support::wait::{repeat_for, wait_until};

use crate::admin::start_with_admin;
use support::network::http_client::{HttpClient, get};

/// Far below any timeout of the endpoint, and far above what an answer takes on a busy machine.
const PROMPT: Duration = Duration::from_secs(2);

#[track_caller]
fn assert_answers(admin: SocketAddr) {
    let start = Instant::now();
    assert_eq!(get(admin, "/ready").status, 200);
    assert!(start.elapsed() < PROMPT, "{:?}", start.elapsed());
}

/// Sends bytes without end, until the endpoint closes the connection; returns how many.
fn send_endlessly(client: &mut HttpClient, bytes: &[u8]) -> usize {
    let mut sent = 0;
    client.stream.set_nonblocking(true).unwrap();
    wait_until("the end of the connection", || match client.stream.write(bytes) {
        Ok(count) => {
            sent += count;
            false
        }
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    });
    sent
}

fn is_reset(client: &mut HttpClient) -> bool {
    client.stream.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
}

#[test]
fn a_slow_request_gets_408_after_5_s_and_a_silent_one_eof_while_a_kept_connection_stays() {
    let server = start_with_admin(&[]);
    let admin = server.admin();
    let mut kept = HttpClient::connect(admin);
    assert_eq!(kept.request("GET /live", "").status, 200);
    let (mut slow, mut silent, start) = (HttpClient::connect(admin), HttpClient::connect(admin), Instant::now());
    slow.send(b"GET /live HTTP/1.1\r\nHost: localhost\r\nA: ");
    // A byte now and then does not extend the time.
    repeat_for(Duration::from_secs(4), || slow.send(b"b"));
    let response = slow.read_response_to("GET");
    assert_eq!((response.status, response.header("Connection")), (408, Some("close")));
    assert!(slow.is_closed() && silent.is_closed());
    assert!(start.elapsed() >= Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(kept.request("GET /live", "").status, 200);
}

#[test]
fn an_endless_request_is_refused_and_its_connection_ends() {
    let server = start_with_admin(&[]);
    for bytes in [&b"GET /live HTTP/1.1\r\nA: "[..], b"\r\n\r\n\r\n\r\n", b"xxxxxxxxxxxxxxxxxxxxxxxxxxx"] {
        let mut client = HttpClient::connect(server.admin());
        let chunk = bytes.repeat(100);
        client.send(bytes);
        send_endlessly(&mut client, &chunk);
        assert_answers(server.admin());
    }
}

#[test]
fn two_hundred_silent_connections_make_room_for_a_new_client() {
    let server = start_with_admin(&[]);
    let fd_count = server.fd_count();
    let mut silent: Vec<HttpClient> = (0..200).map(|_| HttpClient::connect(server.admin())).collect();
    assert_answers(server.admin());
    wait_until("the connections that are too many to end", || server.fd_count() <= fd_count + 64);
    // The first ones were reset, the last ones are still served.
    assert!(is_reset(&mut silent[0]));
    assert_eq!(silent[199].request("GET /live", "").status, 200);
    for client in &mut silent[150..] {
        client.send(b"GET /live HTTP/1.1\r\n");
    }
    assert_answers(server.admin());
}

#[test]
fn clients_that_have_their_response_and_stay_connected_make_room_for_a_new_client() {
    let server = start_with_admin(&[]);
    let mut answered: Vec<HttpClient> = (0..100)
        .map(|_| {
            let mut client = HttpClient::connect(server.admin());
            assert_eq!(client.request("GET /live", "").status, 200);
            client
        })
        .collect();
    assert_answers(server.admin());
    assert!(is_reset(&mut answered[0]));
    assert_eq!(answered[99].request("GET /live", "").status, 200);
}

#[test]
fn a_client_that_does_not_read_is_not_read_either() {
    let server = start_with_admin(&[]);
    let mut client = HttpClient::connect(server.admin());
    client.stream.set_nonblocking(true).unwrap();
    let requests = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100);
    let mut sent = 0;
    let mut is_full = || match client.stream.write(&requests) {
        Ok(count) => {
            sent += count;
            false
        }
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    };
    wait_until("the endpoint to stop reading", || support::wait::holds_for(Duration::from_millis(200), &mut is_full));
    assert_answers(server.admin());
    assert!(server.resident_kib() < 64 * 1024, "{} KiB", server.resident_kib());
}
