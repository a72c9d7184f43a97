//! `redis_ping` with redis-cli, redis-benchmark and netcat, and on a simulated network.

#[expect(dead_code, reason = "the simulated network needs the server, not its program")]
#[path = "../../../src/bin/redis_ping.rs"]
mod server;

use std::net::SocketAddr;
use std::time::Duration;

use halloo::testing::Simulation;

use support::process::child::Process;
use support::process::shell::shell;
use support::wait::wait_until;

use crate::programs::start_example;

struct Redis {
    _server: Process,
    at: SocketAddr,
}

impl Redis {
    fn serve() -> Self {
        let (server, at) = start_example(env!("CARGO_BIN_EXE_redis_ping"), &["127.0.0.1:0"]);
        Self { _server: server, at }
    }

    #[track_caller]
    fn ask(&self, command: &str) -> String {
        shell(&format!("redis-cli -h {} -p {} {command}", self.at.ip(), self.at.port())).trim_end().to_owned()
    }

    #[track_caller]
    fn load(&self, arguments: &str) -> String {
        shell(&format!("redis-benchmark -h {} -p {} {arguments}", self.at.ip(), self.at.port()))
    }
}

#[test]
#[ignore = "needs redis-cli"]
fn redis_cli_gets_the_replies_of_redis() {
    let redis = Redis::serve();
    let cases = [
        ("ping", "PONG"),
        ("ping hello", "hello"),
        ("echo 'two words'", "two words"),
        ("get a", ""),
        ("set a 41", "OK"),
        ("get a", "41"),
        ("incr a", "42"),
        ("incr new", "1"),
        ("set text abc", "OK"),
        ("incr text", "ERR value is not an integer or out of range"),
        ("del a a text missing", "2"),
        ("get a", ""),
        ("expire missing 10", "0"),
        ("set a 1 nonsense 1", "ERR syntax error, or invalid expire time"),
        ("set a", "ERR unknown command, or wrong number of arguments"),
        ("config get save", "save"),
    ];
    for (command, reply) in cases {
        assert_eq!(redis.ask(command), reply, "{command}");
    }
}

#[test]
#[ignore = "needs redis-cli"]
fn a_key_expires_in_time_and_stays_if_it_was_set_again() {
    let redis = Redis::serve();
    // One pipeline, so that no key expires before the last command.
    let commands = [
        "set short x px 300",
        "set kept x px 300",
        "set kept y",
        "set long x px 300",
        "expire long 3600",
        "set number 1 px 300",
        "incr number",
    ];
    let (host, port) = (redis.at.ip(), redis.at.port());
    let replies = shell(&format!("printf '{}\n' | redis-cli -h {host} -p {port}", commands.join("\n")));
    assert_eq!(replies.split_whitespace().collect::<Vec<_>>(), ["OK", "OK", "OK", "OK", "1", "OK", "2"]);
    wait_until("the short key expires", || redis.ask("get short").is_empty());
    wait_until("the number expires", || redis.ask("get number").is_empty());
    assert_eq!((redis.ask("get kept"), redis.ask("get long")), ("y".to_owned(), "x".to_owned()));
}

#[test]
#[ignore = "needs nc"]
fn inline_commands_are_answered_and_invalid_ones_close_the_connection() {
    let redis = Redis::serve();
    let netcat = |bytes: &str| shell(&format!("printf '{bytes}' | nc -N {} {}", redis.at.ip(), redis.at.port()));
    assert_eq!(netcat("PING\\r\\nset a 1\\n\\r\\nget a\\r\\n"), "+PONG\r\n+OK\r\n$1\r\n1\r\n");
    assert_eq!(netcat("*1\\r\\nPING\\r\\nPING\\r\\n"), "-ERR Protocol error: expected '$'\r\n");
    assert_eq!(netcat("*1000000\\r\\n"), "-ERR Protocol error: invalid multibulk length\r\n");
    assert_eq!(netcat("*1\\r\\n$99999999\\r\\n"), "-ERR Protocol error: invalid bulk length\r\n");
    assert_eq!(netcat("*2\\r\\n$4\\r\\nECHO\\r\\n$5\\r\\nhel"), "", "an incomplete command has no reply");
}

#[test]
#[ignore = "needs redis-benchmark and redis-cli"]
fn redis_benchmark_reports_no_error() {
    let redis = Redis::serve();
    let report = redis.load("-t ping,set,get,incr -P 16 -n 20000 -q");
    assert_eq!(report.matches("requests per second").count(), 5, "{report}");
    assert!(!report.contains("ERR") && !report.contains("WARN"), "{report}");
}

#[test]
#[ignore = "needs redis-benchmark and redis-cli"]
fn a_command_whose_reply_waits_for_room_is_executed_once() {
    let redis = Redis::serve();
    redis.load("-P 500 -c 20 -n 20000 -q INCR counter");
    assert_eq!(redis.ask("get counter"), "20000");
    // Each reply fills half an outbox, so most commands of one read wait for room.
    shell(&format!(
        "head -c 30000 /dev/zero | tr '\\0' x | redis-cli -h {} -p {} -x set big",
        redis.at.ip(),
        redis.at.port()
    ));
    let report = redis.load("-P 100 -c 5 -n 5000 -q GET big");
    assert!(report.contains("requests per second"), "{report}");
    assert_eq!(redis.ask("get big").len(), 30000);
}

#[test]
fn a_key_is_not_read_in_the_turn_in_which_it_expires() {
    let simulation = Simulation::new(1);
    let at = SocketAddr::from(([10, 0, 0, 1], 6380));
    let mut events = simulation.event_loop();
    events.listen(at, server::Server { store: server::Store::default() }).expect("the address is free");
    let client = simulation.connect(at).expect("it listens");
    client.send(b"set a 1 px 300\r\n");
    while client.received() != b"+OK\r\n" {
        let _ = events.turn(Some(Duration::from_millis(1))).expect("the poll works");
    }
    // The next turn finds the command and the timer: input comes first.
    client.send(b"get a\r\nincr a\r\n");
    simulation.advance(Duration::from_millis(400));
    while client.received().len() < b"+OK\r\n$-1\r\n:1\r\n".len() {
        let _ = events.turn(Some(Duration::from_millis(1))).expect("the poll works");
    }
    assert_eq!(client.received().escape_ascii().to_string(), "+OK\\r\\n$-1\\r\\n:1\\r\\n");
}
