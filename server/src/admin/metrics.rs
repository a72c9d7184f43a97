//! `/metrics`: the figures in the text formats of Prometheus.

use std::fmt::Write;

use crate::admin::AdminContext;
use crate::admin::http_request::Request;
use crate::admin::http_response::Response;
use crate::admin::pages::{Page, PageOfAnswers};
use crate::admin::worker_query::{Asker, WorkerAnswer};
use crate::text::protocol::Protocol;

/// The types of version 0.0.4 of the text format, and of `OpenMetrics`.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Asks the workers, and renders their figures.
pub(crate) fn page(context: &AdminContext, request: &Request<'_>, asker: &Asker) -> Page {
    let answers = context.workers.ask(asker, |_, context| context.stats().clone());
    let is_open_metrics = request.accept.is_some_and(|accept| accept.contains("application/openmetrics-text"));
    let protocols = [Protocol::Tcp, Protocol::Unix, Protocol::Udp];
    let greetings = protocols.map(|protocol| {
        let of_workers = context.worker_counters.iter().map(|counters| counters.greetings(protocol).get());
        (protocol, of_workers.sum::<u64>())
    });
    let render = move |answers: Vec<WorkerAnswer<halloo::Stats>>| {
        let version = env!("CARGO_PKG_VERSION");
        let mut text = format!(
            "# HELP halloo_build_info The version of the server.\n# TYPE halloo_build_info gauge\n\
             halloo_build_info{{version=\"{version}\"}} 1\n\
             # HELP halloo_worker_up Whether the worker answered.\n# TYPE halloo_worker_up gauge\n"
        );
        // Writing into a string cannot fail, here and below.
        for (number, answer) in (1..).zip(&answers) {
            let is_up = u8::from(matches!(answer, WorkerAnswer::Answered(_)));
            let _ = writeln!(text, "halloo_worker_up{{worker=\"{number}\"}} {is_up}");
        }
        for (protocol, count) in greetings {
            let _ = writeln!(text, "halloo_greetings_total{{protocol=\"{protocol}\"}} {count}");
        }
        if is_open_metrics {
            text.push_str("# EOF\n");
        }
        Response::ok(if is_open_metrics { OPEN_METRICS } else { TEXT_FORMAT }, text)
    };
    Page::Waiting(Box::new(PageOfAnswers { answers, render }))
}
