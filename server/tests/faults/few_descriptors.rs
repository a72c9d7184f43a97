//! Hardly any descriptors: service, or one line that says why not.

use crate::clients::{GREETING, UDP_GREETING, ask_udp, begin_asking, whatever_comes};
use crate::support::{Server, has_tool, through, wait_until};

/// What a process ends with when there are too few descriptors even to load its libraries.
const NOT_LOADED: i32 = 127;

#[test]
fn with_4_to_16_descriptors_it_serves_or_says_in_one_line_why_not() {
    if !has_tool("prlimit") {
        return;
    }
    let (mut good, mut refused) = (0, 0);
    for arguments in [["--tcp", "127.0.0.1:0"], ["--udp", "127.0.0.1:0"], ["--listen", "127.0.0.1:0"]] {
        for limit in 4..=16 {
            let starter = format!("--nofile={limit}");
            let mut server = Server::spawn(through(&["prlimit", &starter], &arguments));
            wait_until("the first line, or the end", || server.is_ready() || !server.is_running());
            if server.is_ready() {
                good += 1;
                assert_has_service(&server, arguments[0], limit);
                server.assert_stops();
            } else {
                let status = server.wait();
                refused += usize::from(status != NOT_LOADED);
                assert_says_why_not(&server, status, &format!("{arguments:?} with {limit}"));
            }
        }
    }
    assert!(good > 0 && refused > 0, "{good} served, {refused} refused");
}

#[track_caller]
fn assert_has_service(server: &Server, flag: &str, limit: u64) {
    if flag != "--udp" {
        let clients: Vec<_> = (0..20).map(|_| begin_asking(server.tcp())).collect();
        for client in &clients {
            assert_eq!(whatever_comes(client), GREETING, "{flag} with {limit}");
        }
    }
    if flag != "--tcp" {
        assert_eq!(ask_udp(server.udp()), UDP_GREETING, "{flag} with {limit}");
    }
    assert!(server.log().len() <= 2, "{flag} with {limit}: {:#?}", server.log());
}

#[track_caller]
fn assert_says_why_not(server: &Server, status: i32, case: &str) {
    wait_until("the end of the pipes", || server.errors.is_ended());
    let lines = server.errors.lines();
    if status != NOT_LOADED {
        assert!(matches!(status, 1 | 3), "{case}: exit status {status}");
        assert_eq!(lines.len(), 1, "{case}: {lines:#?}");
        assert!(lines[0].starts_with("halloo: ") && lines[0].contains("too many open files"), "{case}: {}", lines[0]);
    }
}
