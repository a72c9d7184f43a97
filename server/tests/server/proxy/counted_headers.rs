//! PROXY headers in the metrics: accepted by version, refused by reason.

use support::network::streams::{read_to_end, read_until_closed, send};
use support::network::tcp::{connect, connect_from};
use support::network::udp::{recv, udp_client};
use support::wait::wait_until;

use crate::HALLOO;
use crate::admin::scraped_metrics::scrape;
use crate::proxy::{TCP4, UDP4, V1, v2};

#[test]
fn accepted_headers_are_counted_by_version_and_refused_ones_by_reason() {
    let arguments = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--proxy-protocol", "127.0.0.1"];
    let server = HALLOO.start(&arguments);
    for header in [V1, &v2(TCP4), &v2(TCP4)] {
        let client = connect(server.tcp());
        send(&client, &[header, b"hello"].concat());
        read_to_end(&client);
    }
    // Missing, malformed, for datagrams.
    for refused in [b"hello".to_vec(), b"PROXY TCP5 x\r\n".to_vec(), v2(UDP4)] {
        let client = connect(server.tcp());
        send(&client, &refused);
        assert!(read_until_closed(&client).is_empty());
    }
    let untrusted = connect_from([127, 0, 0, 2], server.tcp());
    send(&untrusted, V1);
    assert!(read_until_closed(&untrusted).is_empty());
    let datagrams = udp_client(server.udp());
    for datagram in [V1, b"hello", &v2(UDP4)] {
        datagrams.send(datagram).expect("loopback takes it");
    }
    recv(&datagrams);
    // A worker without an answer in time shows earlier figures.
    wait_until("the figures after the last connection", || {
        let scrape = scrape(&server);
        let rejected = scrape.count("halloo_connections_closed_total{reason=\"rejected\"}");
        (rejected, scrape.count("halloo_connections")) == (4, 0)
    });
    let scrape = scrape(&server);
    let rejected = |reason: &str| scrape.count(&format!("halloo_proxy_headers_rejected_total{{reason=\"{reason}\"}}"));
    for (reason, count) in [
        ("missing", 2),
        ("malformed", 1),
        ("unsupported", 1),
        ("untrusted", 1),
        ("version_1_datagram", 1),
        ("timeout", 0),
        ("too_long", 0),
        ("incomplete", 0),
    ] {
        assert_eq!(rejected(reason), count, "{reason}");
    }
    for (series, count) in [
        ("halloo_proxy_headers_total{version=\"1\"}", 1),
        ("halloo_proxy_headers_total{version=\"2\"}", 3),
        ("halloo_datagrams_dropped_total{reason=\"proxy_header\"}", 2),
        ("halloo_connections_closed_total{reason=\"rejected\"}", 4),
        ("halloo_greetings_total{protocol=\"tcp\"}", 3),
        ("halloo_greetings_total{protocol=\"udp\"}", 1),
    ] {
        assert_eq!(scrape.count(series), count, "{series}");
    }
}
