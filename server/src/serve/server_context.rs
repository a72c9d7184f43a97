//! What all workers of a server share.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crate::cli::flags::ServeOptions;
use crate::greeting::greeter::{Greeter, GreetingTemplates};
use crate::greeting::greeting_quota::GreetingQuota;
use crate::output::counters::Counters;
use crate::output::event_log::EventLog;
use crate::output::printer_thread::Printer;
use crate::process::sd_notify::SdNotifier;
use crate::process::shutdown::{LoopHandles, Shutdown};

/// What all workers share.
pub(crate) struct ServerContext<'o> {
    pub(crate) options: &'o ServeOptions,
    pub(crate) shutdown: Shutdown,
    pub(crate) counters: Counters,
    templates: GreetingTemplates,
    quota: Option<Arc<GreetingQuota>>,
    event_log: EventLog,
    /// Workers that are not idle; each counts itself.
    pub(crate) busy_workers: AtomicUsize,
}

impl<'o> ServerContext<'o> {
    /// The context for as many workers as the command line asks for.
    pub(crate) fn new(
        options: &'o ServeOptions,
        templates: GreetingTemplates,
        printer: &Printer,
        notifier: SdNotifier,
    ) -> Self {
        let ServeOptions { workers, lifetime, output, .. } = options;
        let needs_quota = lifetime.max_greetings.is_some() || templates.has_number();
        let loops = LoopHandles::default();
        Self {
            options,
            counters: Counters::new(*workers, loops.clone(), printer.clone()),
            shutdown: Shutdown { drain_timeout: lifetime.drain_timeout, notifier, loops },
            templates,
            quota: needs_quota.then(|| Arc::new(GreetingQuota::new(lifetime.max_greetings))),
            event_log: EventLog::new(printer.clone(), output.events),
            busy_workers: AtomicUsize::new(*workers),
        }
    }

    /// A greeter for one worker.
    pub(crate) fn new_greeter(&self) -> RefCell<Greeter> {
        let (templates, quota) = (self.templates.clone(), self.quota.clone());
        RefCell::new(Greeter::new(templates, quota, self.shutdown.clone(), self.event_log.clone()))
    }
}
