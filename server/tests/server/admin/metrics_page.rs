//! `/metrics`: its formats, and the page that lists every metric.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use support::network::http_client::{HttpClient, request};
use support::network::tcp;
use support::process::child::Process;
use support::process::server::Server;
use support::wait::wait_until;

use crate::HALLOO;
use crate::admin::scraped_metrics::{PROMETHEUS_ACCEPT, Scrape, scrape, scrape_text};

const PAGE: &str = include_str!("../../../../docs/metrics.md");

fn start() -> Server {
    HALLOO.start(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--workers", "2"])
}

#[test]
fn the_accept_header_chooses_the_format_and_both_have_the_same_series() {
    let server = start();
    let text = request(server.admin(), "GET /metrics", "");
    assert_eq!((text.status, text.header("content-type")), (200, Some("text/plain; version=0.0.4; charset=utf-8")));
    let open_metrics = request(server.admin(), "GET /metrics", PROMETHEUS_ACCEPT);
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!((open_metrics.status, open_metrics.header("content-type")), (200, Some(content_type)));
    assert!(open_metrics.body.ends_with("\n# EOF\n") && !text.body.contains("# EOF"));
    let (text, open_metrics) = (Scrape::parse(&text.body), Scrape::parse(&open_metrics.body));
    assert!(text.series().eq(open_metrics.series()));
}

#[test]
fn a_server_that_serves_is_ready_with_all_workers_up() {
    let server = start();
    tcp::request(server.tcp());
    // A turn is measured at its end.
    wait_until("a turn", || scrape(&server).value("halloo_turn_duration_seconds_sum") > 0.0);
    let scrape = scrape(&server);
    for series in ["halloo_ready", "halloo_worker_up{worker=\"1\"}", "halloo_worker_up{worker=\"2\"}"] {
        assert_eq!(scrape.count(series), 1, "{series}");
    }
    assert_eq!(scrape.count("halloo_workers"), 2);
    assert!(scrape.count("halloo_connections_max") > 0);
    assert!(scrape.value("process_cpu_seconds_total") > 0.0);
    let turns = scrape.count("halloo_turn_duration_seconds_count");
    assert_eq!(scrape.count("halloo_turn_duration_seconds_bucket{le=\"+Inf\"}"), turns);
    assert_eq!(scrape.count("halloo_turn_poll_events_count"), turns);
}

#[test]
fn no_counter_goes_back_while_the_workers_of_a_drain_end_one_after_the_other() {
    let arguments = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--workers", "4", "--drain-timeout", "60s"];
    let mut server = HALLOO.start(&arguments);
    for _ in 0..40 {
        tcp::request(server.tcp());
    }
    // It keeps one worker.
    let silent_client = tcp::connect(server.tcp());
    let accepted = "halloo_connections_accepted_total";
    wait_until("the connections", || scrape(&server).count(accepted) == 41);
    let before = scrape(&server);
    server.signal("TERM");
    let up = |scrape: &Scrape| -> u64 {
        (1..=4).map(|number| scrape.count(&format!("halloo_worker_up{{worker=\"{number}\"}}"))).sum()
    };
    wait_until("three workers to end", || up(&scrape(&server)) == 1);
    let after = scrape(&server);
    for series in before.series().filter(|series| series.contains("_total")) {
        assert!(after.value(series) >= before.value(series), "{series}");
    }
    assert_eq!((after.count("halloo_ready"), after.count("halloo_workers")), (0, 4));
    assert_eq!((after.count(accepted), after.count("halloo_connections")), (41, 1));
    drop(silent_client);
    assert_eq!(server.wait(), 0);
}

/// Half a percent of a core, at a scrape each second.
const SCRAPE_CPU_TIME_MAX: Duration = Duration::from_millis(5);

#[test]
fn a_scrape_takes_less_than_5_ms_of_processor_time() {
    let server = HALLOO.start(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--workers", "4"]);
    let (mut client, before) = (HttpClient::connect(server.admin()), server.cpu_time());
    for _ in 0..200 {
        assert_eq!(client.request("GET /metrics", PROMETHEUS_ACCEPT).status, 200);
    }
    let each = server.cpu_time_since(before) / 200;
    assert!(each < SCRAPE_CPU_TIME_MAX, "{each:?}");
}

/// A row of the table, or the head of a metric: kind, unit, labels.
type Metric = (String, String, BTreeSet<String>);

/// The rows of the table.
fn documented() -> BTreeMap<String, Metric> {
    let rows = PAGE.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix("| `")?.split(" | ").collect();
        let [name, kind, unit, labels, ..] = cells.as_slice() else { return None };
        let name = name.strip_suffix('`').filter(|_| cells.len() == 6)?;
        let labels = labels.split(", ").map(|label| label.trim_matches('`').to_owned());
        let labels = labels.filter(|label| label != "–").collect();
        let unit = unit.trim_matches('–').to_owned();
        Some((name.to_owned(), ((*kind).to_owned(), unit, labels)))
    });
    rows.collect()
}

/// The metrics of an answer in `OpenMetrics`, by the name of their samples.
fn answered(text: &str) -> BTreeMap<String, Metric> {
    let mut metrics = BTreeMap::new();
    for (family, kind) in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')) {
        let suffix = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let unit = text.lines().find_map(|line| line.strip_prefix(&format!("# UNIT {family} ")));
        let samples = text.lines().filter_map(|line| line.strip_prefix(family)?.strip_prefix(suffix));
        let of_samples = samples.filter_map(|rest| rest.trim_start_matches("_bucket").strip_prefix('{'));
        let labels = of_samples.filter_map(|rest| Some(rest.split_once('=')?.0.to_owned())).collect();
        let metric = (kind.to_owned(), unit.unwrap_or_default().to_owned(), labels);
        metrics.insert(format!("{family}{suffix}"), metric);
    }
    metrics
}

#[test]
fn the_page_lists_every_metric_of_an_answer_and_no_other() {
    let documented = documented();
    assert!(documented.len() > 25, "only {} metrics were found: the search is broken", documented.len());
    assert_eq!(documented, answered(&scrape_text(start().admin(), PROMETHEUS_ACCEPT)));
}

#[test]
fn the_page_lists_every_value_of_the_labels_reason_and_cause() {
    let text = scrape_text(start().admin(), "");
    for label in ["reason", "cause"] {
        let before_value = format!("{{{label}=\"");
        let values = text.split(&before_value).skip(1).filter_map(|rest| rest.split('"').next());
        let values: BTreeSet<&str> = values.collect();
        assert!(!values.is_empty(), "{label}: the search is broken");
        for value in values {
            assert!(PAGE.contains(&format!("`{value}`")), "{label} {value} is not in the page");
        }
    }
}

#[test]
#[ignore = "needs prometheus"]
fn promtool_has_no_objection_to_the_text_format() {
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = Process::spawn(promtool);
    promtool.write_stdin(&scrape_text(start().admin(), ""));
    promtool.close_stdin();
    let status = promtool.wait();
    promtool.wait_for_eof();
    // An objection of style is a line, and status 3.
    assert_eq!((status, promtool.stdout.text(), promtool.stderr.text()), (0, String::new(), String::new()));
}

#[test]
#[ignore = "needs prometheus"]
fn promtool_accepts_the_configuration_to_copy_and_each_alert_fires_when_it_should() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/deploy/prometheus");
    for (kind, file) in [("rules", "halloo.rules.yml"), ("config", "prometheus.yml")] {
        let mut promtool = Command::new("promtool");
        let output = promtool.args(["check", kind]).arg(folder.join(file)).output().expect("promtool starts");
        assert!(output.status.success(), "{file}: {output:?}");
    }
    let mut promtool = Command::new("promtool");
    let output = promtool.args(["test", "rules"]).arg(folder.join("halloo.rules.test.yml")).output();
    let output = output.expect("promtool starts");
    assert!(output.status.success(), "{output:?}");
    // Each metric of a rule exists.
    let rules = fs::read_to_string(folder.join("halloo.rules.yml")).expect("it exists");
    let answer = scrape_text(start().admin(), "");
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names: BTreeSet<&str> = rules.split(|c| !is_part(c)).filter(|word| word.starts_with("halloo_")).collect();
    assert!(names.len() > 3, "the search is broken");
    for name in names {
        assert!(answer.contains(&format!("# TYPE {name} ")), "{name} is no metric");
    }
}

/// Prints the numbers of families and samples.
const PARSER: &str = "
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
families = list(text_string_to_metric_families(sys.stdin.read()))
print(len(families), sum(len(family.samples) for family in families))
";

#[test]
#[ignore = "needs python3 with prometheus-client"]
fn the_strict_parser_of_prometheus_client_reads_every_sample_of_openmetrics() {
    let text = scrape_text(start().admin(), PROMETHEUS_ACCEPT);
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/openmetrics");
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-c", PARSER]).env("PYTHONPATH", packages);
    python.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut python = Process::spawn(python);
    python.write_stdin(&text);
    python.close_stdin();
    assert_eq!(python.wait(), 0, "{}", python.stderr.text());
    python.wait_for_eof();
    let samples = text.lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(python.stdout.text(), format!("{} {samples}\n", documented().len()));
}
