//! `/connections`: the open connections of all workers.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;
use support::process::server::Server;
use support::wait::wait_for;

use crate::HALLOO;
use crate::unix::temporary_socket_path::SocketPath;
use support::network::http_client::get;

/// The list, once it has that many connections.
#[track_caller]
fn list_of(server: &Server, count: usize) -> Value {
    wait_for(&format!("{count} connections"), || {
        let list: Value = serde_json::from_str(&get(server.admin(), "/connections").body).unwrap();
        (list["total"] == count).then_some(list)
    })
}

#[test]
fn the_connections_of_all_workers_and_protocols_are_listed_with_their_addresses() {
    let socket = SocketPath::new();
    let server =
        socket.start_server(&["--tcp", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--workers", "3", "--mode", "echo"]);
    let empty = list_of(&server, 0);
    assert_eq!(empty["connections"], Value::Array(Vec::new()));
    assert_eq!((&empty["truncated"], &empty["silent_workers"]), (&false.into(), &Value::Array(Vec::new())));
    let clients: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(server.tcp()).unwrap()).collect();
    let _unix_client = socket.connect();
    let list = list_of(&server, 21);
    let entries = list["connections"].as_array().unwrap();
    let peers: BTreeSet<String> =
        entries.iter().filter_map(|entry| entry["peer"].as_str().map(str::to_owned)).collect();
    let expected: BTreeSet<String> = clients.iter().map(|client| client.local_addr().unwrap().to_string()).collect();
    assert_eq!(peers, expected);
    let ids: BTreeSet<u64> = entries.iter().map(|entry| entry["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), 21, "ids are unique in the process");
    for entry in entries {
        assert!((1..=3).contains(&entry["worker"].as_u64().unwrap()), "{entry}");
        assert_eq!(entry["unsent_bytes"], 0, "{entry}");
        assert!((0.0..60.0).contains(&entry["idle_seconds"].as_f64().unwrap()), "{entry}");
        let local = entry["local"].as_str().unwrap();
        if entry["protocol"] == "unix" {
            assert_eq!((local, &entry["peer"]), (socket.as_str(), &Value::Null));
        } else {
            assert_eq!((local.parse::<SocketAddr>().unwrap(), &entry["protocol"]), (server.tcp(), &"tcp".into()));
        }
    }
    drop(clients);
    list_of(&server, 1);
}

#[test]
fn output_that_a_client_does_not_read_is_listed() {
    let server = HALLOO.start(&["--tcp", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--mode", "echo"]);
    let client = TcpStream::connect(server.tcp()).unwrap();
    client.set_nonblocking(true).unwrap();
    wait_for("bytes that are not sent", || {
        let mut writer = &client;
        let _ = std::io::Write::write(&mut writer, &[b'x'; 8192]);
        let list: Value = serde_json::from_str(&get(server.admin(), "/connections").body).unwrap();
        list["connections"][0]["unsent_bytes"].as_u64().filter(|bytes| *bytes > 0)
    });
}
