//! `dns_stub` with dig and dnsperf.

use std::net::SocketAddr;

use support::process::child::Process;
use support::process::shell::shell;

use crate::programs::start_example;

fn serve() -> (Process, SocketAddr) {
    start_example(env!("CARGO_BIN_EXE_dns_stub"), &["127.0.0.1:0"])
}

#[track_caller]
fn dig(at: SocketAddr, arguments: &str) -> String {
    shell(&format!("dig @{} -p {} +tries=3 {arguments}", at.ip(), at.port()))
}

#[test]
#[ignore = "needs dig"]
fn dig_gets_the_same_answers_over_udp_and_tcp() {
    let (_server, at) = serve();
    for transport in ["+notcp", "+tcp"] {
        let short = |question: &str| dig(at, &format!("{transport} +short {question}"));
        assert_eq!(short("www.halloo.test"), "127.0.0.1\n");
        assert_eq!(short("WWW.Halloo.TEST aaaa"), "::1\n");
        assert_eq!(short("halloo.test soa"), "halloo.test. halloo.test. 1 300 300 300 300\n");
        let response = |question: &str| dig(at, &format!("{transport} {question}"));
        let no_data = response("v4.halloo.test aaaa");
        assert!(no_data.contains("status: NOERROR") && no_data.contains("ANSWER: 0, AUTHORITY: 1"), "{no_data}");
        let nxdomain = response("missing.halloo.test");
        assert!(nxdomain.contains("status: NXDOMAIN") && nxdomain.contains("\tSOA\t"), "{nxdomain}");
        assert!(response("example.org").contains("status: REFUSED"));
        assert!(response("+opcode=status halloo.test").contains("status: NOTIMP"));
        assert!(response("+noednsneg +edns=1 halloo.test").contains("status: BADVERS"));
        assert!(response("+header-only").contains("status: FORMERR"));
        let plain = response("+noedns +norecurse www.halloo.test");
        assert!(plain.contains("flags: qr aa;") && !plain.contains("EDNS") && !plain.contains("WARNING"), "{plain}");
    }
}

#[test]
#[ignore = "needs dig"]
fn an_answer_too_long_for_a_datagram_comes_over_tcp() {
    let (_server, at) = serve();
    for size in ["+noedns", "+bufsize=4096"] {
        let cut = dig(at, &format!("+ignore {size} many.halloo.test"));
        assert!(cut.contains(" tc ") && cut.contains("ANSWER: 0"), "{cut}");
    }
    assert_eq!(dig(at, "+short many.halloo.test").lines().filter(|line| line.starts_with("192.")).count(), 100);
}

#[test]
#[ignore = "needs dnsperf"]
fn dnsperf_loses_no_query() {
    let (_server, at) = serve();
    let questions = "www.halloo.test A\\nwww.halloo.test AAAA\\nmissing.halloo.test A\\nhalloo.test SOA\\n";
    for transport in ["udp", "tcp"] {
        let at = format!("-s {} -p {} -m {transport}", at.ip(), at.port());
        let report = shell(&format!("printf '{questions}%.0s' $(seq 5000) | dnsperf {at}"));
        assert!(report.contains("Queries completed:    20000 (100.00%)"), "{report}");
        assert!(report.contains("NOERROR 15000 (75.00%), NXDOMAIN 5000 (25.00%)"), "{report}");
    }
}
