//! `/live` and `/ready`, until the end of a server.

use std::net::TcpStream;

use support::wait::{assert_holds_for, wait_until};

use crate::admin::start_with_admin;
use support::network::http_client::{HttpClient, get};

#[test]
fn a_server_is_ready_until_a_stop_is_requested_and_live_to_the_end_of_the_drain() {
    let mut server = start_with_admin(&["--drain-timeout", "20s"]);
    let admin = server.admin();
    let ready = get(admin, "/ready");
    assert_eq!((ready.status, ready.body.as_str()), (200, "ready\n"));
    // A client that sends nothing delays the end of the drain.
    let silent_client = TcpStream::connect(server.tcp()).unwrap();
    let mut kept = HttpClient::connect(admin);
    assert_eq!(kept.request("GET /live", "").status, 200);
    server.signal("TERM");
    wait_until("the server to be stopping", || get(admin, "/ready").status == 503);
    wait_until("the end of the listener", || TcpStream::connect(server.tcp()).is_err());
    assert_eq!(get(admin, "/ready").body, "stopping\n");
    assert_eq!(kept.request("GET /live", "").status, 200);
    drop(silent_client);
    assert!(kept.is_closed());
    assert_eq!(server.wait(), 0);
}

#[test]
fn a_server_is_not_ready_during_the_drain_delay_and_still_serves() {
    let mut server = start_with_admin(&["--drain-delay", "60s", "--mode", "banner"]);
    server.signal("TERM");
    wait_until("the server to be stopping", || get(server.admin(), "/ready").status == 503);
    let mut client = TcpStream::connect(server.tcp()).unwrap();
    let mut greeting = String::new();
    std::io::Read::read_to_string(&mut client, &mut greeting).unwrap();
    assert_eq!(greeting, "Hello, TCP Client!");
    server.signal("TERM");
    assert_eq!(server.wait(), 0);
}

#[test]
fn idle_and_unfinished_clients_of_the_endpoint_do_not_delay_the_exit() {
    let mut server = start_with_admin(&[]);
    let fd_count = server.fd_count();
    let mut idle = HttpClient::connect(server.admin());
    assert_eq!(idle.request("GET /live", "").status, 200);
    let mut unfinished = HttpClient::connect(server.admin());
    unfinished.send(b"GET /live HTT");
    let _silent = HttpClient::connect(server.admin());
    wait_until("all clients", || server.fd_count() == fd_count + 3);
    let start = std::time::Instant::now();
    server.assert_exits_on_sigterm();
    let took = start.elapsed();
    assert!(took < std::time::Duration::from_secs(3), "{took:?}, where the connections alone would take 5 s");
    assert!(idle.is_closed() && unfinished.is_closed());
}

#[test]
fn health_is_answered_while_no_worker_is_asked() {
    let server = start_with_admin(&[]);
    let before = server.counters()["jobs"];
    for path in ["/live", "/ready", "/"] {
        assert_eq!(get(server.admin(), path).status, 200);
    }
    // Each report of the counters is a job, too.
    assert_eq!(server.counters()["jobs"], before + 1);
    assert_eq!(get(server.admin(), "/metrics").status, 200);
    assert_eq!(server.counters()["jobs"], before + 3);
}

#[test]
fn an_endpoint_without_requests_does_not_wake_up() {
    let server = start_with_admin(&[]);
    let mut kept = HttpClient::connect(server.admin());
    assert_eq!(kept.request("GET /live", "").status, 200);
    wait_until("the server to sleep", || {
        let before = server.voluntary_context_switches();
        support::wait::holds_for(std::time::Duration::from_millis(500), || {
            server.voluntary_context_switches() == before
        })
    });
    let before = server.voluntary_context_switches();
    assert_holds_for(std::time::Duration::from_millis(500), "it sleeps", || {
        server.voluntary_context_switches() <= before + 2
    });
}
