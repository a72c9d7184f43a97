//! The admin endpoint: metrics, health, connections, log level and faults over HTTP.
//!
//! It has a thread and a loop of its own, so that it answers while the workers are busy.

pub(crate) mod access;
pub(crate) mod admin_thread;
pub(crate) mod connection_list;
pub(crate) mod http_handler;
pub(crate) mod http_request;
pub(crate) mod http_response;
pub(crate) mod metrics;
pub(crate) mod pages;
pub(crate) mod worker_query;

use std::sync::Arc;

use crate::admin::metrics::figures::FigureSources;
use crate::admin::worker_query::WorkerQuery;
use crate::faults::fault_control::FaultControl;
use crate::process::server_state::SharedServerState;
use crate::record::recordings::Recordings;

/// The most large pages at once: each takes up to 3 MB.
const LARGE_PAGES_MAX: usize = 8;

/// What the endpoint shows of the server.
pub(crate) struct AdminContext {
    pub(crate) state: SharedServerState,
    pub(crate) recordings: Option<Recordings>,
    pub(crate) workers: WorkerQuery,
    pub(crate) figures: FigureSources,
    pub(crate) large_pages: LargePages,
    /// Set if the server was started with `--fault`.
    pub(crate) faults: Option<Arc<FaultControl>>,
}

/// The large pages that are being made and sent.
#[derive(Debug, Default)]
pub(crate) struct LargePages(Arc<()>);

/// Lets a large page be made and sent, until it is dropped.
#[derive(Debug)]
pub(crate) struct LargePagePermit {
    _counted: Arc<()>,
}

impl LargePages {
    /// A permit for one more page, if there are few.
    pub(crate) fn take(&self) -> Option<LargePagePermit> {
        (Arc::strong_count(&self.0) <= LARGE_PAGES_MAX).then(|| LargePagePermit { _counted: Arc::clone(&self.0) })
    }
}
