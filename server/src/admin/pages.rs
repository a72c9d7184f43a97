//! The paths of the admin endpoint, and what each answers.
//!
//! Health never depends on the workers.

use std::fmt::Write;

use log::{Level, LevelFilter};

use crate::admin::http_request::Request;
use crate::admin::http_response::{PLAIN_TEXT, Response};
use crate::admin::worker_query::{Asker, PendingAnswers, WorkerAnswer};
use crate::admin::{AdminContext, connection_list, metrics};
use crate::faults::fault_control::FaultControl;
use crate::process::server_state::ServerState;
use crate::record::recordings::{Recordings, level_without_recording};
use crate::text::escape::excerpt;

/// A path, the methods for it, and what it is.
struct Resource {
    path: &'static str,
    methods: &'static str,
    summary: &'static str,
}

const READ: &str = "GET, HEAD";

const RESOURCES: [Resource; 7] = [
    Resource { path: "/", methods: READ, summary: "this list" },
    Resource { path: "/live", methods: READ, summary: "200 while the process runs" },
    Resource { path: "/ready", methods: READ, summary: "200 until a stop is requested, 503 while it starts or stops" },
    Resource { path: "/metrics", methods: READ, summary: "the figures, for Prometheus" },
    Resource { path: "/connections", methods: READ, summary: "the open connections, as JSON" },
    Resource {
        path: "/log-level",
        methods: "GET, HEAD, PUT, POST",
        summary: "error, warn, info, debug or trace; PUT sets it",
    },
    Resource {
        path: "/faults",
        methods: "GET, HEAD, PUT, POST",
        summary: "the faults of --fault, as JSON; PUT sets them, one a line",
    },
];

/// A response, or the question to the workers that it waits for.
pub(crate) enum Page {
    Ready(Response),
    Waiting(Box<dyn WaitingPage>),
}

/// A response that waits for the workers.
pub(crate) trait WaitingPage {
    /// Takes the answers that have arrived, and returns whether no other will.
    fn is_complete(&mut self) -> bool;

    /// Makes the response of the answers so far.
    fn finish(self: Box<Self>) -> Response;
}

/// Answers of workers, and what makes the response of them.
pub(crate) struct PageOfAnswers<T, F> {
    pub(crate) answers: PendingAnswers<T>,
    pub(crate) render: F,
}

impl<T, F: FnOnce(Vec<WorkerAnswer<T>>) -> Response> WaitingPage for PageOfAnswers<T, F> {
    fn is_complete(&mut self) -> bool {
        self.answers.are_complete()
    }

    fn finish(self: Box<Self>) -> Response {
        (self.render)(self.answers.finish())
    }
}

/// Answers a request that may be answered.
pub(crate) fn answer(context: &AdminContext, request: &Request<'_>, asker: &Asker) -> Page {
    let Some(path) = RESOURCES.iter().find(|path| path.path == request.path) else {
        let known: Vec<&str> = RESOURCES.iter().map(|path| path.path).collect();
        let sentence = format!("{} is not served; the paths are {}", excerpt(request.path), known.join(" "));
        return Page::Ready(Response::text(404, &sentence));
    };
    if !path.methods.split(", ").any(|method| method == request.method) {
        let sentence =
            format!("{} is not for {}; the methods are {}", excerpt(request.method), path.path, path.methods);
        return Page::Ready(Response { allow: Some(path.methods), ..Response::text(405, &sentence) });
    }
    Page::Ready(match path.path {
        "/live" => Response::text(200, "live"),
        "/ready" => readiness(context.state.get()),
        "/metrics" => return metrics::page(context, request, asker),
        "/connections" => return connection_list::page(context, asker),
        "/log-level" if request.has_query => {
            Response::text(400, "a query sets nothing; send the level as the body of PUT")
        }
        "/log-level" if request.only_reads() => show_log_level(),
        "/log-level" => set_log_level(context, request.body),
        "/faults" if request.has_query => {
            Response::text(400, "a query sets nothing; send the faults as the body of PUT")
        }
        "/faults" if request.only_reads() => show_faults(context.faults.as_deref()),
        "/faults" => set_faults(context.faults.as_deref(), request.body),
        _ => list_of_paths(),
    })
}

fn readiness(state: ServerState) -> Response {
    match state {
        ServerState::Starting => Response::text(503, "starting"),
        ServerState::Ready => Response::text(200, "ready"),
        ServerState::Stopping => Response::text(503, "stopping"),
    }
}

fn list_of_paths() -> Response {
    let mut text = String::new();
    for Resource { path, methods, summary } in &RESOURCES {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{path:12}  {methods:20} {summary}");
    }
    Response::ok(PLAIN_TEXT, text)
}

/// The level as a word.
fn show_log_level() -> Response {
    Response::text(200, &word_of(log::max_level()))
}

/// Sets the level that the body of a request names.
fn set_log_level(context: &AdminContext, body: &[u8]) -> Response {
    let text = String::from_utf8_lossy(body);
    let word = text.trim();
    let Some(level) = word.parse().ok().filter(|level| *level != LevelFilter::Off) else {
        let names = Level::iter().map(|level| word_of(level.to_level_filter())).collect::<Vec<_>>().join(", ");
        if word.is_empty() {
            return Response::text(400, &format!("the body is empty; send one of {names}"));
        }
        return Response::text(400, &format!("not a log level: {}; the levels are {names}", excerpt(word)));
    };
    let (old, word) = (log::max_level(), word_of(level));
    if old == level {
        return Response::text(200, &word);
    }
    // The line is logged at the more verbose level of the two, so that a change from error is not silent.
    log::set_max_level(old.max(level));
    log::warn!("log level: {word}, was {}", word_of(old));
    log::set_max_level(level);
    // At the level trace the loops note each step for the log.
    if !context.recordings.as_ref().is_some_and(Recordings::is_recording) {
        context.workers.set_journal_level(level_without_recording(true));
    }
    Response::text(200, &word)
}

fn show_faults(faults: Option<&FaultControl>) -> Response {
    const OFF: &str = "{\"enabled\":false,\"seed\":null,\"exchanges\":0,\"faults\":[]}\n";
    Response::ok("application/json", faults.map_or_else(|| OFF.to_owned(), FaultControl::json))
}

/// Sets the faults of the body, if the server was started for faults.
fn set_faults(faults: Option<&FaultControl>, body: &[u8]) -> Response {
    let Some(faults) = faults else {
        return Response::text(409, "this server does nothing wrong on purpose; start the server with --fault none");
    };
    let old = faults.list();
    match faults.replace(&String::from_utf8_lossy(body)) {
        Ok(new) => {
            log::warn!("faults: {new}, were {old}");
            Response::text(200, &new)
        }
        Err(error) => Response::text(400, &error),
    }
}

fn word_of(level: LevelFilter) -> String {
    level.as_str().to_ascii_lowercase()
}
