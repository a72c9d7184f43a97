//! `/live` and `/ready`, from the start to the end of a server.

use std::net::TcpStream;

use support::wait::wait_until;

use crate::HALLOO;
use crate::admin::http_client::{HttpClient, get};

#[test]
fn a_server_is_ready_from_its_ready_line_until_a_stop_is_requested_and_live_to_the_end() {
    let mut server = HALLOO.start(&["--tcp", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--drain-timeout", "20s"]);
    let admin = server.admin();
    let ready = get(admin, "/ready");
    assert_eq!((ready.status, ready.body.as_str()), (200, "ready\n"));
    // A client that sends nothing delays the end of the drain.
    let silent_client = TcpStream::connect(server.tcp()).unwrap();
    let mut kept = HttpClient::connect(admin);
    assert_eq!(kept.request("GET /live", "").status, 200);
    server.signal("TERM");
    wait_until("the server to be stopping", || get(admin, "/ready").status == 503);
    assert_eq!(get(admin, "/ready").body, "stopping\n");
    assert_eq!(kept.request("GET /live", "").status, 200);
    drop(silent_client);
    assert!(kept.is_closed());
    assert_eq!(server.wait(), 0);
}
