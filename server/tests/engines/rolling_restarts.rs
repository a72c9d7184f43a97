//! Three servers behind HAProxy or nginx, restarted in turn under load.
//!
//! HAProxy retries nothing here, so that it hides no refused connection.

use std::net::SocketAddr;
use std::time::Instant;

use support::measurement::print_measurement;
use support::process::server::Server;
use support::wait::wait_until;

use crate::HALLOO;
use crate::engine::{Engine, deployed, unused_address};
use crate::haproxy::Haproxy;
use crate::load::{Exchange, Load, Outcome, greeting_client, line_client};

/// The servers in the files of `examples/deploy`: the name, the address and the port of `--admin`.
const DOCUMENTED: [(&str, &str, &str); 3] = [
    ("halloo1", "127.0.0.1:9001", "port 9091"),
    ("halloo2", "127.0.0.1:9002", "port 9092"),
    ("halloo3", "127.0.0.1:9003", "port 9093"),
];

/// Between the exit of a server and its start, 0.1 s.
const EXCHANGES_WITHOUT_SERVER: usize = 20;

/// How servers are restarted.
struct Rollout {
    restarts: usize,
    mode: &'static str,
    signal: &'static str,
    drain_delay: &'static str,
    /// Between two checks of HAProxy; without them nginx is in front.
    check_interval: Option<&'static str>,
}

/// Checks each 100 ms; two failed ones, and the delay is several times as long.
const ORDERLY: Rollout =
    Rollout { restarts: 30, mode: "greet", signal: "TERM", drain_delay: "1s", check_interval: Some("100ms") };

/// The addresses of the servers: for clients, and of `--admin`.
type Addresses = [(SocketAddr, SocketAddr); DOCUMENTED.len()];

/// What is in front of the servers.
enum Front {
    Haproxy(Haproxy),
    Nginx(Engine),
}

impl Front {
    #[track_caller]
    fn start(check_interval: Option<&str>, servers: &Addresses) -> Self {
        let own_address = unused_address();
        let mut substitutes = Vec::new();
        for ((_, documented, _), (tcp, _)) in DOCUMENTED.iter().zip(servers) {
            substitutes.push((*documented, tcp.to_string()));
        }
        let Some(check_interval) = check_interval else {
            substitutes.push(("listen 8888", format!("listen {own_address}")));
            // A server that has refused a connection is left out for this long.
            substitutes.push(("fail_timeout=5s", "fail_timeout=1s".to_owned()));
            return Self::Nginx(Engine::nginx(&deployed("nginx/stream.conf", &substitutes), own_address));
        };
        for ((_, _, documented), (_, admin)) in DOCUMENTED.iter().zip(servers) {
            substitutes.push((*documented, format!("port {}", admin.port())));
        }
        substitutes.push(("retries 3", "retries 0".to_owned()));
        substitutes.push(("inter 1s", format!("inter {check_interval}")));
        Self::Haproxy(Haproxy::start("haproxy.cfg", own_address, &substitutes))
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::Haproxy(haproxy) => haproxy.address(),
            Self::Nginx(nginx) => nginx.address,
        }
    }

    /// Waits until clients reach a server; nginx has no checks, and finds out by connecting.
    #[track_caller]
    fn wait_until_used(&self, name: &str, server: &Server) {
        match self {
            Self::Haproxy(haproxy) => haproxy.wait_for_state(name, "UP"),
            Self::Nginx(_) => wait_until("a client of the server", || server.counters()["accepted"] > 0),
        }
    }
}

/// Restarts the servers in turn, and returns what the exchanges meanwhile came to.
fn restart_in_turn<E>(rollout: &Rollout, client: impl Fn(SocketAddr) -> E) -> Outcome
where
    E: FnMut() -> Result<Exchange, String> + Send + 'static,
{
    let begin = Instant::now();
    let addresses: Addresses = DOCUMENTED.map(|_| (unused_address(), unused_address()));
    let start = |index: usize| {
        let (tcp, admin) = (addresses[index].0.to_string(), addresses[index].1.to_string());
        let common = ["--proxy-protocol", "127.0.0.1", "--greeting", "{peer}", "--events", "off"];
        let own = ["--tcp", &tcp, "--admin", &admin, "--mode", rollout.mode, "--drain-delay", rollout.drain_delay];
        HALLOO.start(&[common.as_slice(), &own].concat())
    };
    let mut servers: Vec<Server> = (0..DOCUMENTED.len()).map(start).collect();
    let front = Front::start(rollout.check_interval, &addresses);
    let load = Load::start(|| client(front.address()));
    for ((name, ..), server) in DOCUMENTED.iter().zip(&servers) {
        front.wait_until_used(name, server);
    }
    for index in (0..DOCUMENTED.len()).cycle().take(rollout.restarts) {
        if rollout.signal == "TERM" {
            servers[index].assert_exits_on_sigterm();
        } else {
            servers[index].signal(rollout.signal);
            servers[index].wait_for_signal();
        }
        load.wait_for_exchanges(EXCHANGES_WITHOUT_SERVER);
        servers[index] = start(index);
        front.wait_until_used(DOCUMENTED[index].0, &servers[index]);
    }
    let outcome = load.stop();
    print_measurement(&format!(
        "{} restarts with SIG{}, --mode {}, --drain-delay {}, {}: {} answered, {} answered again, {} failed, longest \
         exchange {:?}, {:.0?} in all",
        rollout.restarts,
        rollout.signal,
        rollout.mode,
        rollout.drain_delay,
        rollout.check_interval.map_or("nginx".to_owned(), |interval| format!("HAProxy, checks each {interval}")),
        outcome.answered,
        outcome.answered_again,
        outcome.failures.len(),
        outcome.longest,
        begin.elapsed()
    ));
    outcome
}

#[test]
#[ignore = "needs haproxy"]
fn thirty_rolling_restarts_behind_haproxy_fail_no_exchange() {
    let outcome = restart_in_turn(&ORDERLY, greeting_client);
    assert_eq!(outcome.failures, Vec::<String>::new(), "of {}", outcome.answered);
    assert!(outcome.answered > 1000, "only {} exchanges", outcome.answered);
}

#[test]
#[ignore = "needs haproxy"]
fn rolling_restarts_behind_haproxy_answer_every_line_of_kept_connections() {
    let outcome = restart_in_turn(&Rollout { mode: "line", restarts: 9, ..ORDERLY }, line_client);
    assert_eq!(outcome.failures, Vec::<String>::new(), "of {}", outcome.answered);
    assert!(outcome.answered > 300, "only {} exchanges", outcome.answered);
    // HAProxy can have read a line from a client when the server closes: that line is sent again.
    let share = outcome.answered / 100;
    assert!(outcome.answered_again <= share, "{} lines of {}", outcome.answered_again, outcome.answered);
}

#[test]
#[ignore = "needs nginx"]
fn nginx_tries_another_server_while_one_is_restarted() {
    let rollout = Rollout { restarts: 12, drain_delay: "0s", check_interval: None, ..ORDERLY };
    let outcome = restart_in_turn(&rollout, greeting_client);
    // Without checks nginx connects until the listener closes: a handshake that ends between the last accept and the
    // close is reset, about once in 100 restarts.
    assert!(outcome.failures.len() <= 2, "{:?} of {}", outcome.failures, outcome.answered);
    assert!(outcome.answered > 300, "only {} exchanges", outcome.answered);
}

#[test]
#[ignore = "needs haproxy"]
fn restarts_with_sigkill_fail_exchanges_so_that_the_test_can_tell() {
    let outcome = restart_in_turn(&Rollout { signal: "KILL", restarts: 6, ..ORDERLY }, greeting_client);
    assert!(!outcome.failures.is_empty(), "{} exchanges", outcome.answered);
}

#[test]
#[ignore = "needs haproxy"]
fn restarts_without_a_drain_delay_fail_exchanges_between_slow_checks() {
    let rollout = Rollout { drain_delay: "0s", check_interval: Some("5s"), restarts: 6, ..ORDERLY };
    let outcome = restart_in_turn(&rollout, greeting_client);
    assert!(!outcome.failures.is_empty(), "{} exchanges", outcome.answered);
}
