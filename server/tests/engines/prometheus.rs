//! A real Prometheus that scrapes the server, with the files of `examples/deploy`.

use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::network::ports::wait_for_listener;
use support::network::streams::{read_to_end, send};
use support::network::tcp::{connect, request};
use support::network::udp::{UDP_REQUEST, request_udp};
use support::process::child::Process;
use support::process::server::Server;
use support::wait::{repeat_for, wait_until};

use crate::HALLOO;
use crate::engine::{deployed, folder_with, unused_address};

/// How long Prometheus scrapes, once a second.
const DURATION: Duration = Duration::from_secs(30);

/// Exchanges in each protocol, spread over the first half of that time.
const EXCHANGES: u32 = 150;

struct Prometheus {
    address: SocketAddr,
    process: Process,
    /// Dropped after the process.
    _folder: tempfile::TempDir,
}

impl Prometheus {
    /// Starts it with the configuration to copy, at a scrape each second, and waits for the first one.
    #[track_caller]
    fn start(server: SocketAddr) -> Self {
        let substitutes = [
            ("scrape_interval: 15s", "scrape_interval: 1s".to_owned()),
            ("evaluation_interval: 15s", "evaluation_interval: 1s".to_owned()),
            ("127.0.0.1:9464", server.to_string()),
        ];
        let (folder, configuration) = folder_with(&deployed("prometheus/prometheus.yml", &substitutes));
        let rules = deployed("prometheus/halloo.rules.yml", &[]);
        fs::write(folder.path().join("halloo.rules.yml"), rules).expect("the folder is writable");
        let address = unused_address();
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", configuration.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
        command.arg(format!("--web.listen-address={address}")).arg("--log.level=warn");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let process = Process::spawn(command);
        wait_for_listener(address.port());
        let prometheus = Self { address, process, _folder: folder };
        wait_until("Prometheus", || prometheus.get("/-/ready").contains(" 200 "));
        wait_until("the first scrape", || !prometheus.query("up").is_empty());
        prometheus
    }

    /// The response to a request.
    #[track_caller]
    fn get(&self, path: &str) -> String {
        let stream = connect(self.address);
        // HTTP/1.0: the response is not chunked, and ends with EOF.
        send(&stream, format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes());
        read_to_end(&stream)
    }

    #[track_caller]
    fn api(&self, path: &str) -> Value {
        let response = self.get(&format!("/api/v1/{path}"));
        let (_, body) = response.split_once("\r\n\r\n").expect("a head and a body");
        let answer: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {response}"));
        assert_eq!(answer["status"], "success", "{answer}");
        answer["data"].clone()
    }

    /// The values of an expression.
    #[track_caller]
    fn query(&self, expression: &str) -> Vec<String> {
        let encoded = expression.bytes().fold(String::new(), |encoded, byte| format!("{encoded}%{byte:02X}"));
        let data = self.api(&format!("query?query={encoded}"));
        let results = data["result"].as_array().expect("a vector").iter();
        results.map(|result| result["value"][1].as_str().expect("a number").to_owned()).collect()
    }

    /// The one value of an expression.
    #[track_caller]
    fn value(&self, expression: &str) -> f64 {
        let values = self.query(expression);
        assert_eq!(values.len(), 1, "{expression}: {values:?}");
        values[0].parse().expect("a number")
    }

    /// Fails unless an expression has one value, this one.
    #[track_caller]
    fn assert_is(&self, expression: &str, value: u32) {
        assert_eq!(self.query(expression), [value.to_string()], "{expression}");
    }
}

/// Sends exchanges of both protocols, evenly for half of the time.
fn send_load(server: &Server) {
    let (start, (tcp, udp)) = (Instant::now(), (server.tcp(), server.udp()));
    for number in 0..EXCHANGES {
        request(tcp);
        request_udp(udp, UDP_REQUEST);
        let due = start + DURATION / 2 * (number + 1) / EXCHANGES;
        repeat_for(due.saturating_duration_since(Instant::now()), thread::yield_now);
    }
}

#[test]
#[ignore = "needs prometheus"]
fn prometheus_scrapes_the_server_without_an_error_and_sees_every_greeting() {
    let arguments = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--workers", "2", "--udp-rate", "0"];
    let server = HALLOO.start(&[&arguments[..], &["--events", "off"]].concat());
    let prometheus = Prometheus::start(server.admin());
    let start = Instant::now();
    send_load(&server);
    let sent_per_second = f64::from(EXCHANGES) / start.elapsed().as_secs_f64();
    let rates = ["tcp", "udp"]
        .map(|protocol| prometheus.value(&format!("rate(halloo_greetings_total{{protocol=\"{protocol}\"}}[10s])")));
    for rate in rates {
        assert!((rate / sent_per_second - 1.0).abs() < 0.1, "{rate} instead of {sent_per_second} a second");
    }
    repeat_for(DURATION.saturating_sub(start.elapsed()), || {
        let targets = prometheus.api("targets?state=active");
        let errors = targets["activeTargets"].as_array().expect("a list").iter().map(|target| &target["lastError"]);
        assert!(errors.clone().all(|error| error == "") && errors.count() == 1, "{targets}");
    });
    let scrapes = prometheus.value("count_over_time(up[30s])");
    assert!((25.0..=31.0).contains(&scrapes), "{scrapes} scrapes in 30 s");
    prometheus.assert_is("min_over_time(up[30s])", 1);
    // The series are the same from the first scrape on.
    let samples = prometheus.query("scrape_samples_scraped");
    assert_eq!(prometheus.query("min_over_time(scrape_samples_scraped[30s])"), samples);
    assert_eq!(prometheus.query("max_over_time(scrape_samples_scraped[30s])"), samples);
    prometheus.assert_is("min_over_time(halloo_ready[30s])", 1);
    prometheus.assert_is("min(min_over_time(halloo_worker_up[30s]))", 1);
    for protocol in ["tcp", "udp"] {
        prometheus.assert_is(&format!("halloo_greetings_total{{protocol=\"{protocol}\"}}"), EXCHANGES);
    }
    assert_eq!(prometheus.query("ALERTS"), [""; 0], "no alert is pending or firing");
    println!("scrapes: {scrapes}, samples: {samples:?}, greetings a second: {rates:?} of {sent_per_second}");
    assert_eq!(prometheus.process.stderr.text(), "");
}
