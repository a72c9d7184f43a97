//! Three servers behind HAProxy, restarted one after the other under load.
//!
//! HAProxy retries nothing here, so that it hides no refused connection.

use std::time::Instant;

use support::measurement::print_measurement;
use support::process::server::Server;

use crate::HALLOO;
use crate::engine::unused_address;
use crate::haproxy::Haproxy;
use crate::load::{Exchange, Load, Outcome, greeting_client, line_client};

const SERVERS: usize = 3;

/// Between the exit of a server and its start, 0.1 s.
const EXCHANGES_WITHOUT_SERVER: usize = 20;

/// How servers are restarted.
struct Rollout {
    restarts: usize,
    mode: &'static str,
    signal: &'static str,
    drain_delay: &'static str,
    /// Between two checks of HAProxy.
    check_interval: &'static str,
}

/// Checks each 100 ms; two failed ones, and the delay is several times as long.
const ORDERLY: Rollout =
    Rollout { restarts: 30, mode: "greet", signal: "TERM", drain_delay: "1s", check_interval: "100ms" };

/// Restarts the servers in turn, and returns what the exchanges meanwhile came to.
fn restart_in_turn<E>(rollout: &Rollout, client: impl Fn(std::net::SocketAddr) -> E) -> Outcome
where
    E: FnMut() -> Result<Exchange, String> + Send + 'static,
{
    let begin = Instant::now();
    let addresses = [(); SERVERS].map(|()| (unused_address(), unused_address()));
    let start = |index: usize| {
        let (tcp, admin) = (addresses[index].0.to_string(), addresses[index].1.to_string());
        let common = ["--proxy-protocol", "127.0.0.1", "--greeting", "{peer}", "--events", "off"];
        let own = ["--tcp", &tcp, "--admin", &admin, "--mode", rollout.mode, "--drain-delay", rollout.drain_delay];
        HALLOO.start(&[common.as_slice(), &own].concat())
    };
    let mut servers: Vec<Server> = (0..SERVERS).map(start).collect();
    let mut substitutes =
        vec![("retries 3", "retries 0".to_owned()), ("inter 1s", format!("inter {}", rollout.check_interval))];
    let documented = [("127.0.0.1:9001", "9091"), ("127.0.0.1:9002", "9092"), ("127.0.0.1:9003", "9093")];
    for ((documented_tcp, documented_admin), (tcp, admin)) in documented.iter().zip(&addresses) {
        substitutes.extend([(*documented_tcp, tcp.to_string()), (*documented_admin, admin.port().to_string())]);
    }
    let haproxy = Haproxy::start("haproxy.cfg", unused_address(), &substitutes);
    let names = ["halloo1", "halloo2", "halloo3"];
    for name in names {
        haproxy.wait_for_state(name, "UP");
    }
    let load = Load::start(|| client(haproxy.address()));
    for index in (0..SERVERS).cycle().take(rollout.restarts) {
        if rollout.signal == "TERM" {
            servers[index].assert_exits_on_sigterm();
        } else {
            servers[index].signal(rollout.signal);
            servers[index].wait_for_signal();
        }
        load.wait_for_exchanges(EXCHANGES_WITHOUT_SERVER);
        servers[index] = start(index);
        haproxy.wait_for_state(names[index], "UP");
    }
    let outcome = load.stop();
    print_measurement(&format!(
        "{} restarts with SIG{}, --mode {}, --drain-delay {}, checks each {}: {} answered, {} answered again, {} failed, \
         longest exchange {:?}, {:.0?} in all",
        rollout.restarts,
        rollout.signal,
        rollout.mode,
        rollout.drain_delay,
        rollout.check_interval,
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
#[ignore = "needs haproxy"]
fn restarts_with_sigkill_fail_exchanges_so_that_the_test_can_tell() {
    let outcome = restart_in_turn(&Rollout { signal: "KILL", restarts: 6, ..ORDERLY }, greeting_client);
    assert!(!outcome.failures.is_empty(), "{} exchanges", outcome.answered);
}

#[test]
#[ignore = "needs haproxy"]
fn restarts_without_a_drain_delay_fail_exchanges_between_slow_checks() {
    let rollout = Rollout { drain_delay: "0s", check_interval: "5s", restarts: 6, ..ORDERLY };
    let outcome = restart_in_turn(&rollout, greeting_client);
    assert!(!outcome.failures.is_empty(), "{} exchanges", outcome.answered);
}
