//! The local and peer addresses of connections.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr, TcpStream};

use halloo::{Connection, EventLoop, Listen, stream};

use crate::helpers::loopback::any_port;
use crate::helpers::nonblocking_client::Client;
use crate::helpers::simple_handlers::{GREETING, greet};
use crate::helpers::turn_until::turn_until;

/// Listens at `bound`; a client connects to `dst_ip`. Returns the connection's local and peer address, and the client's
/// own.
fn addresses(bound: &str, dst_ip: &str) -> (SocketAddr, SocketAddr, SocketAddr) {
    let addresses = Cell::new(None);
    let mut events = EventLoop::new().expect("a loop");
    let listener = events
        .listen(
            any_port(bound),
            stream(|connection, input| {
                addresses.set(connection.local_addr().zip(connection.peer_addr()));
                greet(connection, input)
            }),
        )
        .expect("a listener");
    let port = events.local_addr(listener).expect("the listener is open").port();
    let mut client = Client::connect(SocketAddr::new(dst_ip.parse().expect("an address"), port));
    let client_address = client.local_addr();
    assert_eq!(client.request(&mut events, b"?", GREETING.len()), GREETING);
    let (local, peer) = addresses.get().expect("the client has sent");
    assert_eq!(local.port(), port);
    (local, peer, client_address)
}

#[test]
fn on_one_address_the_local_address_is_that_of_the_listener() {
    let (local, peer, client) = addresses("127.0.0.2", "127.0.0.2");
    assert_eq!((local.ip(), peer), (any_port("127.0.0.2").ip(), client));
}

#[test]
fn on_the_wildcard_the_local_address_is_the_one_that_the_client_connected_to() {
    for dst_ip in ["127.0.0.1", "127.0.0.2"] {
        let (local, peer, client) = addresses("0.0.0.0", dst_ip);
        assert_eq!((local.ip(), peer), (any_port(dst_ip).ip(), client));
    }
}

#[test]
#[ignore = "needs IPv6"]
fn on_the_ipv6_wildcard_an_ipv4_client_shows_its_ipv4_address() {
    let (local, peer, client) = addresses("::", "127.0.0.2");
    assert_eq!((local.ip(), peer), (any_port("127.0.0.2").ip(), client));
    let (local, peer, client) = addresses("::", "::1");
    assert_eq!((local.ip(), peer), (any_port("::1").ip(), client));
}

#[test]
#[ignore = "needs IPv6"]
fn an_ipv6_wildcard_with_only_v6_accepts_no_ipv4_client() {
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(Listen::from(any_port("::")).only_v6(true), stream(greet)).expect("a listener");
    let port = events.local_addr(listener).expect("the listener is open").port();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    let mut client = Client::connect(SocketAddr::new(any_port("::1").ip(), port));
    assert_eq!(client.request(&mut events, b"?", GREETING.len()), GREETING);
}

#[test]
fn a_reused_slot_has_the_local_address_of_its_new_connection() {
    let local_ips: RefCell<Vec<IpAddr>> = RefCell::new(Vec::new());
    let mut events = EventLoop::new().expect("a loop");
    let handler = |connection: &mut Connection<'_>, input: &[u8]| {
        local_ips.borrow_mut().push(connection.local_addr().expect("an IP socket").ip());
        greet(connection, input)
    };
    let wildcard = events.listen(any_port("0.0.0.0"), stream(handler)).expect("a listener");
    let one = events.listen(any_port("127.0.0.3"), stream(handler)).expect("a listener");
    let (wildcard, one) = (
        events.local_addr(wildcard).expect("the listener is open"),
        events.local_addr(one).expect("the listener is open"),
    );
    let mut expected = Vec::new();
    for host in ["127.0.0.1", "127.0.0.3", "127.0.0.2", "127.0.0.3"] {
        let to = if host == "127.0.0.3" { one } else { SocketAddr::new(any_port(host).ip(), wildcard.port()) };
        expected.push(to.ip());
        let mut client = Client::connect(to);
        assert_eq!(client.request(&mut events, b"?", GREETING.len()), GREETING);
        drop(client);
        turn_until(&mut events, "the connection is closed", |events| events.stats().connections == 0);
    }
    assert_eq!(*local_ips.borrow(), expected);
}
