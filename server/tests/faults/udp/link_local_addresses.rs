//! Link-local IPv6 addresses, which need their interface.
//!
//! `{local}`, READY and events name the interface, over TCP and over UDP.

use std::net::{SocketAddr, SocketAddrV6, UdpSocket};

use serde_json::Value;
use support::network::network_namespace::{in_network_namespace_after, ip};
use support::network::tcp::request;
use support::network::udp::{UDP_REQUEST, recv, request_udp};
use support::wait::{TIMEOUT, wait_for, wait_until};

use crate::HALLOO;

/// The loopback device in a new network namespace.
const LOOPBACK_INDEX: u32 = 1;

fn add_addresses() {
    ip("-6 address add fe80::1/64 dev lo nodad");
    ip("-6 address add fd09::1/128 dev lo nodad");
    // The kernel lists a new IPv6 address a moment before it can be used.
    wait_until("the addresses", || UdpSocket::bind(link_local(0)).is_ok() && UdpSocket::bind("[fd09::1]:0").is_ok());
}

fn link_local(port: u16) -> SocketAddr {
    SocketAddrV6::new("fe80::1".parse().expect("an address"), port, 0, LOOPBACK_INDEX).into()
}

#[test]
#[ignore = "needs a network namespace"]
fn a_link_local_destination_is_reported_with_its_interface_over_tcp_and_udp() {
    in_network_namespace_after(add_addresses, || {
        for listening in ["[::]:0", "[fe80::1%lo]:0"] {
            let server = HALLOO.start(&["--listen", listening, "--greeting", "{local} {peer}", "--events", "json"]);
            let ready = server.ready_addresses();
            let address = link_local(port_of(&ready[0]));
            if listening != "[::]:0" {
                assert_eq!(ready, [format!("tcp={address}"), format!("udp={address}")]);
            }
            let expected = format!("{address} [fe80::1%{LOOPBACK_INDEX}]:");
            let answers = [request(address), request_udp(address, UDP_REQUEST)];
            assert!(answers.iter().all(|answer| answer.starts_with(&expected)), "at {listening}: {answers:?}");
            let events = wait_for("both events", || Some(server.event_lines()).filter(|events| events.len() == 2));
            for event in events {
                let event: Value = serde_json::from_str(&event).expect("JSON");
                assert_eq!(event["local"], address.to_string());
            }
        }
    });
}

fn port_of(ready_address: &str) -> u16 {
    ready_address.rsplit_once(':').expect("a port").1.parse().expect("a number")
}

/// The route to such a peer does not name the interface.
#[test]
#[ignore = "needs a network namespace"]
fn a_link_local_address_answers_a_peer_with_a_global_address() {
    in_network_namespace_after(add_addresses, || {
        let server = HALLOO.start(&["--udp", "[::]:0"]);
        let client = UdpSocket::bind("[fd09::1]:0").expect("an address of this machine");
        client.set_read_timeout(Some(TIMEOUT)).expect("an option of every socket");
        client.send_to(UDP_REQUEST, link_local(server.udp().port())).expect("loopback takes it");
        assert_eq!(recv(&client), b"Hello, UDP Client!");
    });
}
