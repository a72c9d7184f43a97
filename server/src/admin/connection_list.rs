//! `/connections`: the open connections of all workers, as JSON.
//!
//! The list is bounded. It has the workers that did not answer.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use halloo::{Connection, Context};

use crate::admin::AdminContext;
use crate::admin::http_response::Response;
use crate::admin::pages::{Page, PageOfAnswers};
use crate::admin::worker_query::{Asker, WorkerAnswer};
use crate::process::worker_loops::WorkerLoop;
use crate::text::bound_address::BoundAddress;
use crate::text::protocol::Protocol;
use crate::text::served_socket::ServedSocket;

/// The most connections in the list, which then is about 2 MB long.
const ENTRIES_MAX: usize = 10_000;

/// One connection.
struct Entry {
    id: u64,
    peer: Option<SocketAddr>,
    protocol: Protocol,
    local: Option<BoundAddress>,
    idle: Duration,
    unsent_bytes: usize,
}

/// The connections of one worker.
struct WorkerConnections {
    entries: Vec<Entry>,
    /// Also those beyond [`ENTRIES_MAX`].
    total: usize,
}

/// Asks the workers, and lists their connections.
pub(crate) fn page(context: &AdminContext, asker: &Asker) -> Page {
    let Some(permit) = context.large_pages.take() else {
        return Page::Ready(Response::text(503, "too many lists are being sent; try again"));
    };
    let room = Arc::new(AtomicUsize::new(ENTRIES_MAX));
    let answers = context.workers.ask(asker, move |worker_loop, context| list_connections(worker_loop, context, &room));
    let render = move |answers: Vec<WorkerAnswer<WorkerConnections>>| Response {
        permit: Some(permit),
        ..Response::ok("application/json", write_json(&answers))
    };
    Page::Waiting(Box::new(PageOfAnswers { answers, render }))
}

/// Lists the connections of a worker, on its thread, as far as there is room.
fn list_connections(worker_loop: &WorkerLoop, context: &mut Context, room: &AtomicUsize) -> WorkerConnections {
    let mut listed = WorkerConnections { entries: Vec::new(), total: 0 };
    for (handler, socket) in &worker_loop.listeners {
        context.for_each_connection(*handler, |connection| {
            listed.total += 1;
            let take_one = |left: usize| left.checked_sub(1);
            if room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take_one).is_ok() {
                listed.entries.push(entry(socket, connection));
            }
        });
    }
    listed
}

fn entry(socket: &ServedSocket, connection: &Connection<'_>) -> Entry {
    Entry {
        id: connection.id().number(),
        peer: connection.peer_addr(),
        protocol: socket.protocol,
        local: socket.unix_address().cloned().or_else(|| connection.local_addr().map(BoundAddress::from)),
        idle: connection.idle_time(),
        unsent_bytes: connection.outbox_len(),
    }
}

fn write_json(answers: &[WorkerAnswer<WorkerConnections>]) -> String {
    let mut json = String::from("{\"connections\":[");
    let (mut listed, mut total, mut silent_workers) = (0, 0, Vec::new());
    for (worker, answer) in (1..).zip(answers) {
        match answer {
            WorkerAnswer::Answered(connections) => {
                total += connections.total;
                for entry in &connections.entries {
                    json.push_str(if listed == 0 { "\n" } else { ",\n" });
                    write_entry(&mut json, worker, entry);
                    listed += 1;
                }
            }
            WorkerAnswer::Silent => silent_workers.push(worker.to_string()),
            WorkerAnswer::NotRunning => {}
        }
    }
    let (is_truncated, silent_workers) = (listed < total, silent_workers.join(","));
    // Writing into a string cannot fail, here and below.
    let _ =
        writeln!(json, "\n],\n\"total\":{total},\"truncated\":{is_truncated},\"silent_workers\":[{silent_workers}]}}");
    json
}

fn write_entry(json: &mut String, worker: usize, entry: &Entry) {
    let Entry { id, peer, protocol, local, idle, unsent_bytes } = entry;
    let address = |address: Option<&BoundAddress>| address.map_or_else(|| "null".to_owned(), BoundAddress::json);
    let (peer, local) = (peer.map(BoundAddress::from), address(local.as_ref()));
    let (peer, idle) = (address(peer.as_ref()), idle.as_secs_f64());
    let _ = write!(
        json,
        "{{\"worker\":{worker},\"id\":{id},\"protocol\":\"{protocol}\",\"peer\":{peer},\"local\":{local},\
         \"idle_seconds\":{idle:.3},\"unsent_bytes\":{unsent_bytes}}}"
    );
}
