//! Shares of faults over a hundred thousand exchanges, counted by a client.
//!
//! The client is written in Python, and shares no code with the server.

use std::process::{Command, Stdio};
use std::time::Duration;

use support::measurement::print_measurement;
use support::process::child::Process;
use support::process::server::Server;

use crate::HALLOO;

const CLIENT: &str = include_str!("count_faults.py");

/// Far more than the client needs on an idle machine.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(400);

fn start(arguments: &[&str]) -> Server {
    HALLOO.start(&[&["--events", "off"], arguments].concat())
}

/// What the client has seen: one character an exchange.
#[track_caller]
fn observe(server: &Server, protocol: &str, exchanges: usize) -> String {
    let port = if protocol == "tcp" { server.tcp().port() } else { server.udp().port() };
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", CLIENT, protocol, &port.to_string(), &exchanges.to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut client = Process::spawn(command);
    assert_eq!(client.wait_within(CLIENT_TIMEOUT), 0, "{}", client.stderr.text());
    client.wait_for_eof();
    let seen = client.stdout.text().trim_end().to_owned();
    assert_eq!(seen.len(), exchanges);
    seen
}

/// Fails unless each of these outcomes has its share, in per cent, within five standard deviations, and no other one is
/// there.
#[track_caller]
fn assert_shares(seen: &str, shares: &[(char, u32)]) {
    let count = |outcome| u32::try_from(seen.chars().filter(|one| *one == outcome).count()).unwrap();
    let total: u32 = shares.iter().map(|(outcome, _)| count(*outcome)).sum();
    assert_eq!(total as usize, seen.len(), "an outcome that no fault has");
    for (outcome, percent) in shares {
        let (counted, share) = (f64::from(count(*outcome)), f64::from(*percent) / 100.0);
        let (mean, deviation) = (f64::from(total) * share, (f64::from(total) * share * (1.0 - share)).sqrt());
        print_measurement(&format!("{outcome} {counted} of {total}: {:+.2} sigma", (counted - mean) / deviation));
        assert!((counted - mean).abs() <= 5.0 * deviation, "{outcome}: {counted} of {total}, not {mean}");
    }
    assert_eq!(shares.iter().map(|(_, percent)| percent).sum::<u32>(), 100);
}

#[test]
#[ignore = "needs python3"]
fn each_fault_of_connections_has_its_share_of_sixty_thousand() {
    let faults = "half,share=10%;reset=0,share=7%;reset=5,share=5%;delay=1s,share=2%;dribble=5ms,bytes=6,share=2%;\
                  silence,share=1%";
    let server = start(&["--tcp", "127.0.0.1:0", "--fault", faults]);
    let seen = observe(&server, "tcp", 60_000);
    assert_shares(&seen, &[('h', 10), ('r', 7), ('5', 5), ('d', 2), ('b', 2), ('s', 1), ('.', 73)]);
}

#[test]
#[ignore = "needs python3"]
fn refused_connections_have_their_share_of_ten_thousand() {
    let server = start(&["--tcp", "127.0.0.1:0", "--fault", "refuse,share=15%"]);
    assert_shares(&observe(&server, "tcp", 10_000), &[('r', 15), ('.', 85)]);
}

#[test]
#[ignore = "needs python3"]
fn each_fault_of_datagrams_has_its_share_of_thirty_thousand() {
    let faults = "drop,share=10%;duplicate,share=5%;truncate=3,share=6%;reorder,share=4%;delay=1s,share=2%";
    let server = start(&["--udp", "127.0.0.1:0", "--mode", "echo", "--fault", faults]);
    let seen = observe(&server, "udp", 30_000);
    assert_shares(&seen, &[('x', 10), ('2', 5), ('t', 6), ('o', 4), ('d', 2), ('.', 73)]);
}

#[test]
#[ignore = "needs python3"]
fn the_same_seed_gives_clients_the_same_sequence_and_another_seed_another() {
    for (protocol, address, faults) in
        [("tcp", "--tcp", "half,share=30%;reset=5,share=30%"), ("udp", "--udp", "truncate=3,share=30%;drop,share=30%")]
    {
        let run = |seed| {
            let mode = if protocol == "udp" { "echo" } else { "greet" };
            let arguments = [address, "127.0.0.1:0", "--mode", mode, "--fault", faults, "--fault-seed", seed];
            observe(&start(&arguments), protocol, 2_000)
        };
        let first = run("17");
        assert_eq!(run("17"), first, "{protocol}");
        assert_ne!(run("18"), first, "{protocol}");
    }
}
