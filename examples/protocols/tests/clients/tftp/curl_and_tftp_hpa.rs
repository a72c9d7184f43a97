//! `tftp` with curl, the client of tftp-hpa, and sockets of std.

use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;

use support::byte_pattern::byte_pattern;
use support::network::udp::{recv, retry_interrupted, try_recv, udp_client};
use support::process::child::Process;
use support::process::shell::{shell, try_shell};
use support::wait::TIMEOUT;
use tempfile::TempDir;

use super::{SIZES, folder_of_files};
use crate::programs::start_example;

fn serve(address: &str, folder: &Path) -> (Process, SocketAddr) {
    start_example(env!("CARGO_BIN_EXE_tftp"), &[address, folder.to_str().expect("a path in UTF-8")])
}

/// Both clients get a file at the same time, and must have all of it.
fn get_by_both(at: SocketAddr, size: usize) {
    let folder = TempDir::new().expect("a folder");
    let (host, port, into) = (at.ip(), at.port(), folder.path().display());
    shell(&format!(
        "curl -sS -o {into}/curl tftp://{at}/{size} & curl=$!
         tftp -m octet {host} {port} -c get {size} {into}/hpa
         wait $curl"
    ));
    for client in ["curl", "hpa"] {
        let got = fs::read(folder.path().join(client)).unwrap_or_else(|error| panic!("{client}, {size}: {error}"));
        assert!(got == byte_pattern(size), "{client} has {} bytes of {size}", got.len());
    }
}

#[test]
#[ignore = "needs curl and tftp"]
fn curl_and_tftp_hpa_get_whole_files_of_every_size_at_the_same_time() {
    let folder = folder_of_files(&SIZES);
    let (_server, at) = serve("127.0.0.1:0", folder.path());
    for size in SIZES {
        get_by_both(at, size);
    }
}

#[test]
#[ignore = "needs curl and tftp"]
fn missing_files_files_outside_of_the_folder_and_writes_are_refused() {
    let folder = folder_of_files(&[512]);
    let root = folder.path().join("root");
    fs::create_dir_all(root.join("empty")).expect("a folder");
    std::os::unix::fs::symlink("../512", root.join("link")).expect("a link");
    fs::write(root.join("own"), "own").expect("a file");
    let (_server, at) = serve("127.0.0.1:0", &root);
    // curl's exit statuses: 68 for ERROR 1, 69 for ERROR 2.
    for (name, status) in [("own", 0), ("none", 68), ("empty", 69), ("link", 69), ("/etc/hostname", 69)] {
        let (_, printed) = try_shell(&format!("curl -s -o /dev/null tftp://{at}/{name}; echo $?"));
        assert_eq!(printed.trim(), status.to_string(), "{name}");
    }
    // The client creates its local file before it sends the request.
    let own = folder_of_files(&[511]);
    let hpa = |mode: &str, command: &str| {
        shell(&format!("cd {}; tftp -m {mode} {} {} -c {command}", own.path().display(), at.ip(), at.port()))
    };
    assert_eq!(hpa("ascii", "get own").trim(), "Error code 0: the mode has to be octet");
    assert_eq!(hpa("octet", "get none").trim(), "Error code 1: file not found");
    assert_eq!(hpa("octet", "get ../512").trim(), "Error code 2: access violation");
    assert_eq!(hpa("octet", "get ../none").trim(), "Error code 2: access violation");
    assert_eq!(hpa("octet", "put 511").trim(), "Error code 2: access violation");
}

/// Receives from a socket that is not connected.
fn recv_from(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut packet = vec![0; 1024];
    let (count, from) = retry_interrupted(|| socket.recv_from(&mut packet)).expect("a packet");
    packet.truncate(count);
    (packet, from)
}

#[test]
fn on_a_wildcard_socket_blocks_come_from_the_address_that_was_asked_and_other_peers_do_not_end_a_transfer() {
    let folder = folder_of_files(&[513]);
    let (_server, at) = serve("0.0.0.0:0", folder.path());
    let client = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    client.set_read_timeout(Some(TIMEOUT)).expect("an option of every socket");
    let asked: IpAddr = [127, 0, 0, 2].into();
    client.send_to(b"\0\x01513\0octet\0", (asked, at.port())).expect("the packet is sent");
    let (block, from) = recv_from(&client);
    assert_eq!((&block[..4], block.len()), (&b"\0\x03\0\x01"[..], 516));
    assert!(from.ip() == asked && from.port() != at.port(), "the block came from {from}");

    let stranger = udp_client(from);
    for packet in [&b"\0\x04\0\x01"[..], b"\0\x05\0\0over\0", b"\0\x04\0\x01"] {
        stranger.send(packet).expect("the packet is sent");
    }
    // One ERROR for each ACK, and none for the ERROR.
    for _ in 0..2 {
        assert_eq!(recv(&stranger), b"\0\x05\0\x05unknown transfer ID\0");
    }
    client.send_to(b"\0\x04\0\x01", from).expect("the packet is sent");
    assert_eq!(recv_from(&client), ([&b"\0\x03\0\x02"[..], &byte_pattern(513)[512..]].concat(), from));
    assert_eq!(try_recv(&stranger), None, "the ERROR was answered");
}
