//! `/metrics`: the figures of the server in the text formats of Prometheus.
//!
//! A worker that does not answer in time keeps its last known figures.

pub(crate) mod exposition;
pub(crate) mod figures;
pub(crate) mod metric_table;

use halloo::Stats;

use crate::admin::AdminContext;
use crate::admin::http_request::Request;
use crate::admin::http_response::Response;
use crate::admin::metrics::exposition::Format;
use crate::admin::pages::{Page, PageOfAnswers};
use crate::admin::worker_query::{Asker, WorkerAnswer};

/// Asks the workers for their counters, and renders all figures.
pub(crate) fn page(context: &AdminContext, request: &Request<'_>, asker: &Asker) -> Page {
    let (sources, format) = (context.figures.clone(), Format::from_accept(request.accept));
    let answers = context.workers.ask(asker, |_, context| context.stats().clone());
    let render = move |answers: Vec<WorkerAnswer<Stats>>| {
        Response::ok(format.content_type(), metric_table::render(&sources.read(answers), format))
    };
    Page::Waiting(Box::new(PageOfAnswers { answers, render }))
}
