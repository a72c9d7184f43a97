//! What all workers of a server share.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::cli::flags::serve_options::ServeOptions;
use crate::exit::{ExitError, ExitStatus};
use crate::greeting::greeter::{Greeter, GreetingTemplates};
use crate::greeting::greeting_quota::GreetingQuota;
use crate::greeting::worker_counters::WorkerCounters;
use crate::output::counters::Counters;
use crate::output::event_log::EventLog;
use crate::output::printer_thread::Printer;
use crate::process::sd_notify::SdNotifier;
use crate::process::server_state::{ServerState, SharedServerState};
use crate::process::shutdown::Shutdown;
use crate::process::worker_loops::WorkerLoops;
use crate::record::recordings::Recordings;

/// What all workers share.
pub(crate) struct ServerContext<'o> {
    pub(crate) options: &'o ServeOptions,
    pub(crate) shutdown: Shutdown,
    pub(crate) counters: Counters,
    pub(crate) recordings: Option<Recordings>,
    templates: GreetingTemplates,
    quota: Option<Arc<GreetingQuota>>,
    event_log: EventLog,
    /// The counters of each worker's greetings, the first worker's first.
    pub(crate) worker_counters: Vec<Arc<WorkerCounters>>,
    /// Whether a stop signal has arrived since the start began to open sockets.
    pub(crate) stop_requested: Arc<AtomicBool>,
    /// Workers that are not idle; each counts itself.
    pub(crate) busy_workers: AtomicUsize,
    /// Whether the server ends because all workers were idle.
    ended_idle: AtomicBool,
}

impl<'o> ServerContext<'o> {
    /// The context for as many workers as the command line asks for; an error if the file of the recordings cannot be
    /// written.
    pub(crate) fn new(
        options: &'o ServeOptions,
        templates: GreetingTemplates,
        printer: &Printer,
        notifier: SdNotifier,
    ) -> Result<Self, ExitError> {
        let ServeOptions { workers, lifetime, output, .. } = options;
        let needs_quota = lifetime.max_greetings.is_some() || templates.has_number();
        let loops = WorkerLoops::default();
        Ok(Self {
            options,
            recordings: Recordings::new(options, &loops)?,
            counters: Counters::new(*workers, loops.clone(), printer.clone()),
            shutdown: Shutdown {
                drain_delay: lifetime.drain_delay,
                drain_timeout: lifetime.drain_timeout,
                notifier,
                state: SharedServerState::default(),
                loops,
                keeps_connections: options.replies.mode.keeps_connections(),
            },
            templates,
            quota: needs_quota.then(|| Arc::new(GreetingQuota::new(lifetime.max_greetings))),
            worker_counters: (0..*workers).map(|_| Arc::default()).collect(),
            event_log: EventLog::new(printer.clone(), output.events),
            stop_requested: Arc::default(),
            busy_workers: AtomicUsize::new(*workers),
            ended_idle: AtomicBool::new(false),
        })
    }

    /// Whether a stop signal has arrived, which abandons a start.
    pub(crate) fn is_stop_requested(&self) -> bool {
        self.stop_requested.load(Ordering::SeqCst)
    }

    /// Drains all loops because all workers are idle. After a request to stop, this only ends the drain delay.
    pub(crate) fn end_idle(&self) {
        if self.shutdown.state.get() != ServerState::Stopping {
            self.ended_idle.store(true, Ordering::Relaxed);
        }
        // Loops that have ended already need no message.
        let _ = self.shutdown.drain();
    }

    /// The exit status of a server that has drained. Logs the number of greetings if it is below `--max-greetings`.
    pub(crate) fn exit_status(&self) -> ExitStatus {
        let missing = self.quota.as_ref().and_then(|quota| quota.given_of_max()).filter(|(given, max)| given < max);
        match missing {
            Some((given, max)) if self.ended_idle.load(Ordering::Relaxed) => {
                log::warn!("{given} of {max} greetings sent before the server was idle");
                ExitStatus::TimedOut
            }
            Some((given, max)) => {
                log::info!("{given} of {max} greetings sent");
                ExitStatus::Success
            }
            None => ExitStatus::Success,
        }
    }

    /// A greeter for one worker; the first has number 1.
    pub(crate) fn new_greeter(&self, worker_number: usize) -> RefCell<Greeter> {
        let (templates, quota) = (self.templates.clone(), self.quota.clone());
        let counters = Arc::clone(&self.worker_counters[worker_number - 1]);
        RefCell::new(Greeter::new(templates, quota, self.shutdown.clone(), self.event_log.clone(), counters))
    }
}
