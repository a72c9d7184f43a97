//! dnsdist, which writes a header of version 2 before each query.

use support::network::streams::send;
use support::network::tcp::connect;
use support::network::udp::{recv, udp_client};

use crate::HALLOO;
use crate::engine::{Engine, deployed, unused_address};

/// `halloo.example`, type TXT, class IN.
const QUESTION: &[u8] = b"\x06halloo\x07example\0\0\x10\0\x01";

/// A response with the TXT record `hello` to a query with the id 0, which is the first one that dnsdist 1.7 forwards to
/// a server. dnsdist drops later ones: a greeting cannot repeat an id.
const RESPONSE: &str = concat!(
    r"\0\0\x81\x80\0\x01\0\x01\0\0\0\0\x06halloo\x07example\0\0\x10\0\x01",
    r"\xc0\x0c\0\x10\0\x01\0\0\0\0\0\x06\x05hello"
);

#[test]
#[ignore = "needs dnsdist"]
fn the_client_behind_dnsdist_is_shown() {
    let arguments = ["--listen", "127.0.0.1:0", "--udp-greeting", RESPONSE, "--events", "json"];
    let server = HALLOO.start(&[arguments.as_slice(), &["--proxy-protocol", "127.0.0.1"]].concat());
    let address = unused_address();
    let substitutes = [
        ("0.0.0.0:5300", address.to_string()),
        ("127.0.0.1:9001", server.udp().to_string()),
        // One server.
        ("newServer({address=\"127.0.0.1:9002\"", "-- newServer({address=\"".to_owned()),
    ];
    // No look-up of security advisories.
    let configuration = deployed("dnsdist/dnsdist.conf", &substitutes) + "setSecurityPollSuffix(\"\")\n";
    let dnsdist = Engine::dnsdist(&configuration, address);
    let client = udp_client(dnsdist.address);
    let own_address = client.local_addr().expect("it is connected");
    let query = [b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0".as_slice(), QUESTION].concat();
    client.send(&query).expect("loopback takes it");
    let response = recv(&client);
    assert!(response.starts_with(b"\x12\x34\x81\x80") && response.ends_with(b"\x05hello"), "{response:?}");
    let event = server.stdout.wait_for_line(&format!("\"protocol\":\"udp\",\"peer\":\"{own_address}\""));
    // The query without the header.
    assert!(event.contains(&format!("\"bytes\":{},", query.len())), "{event}");
    assert!(event.contains("halloo\\u0007example"), "{event}");

    let tcp_client = connect(dnsdist.address);
    let own_address = tcp_client.local_addr().expect("it is connected");
    let length = u16::try_from(query.len()).expect("a short query").to_be_bytes();
    send(&tcp_client, &[&length, query.as_slice()].concat());
    let event = server.stdout.wait_for_line(&format!("\"protocol\":\"tcp\",\"peer\":\"{own_address}\""));
    assert!(event.contains(&format!("\"bytes\":{},", length.len() + query.len())), "{event}");
}
