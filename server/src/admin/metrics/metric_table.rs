//! The table of all metrics: name, kind, help, and the figure.
//!
//! A series exists from the first answer on, also at 0: the first increase of a series that appears later is not seen.

use std::time::Duration;

use halloo::{CloseReason, Histogram};
use log::Level;

use crate::admin::metrics::exposition::{Buckets, Exposition, Format, Head, Kind, Value};
use crate::admin::metrics::figures::Figures;
use crate::greeting::worker_counters::{Counter, HeaderError, WorkerCounters};
use crate::text::fault_event::FaultKind;
use crate::text::protocol::Protocol;

/// All metrics in a format.
pub(crate) fn render(figures: &Figures, format: Format) -> String {
    let mut exposition = Exposition::new(format);
    for Metric { head, samples } in METRICS {
        exposition.head(head);
        match samples {
            Samples::Count(count) => exposition.sample(head.name, None, Value::Count(count(figures))),
            Samples::Seconds(seconds) => exposition.sample(head.name, None, Value::Seconds(seconds(figures))),
            Samples::ByLabel(label, counts) => {
                for (text, count) in counts(figures) {
                    exposition.sample(head.name, Some((label, &text)), Value::Count(count));
                }
            }
            Samples::Buckets(buckets, histogram) => exposition.histogram(head.name, *buckets, histogram(figures)),
        }
    }
    exposition.finish()
}

/// A metric, and how its samples are read.
struct Metric {
    head: Head,
    samples: Samples,
}

/// The samples of one metric.
enum Samples {
    Count(fn(&Figures) -> u64),
    Seconds(fn(&Figures) -> Duration),
    /// One for each value of a label. No label names a client: the number of series would have no limit.
    ByLabel(&'static str, fn(&Figures) -> Vec<(String, u64)>),
    Buckets(Buckets, fn(&Figures) -> &Histogram),
}

impl Metric {
    const fn new(kind: Kind, name: &'static str, help: &'static str, samples: Samples) -> Self {
        Self { head: Head { name, kind, help }, samples }
    }

    const fn gauge(name: &'static str, help: &'static str, value: fn(&Figures) -> u64) -> Self {
        Self::new(Kind::Gauge, name, help, Samples::Count(value))
    }

    const fn counter(name: &'static str, help: &'static str, count: fn(&Figures) -> u64) -> Self {
        Self::new(Kind::Counter, name, help, Samples::Count(count))
    }

    const fn counter_by(
        label: &'static str,
        name: &'static str,
        help: &'static str,
        counts: fn(&Figures) -> Vec<(String, u64)>,
    ) -> Self {
        Self::new(Kind::Counter, name, help, Samples::ByLabel(label, counts))
    }
}

/// From 1 microsecond to 17 seconds, each bound twice the one before.
const TURN_DURATION_BUCKETS: Buckets = Buckets { bits_min: 10, bits_max: 34, value: Value::nanoseconds };

/// From 0 to 2,047 events.
const TURN_EVENTS_BUCKETS: Buckets = Buckets { bits_min: 0, bits_max: 11, value: Value::Count };

const METRICS: &[Metric] = &[
    Metric::new(
        Kind::Info,
        "halloo_build_info",
        "Version of the program; the value is always 1.",
        Samples::ByLabel("version", |_| labeled([(env!("CARGO_PKG_VERSION"), 1)])),
    ),
    Metric::new(
        Kind::Gauge,
        "process_start_time_seconds",
        "Start of the server, in seconds since 1970.",
        Samples::Seconds(|figures| figures.started_at),
    ),
    Metric::new(
        Kind::Counter,
        "process_cpu_seconds_total",
        "Processor time of all threads, in the program and in the kernel.",
        Samples::Seconds(|figures| figures.cpu_time),
    ),
    Metric::gauge("halloo_ready", "1 while the server is ready, 0 while it starts or stops.", |figures| {
        figures.is_ready.into()
    }),
    Metric::gauge("halloo_workers", "Workers of the server, also those that have ended.", |figures| {
        figures.workers_up.len() as u64
    }),
    Metric::new(
        Kind::Gauge,
        "halloo_worker_up",
        "1 if the worker has answered this scrape within 100 milliseconds; at 0 its last known figures are counted.",
        Samples::ByLabel("worker", |figures| {
            (1..).zip(&figures.workers_up).map(|(number, is_up)| (format!("{number}"), (*is_up).into())).collect()
        }),
    ),
    Metric::counter_by(
        "protocol",
        "halloo_greetings_total",
        "Greetings sent; in the modes echo and discard, connections that have ended and datagrams.",
        |figures| {
            let count = |protocol| sum(figures, |counters| counters.greetings(protocol));
            [Protocol::Tcp, Protocol::Udp, Protocol::Unix]
                .map(|protocol| (protocol.to_string(), count(protocol)))
                .into()
        },
    ),
    Metric::counter("halloo_received_bytes_total", "Bytes read from connections.", |figures| {
        figures.total.bytes_received
    }),
    Metric::counter("halloo_sent_bytes_total", "Bytes of connections that the kernel accepted.", |figures| {
        figures.total.bytes_sent
    }),
    Metric::gauge("halloo_connections", "Open connections, including those being closed.", |figures| {
        figures.total.connections
    }),
    Metric::gauge("halloo_connections_max", "The most connections that all workers together may have.", |figures| {
        figures.connections_max as u64
    }),
    Metric::counter("halloo_connections_accepted_total", "Connections accepted and served.", |figures| {
        figures.total.accepted
    }),
    Metric::counter_by(
        "reason",
        "halloo_connections_closed_total",
        "Connections that have ended, by the first cause of the end.",
        |figures| {
            let count = |reason: &CloseReason| (reason.as_str().to_owned(), figures.total.closed(*reason));
            CloseReason::ALL.iter().map(count).collect()
        },
    ),
    Metric::counter_by(
        "cause",
        "halloo_connections_refused_total",
        "Connections refused because a limit was reached.",
        |figures| {
            // At the limit of all connections clients wait in the backlog, and none is refused.
            labeled([("source_limit", figures.total.refused_source)])
        },
    ),
    Metric::counter("halloo_accept_errors_total", "Failed accepts; each is retried.", |figures| {
        figures.total.accept_errors
    }),
    Metric::counter("halloo_receive_errors_total", "Failed receives on UDP sockets; each is retried.", |figures| {
        figures.total.receive_errors
    }),
    Metric::counter("halloo_pauses_total", "Pauses of listeners and UDP sockets after errors.", |figures| {
        figures.total.pauses
    }),
    Metric::counter("halloo_datagrams_received_total", "Datagrams received.", |figures| {
        figures.total.datagrams_received
    }),
    Metric::counter("halloo_datagrams_sent_total", "Datagrams that the kernel accepted.", |figures| {
        figures.total.datagrams_sent
    }),
    Metric::counter(
        "halloo_datagrams_truncated_total",
        "Datagrams received that were longer than the buffer, and so cut.",
        |figures| figures.total.datagrams_truncated,
    ),
    Metric::counter_by(
        "reason",
        "halloo_datagrams_dropped_total",
        "Datagrams that got no reply, or whose reply was lost, by the reason.",
        |figures| {
            labeled([
                ("send_error", figures.total.datagrams_dropped),
                ("bad_address", figures.total.replies_refused_address),
                ("rate_limit", figures.total.replies_refused_rate),
                ("unsendable", figures.total.replies_refused_queue),
                ("is_greeting", sum(figures, |counters| &counters.looped_datagrams)),
                ("proxy_header", sum(figures, |counters| &counters.refused_datagrams)),
            ])
        },
    ),
    Metric::counter_by(
        "version",
        "halloo_proxy_headers_total",
        "PROXY headers of trusted clients, on connections and datagrams.",
        |figures| {
            labeled([
                ("1", sum(figures, |counters| &counters.version_1_headers)),
                ("2", sum(figures, |counters| &counters.version_2_headers)),
            ])
        },
    ),
    Metric::counter_by(
        "reason",
        "halloo_proxy_headers_rejected_total",
        "Connections and datagrams refused for their PROXY header, or for the lack of one.",
        |figures| {
            HeaderError::ALL
                .map(|error| (error.as_str().to_owned(), sum(figures, |counters| counters.header_errors(error))))
                .into()
        },
    ),
    Metric::counter(
        "halloo_fault_exchanges_total",
        "Connections and datagrams for which a fault of --fault was drawn, also those without one.",
        |figures| sum(figures, |counters| &counters.fault_exchanges),
    ),
    Metric::counter_by(
        "fault",
        "halloo_faults_total",
        "Connections and datagrams that have met a fault of --fault.",
        |figures| {
            FaultKind::ALL.map(|kind| (kind.as_str().to_owned(), sum(figures, |counters| counters.faults(kind)))).into()
        },
    ),
    Metric::counter("halloo_events_total", "Events of greetings and faults, also those not printed.", |figures| {
        figures.output.events
    }),
    Metric::counter(
        "halloo_events_suppressed_total",
        "Events that were only counted, because there were too many to print.",
        |figures| figures.output.events_suppressed,
    ),
    Metric::counter_by(
        "stream",
        "halloo_lines_lost_total",
        "Lines that standard output or standard error did not take, or not in time.",
        |figures| {
            let output = &figures.output;
            labeled([("stdout", output.stdout_lines_lost), ("stderr", output.stderr_lines_lost)])
        },
    ),
    Metric::counter_by("level", "halloo_log_lines_total", "Lines of the log, by level.", |figures| {
        let word = |level: Level| level.as_str().to_ascii_lowercase();
        Level::iter().map(word).zip(figures.output.log_lines).collect()
    }),
    Metric::counter("halloo_panics_total", "Callbacks of workers that panicked: a bug of the program.", |figures| {
        figures.total.panics
    }),
    Metric::counter(
        "halloo_memory_strains_total",
        "Times that the buffers of a worker came near their limit.",
        |figures| figures.total.memory_strains,
    ),
    Metric::counter("halloo_turns_total", "Turns of the event loops of all workers.", |figures| figures.total.turns),
    Metric::counter("halloo_poll_events_total", "Events that the polls of the event loops returned.", |figures| {
        figures.total.events
    }),
    Metric::counter("halloo_timers_total", "Timers that expired.", |figures| figures.total.timers),
    Metric::counter(
        "halloo_posted_jobs_total",
        "Jobs from other threads that workers have run; each scrape posts one to each worker.",
        |figures| figures.total.jobs,
    ),
    Metric::new(
        Kind::Histogram,
        "halloo_turn_duration_seconds",
        "Time of work in a turn of an event loop, from the end of its poll.",
        Samples::Buckets(TURN_DURATION_BUCKETS, |figures| &figures.total.turn_time),
    ),
    Metric::new(
        Kind::Histogram,
        "halloo_turn_poll_events",
        "Events that a turn of an event loop got from its polls.",
        Samples::Buckets(TURN_EVENTS_BUCKETS, |figures| &figures.total.events_per_turn),
    ),
];

/// A counter of all workers.
fn sum(figures: &Figures, counter: impl Fn(&WorkerCounters) -> &Counter) -> u64 {
    figures.worker_counters.iter().map(|counters| counter(counters).get()).sum()
}

/// Counts by the value of a label.
fn labeled<const N: usize>(counts: [(&str, u64); N]) -> Vec<(String, u64)> {
    counts.map(|(text, count)| (text.to_owned(), count)).into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::time::Duration;

    use halloo::Stats;

    use super::{METRICS, render};
    use crate::admin::metrics::exposition::{Format, Kind};
    use crate::admin::metrics::figures::Figures;
    use crate::greeting::worker_counters::WorkerCounters;
    use crate::output::printer_thread::OutputCounts;
    use crate::text::protocol::Protocol;

    fn figures() -> Figures {
        let worker_counters: Vec<Arc<WorkerCounters>> = vec![Arc::default(), Arc::default()];
        worker_counters[0].greetings(Protocol::Tcp).add_one();
        worker_counters[1].greetings(Protocol::Tcp).add_one();
        worker_counters[1].greetings(Protocol::Udp).add_one();
        let mut total = Stats::default();
        total.turn_time.record(3_000_000_000);
        total.events_per_turn.record(0);
        let output = OutputCounts { log_lines: [1, 2, 3, 4, 5], stderr_lines_lost: 6, ..OutputCounts::default() };
        Figures {
            started_at: Duration::new(1_700_000_000, 123_000_000),
            cpu_time: Duration::from_micros(1500),
            is_ready: true,
            workers_up: vec![true, false],
            total,
            worker_counters,
            output,
            connections_max: 1000,
        }
    }

    #[test]
    fn names_follow_the_conventions() {
        let mut names = BTreeSet::new();
        for metric in METRICS {
            let (name, help) = (metric.head.name, metric.head.help);
            assert!(names.insert(name), "{name} is there twice");
            assert!(name.starts_with("halloo_") || name.starts_with("process_"), "{name}");
            assert!(name.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase()), "{name}");
            assert_eq!(name.ends_with("_total"), metric.head.kind == Kind::Counter, "{name}");
            assert_eq!(name.ends_with("_info"), metric.head.kind == Kind::Info, "{name}");
            assert!(help.ends_with('.') && help.split(' ').count() <= 20, "{name}: {help}");
        }
    }

    #[test]
    fn both_formats_have_the_same_samples() {
        let samples = |format| -> Vec<String> {
            let text = render(&figures(), format);
            text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
        };
        let text = samples(Format::Text);
        assert_eq!(text, samples(Format::OpenMetrics));
        for expected in [
            "halloo_greetings_total{protocol=\"tcp\"} 2",
            "halloo_greetings_total{protocol=\"udp\"} 1",
            "halloo_greetings_total{protocol=\"unix\"} 0",
            "halloo_worker_up{worker=\"1\"} 1",
            "halloo_worker_up{worker=\"2\"} 0",
            "halloo_workers 2",
            "halloo_ready 1",
            "process_start_time_seconds 1700000000.123",
            "process_cpu_seconds_total 0.0015",
            "halloo_connections_closed_total{reason=\"write-stalled\"} 0",
            "halloo_lines_lost_total{stream=\"stderr\"} 6",
            "halloo_log_lines_total{level=\"error\"} 1",
            "halloo_log_lines_total{level=\"trace\"} 5",
            "halloo_turn_duration_seconds_bucket{le=\"0.000001023\"} 0",
            "halloo_turn_duration_seconds_bucket{le=\"2.147483647\"} 0",
            "halloo_turn_duration_seconds_bucket{le=\"4.294967295\"} 1",
            "halloo_turn_duration_seconds_bucket{le=\"17.179869183\"} 1",
            "halloo_turn_duration_seconds_sum 3.0",
            "halloo_turn_poll_events_bucket{le=\"0.0\"} 1",
            "halloo_turn_poll_events_count 1",
        ] {
            assert!(text.iter().any(|line| line == expected), "{expected} is missing in {text:#?}");
        }
    }
}
