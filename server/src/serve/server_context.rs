//! What all workers of a server share.

use std::cell::{Cell, RefCell};
use std::os::unix::fs::lchown;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::cli::flags::serve_options::{Mode, ServeOptions};
use crate::cli::usage_error::usage_error;
use crate::exit::{ExitError, ExitStatus};
use crate::faults::fault_control::FaultControl;
use crate::faults::fault_source::WorkerFaults;
use crate::greeting::greeter::Greeter;
use crate::greeting::greeting_quota::GreetingQuota;
use crate::greeting::greeting_templates::GreetingTemplates;
use crate::greeting::worker_counters::WorkerCounters;
use crate::output::counters::Counters;
use crate::output::event_log::EventLog;
use crate::output::printer_thread::Printer;
use crate::process::sd_notify::SdNotifier;
use crate::process::server_state::{ServerState, SharedServerState};
use crate::process::shutdown::Shutdown;
use crate::process::stdin_eof;
use crate::process::user::TargetUser;
use crate::process::worker_loops::WorkerLoops;
use crate::record::recording_file::RecordingFile;
use crate::record::recordings::Recordings;
use crate::serve::ready_file::ReadyFile;
use crate::serve::socket_plan::SocketPlan;
use crate::text::address::{Endpoint, UnixPath};

/// The most output that the faults of one worker hold back, in bytes.
const HELD_BYTES_MAX: usize = 64 << 20;

/// What all workers share.
pub(crate) struct ServerContext<'o> {
    pub(crate) options: &'o ServeOptions,
    pub(crate) shutdown: Shutdown,
    pub(crate) counters: Counters,
    pub(crate) recordings: Option<Recordings>,
    pub(crate) printer: Printer,
    pub(crate) templates: GreetingTemplates,
    quota: Option<Arc<GreetingQuota>>,
    event_log: EventLog,
    /// The counters of each worker's greetings, the first worker's first.
    pub(crate) worker_counters: Vec<Arc<WorkerCounters>>,
    /// Set if the server was started with `--fault`.
    pub(crate) faults: Option<Arc<FaultControl>>,
    /// Whether a stop signal has arrived since the start began to open sockets.
    pub(crate) stop_requested: Arc<AtomicBool>,
    /// Workers that are not idle; each counts itself.
    pub(crate) busy_workers: AtomicUsize,
    ready_file: Option<ReadyFile>,
    user: Option<TargetUser>,
    /// Whether the server ends because all workers were idle.
    ended_idle: AtomicBool,
}

impl<'o> ServerContext<'o> {
    /// The context for as many workers as the command line asks for; an error if the file of the recordings or of the
    /// READY line cannot be written, the user does not exist, or standard input ends at once.
    pub(crate) fn new(
        options: &'o ServeOptions,
        templates: GreetingTemplates,
        printer: &Printer,
        notifier: SdNotifier,
    ) -> Result<Self, ExitError> {
        let ServeOptions { workers, lifetime, output, .. } = options;
        let loops = WorkerLoops::default();
        let look_up = |user: &String| TargetUser::look_up(user, &options.given.assignment("user"));
        if lifetime.exit_on_eof {
            stdin_eof::check(options.given.name("exit_on_eof").unwrap_or_default())?;
        }
        Ok(Self {
            user: lifetime.user.as_ref().map(look_up).transpose()?,
            ready_file: ReadyFile::new(options)?,
            options,
            printer: printer.clone(),
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
            quota: GreetingQuota::if_needed(lifetime.max_greetings, &templates),
            templates,
            worker_counters: (0..*workers).map(|_| Arc::default()).collect(),
            event_log: EventLog::new(printer.clone(), output.events),
            faults: new_fault_control(options),
            stop_requested: Arc::default(),
            busy_workers: AtomicUsize::new(*workers),
            ended_idle: AtomicBool::new(false),
        })
    }

    /// Removes an earlier READY file, and changes to the user of `--user`. All sockets are open. Their files then belong
    /// to the user, which has to be able to write the recording.
    pub(crate) fn change_user(&self) -> Result<(), ExitError> {
        self.ready_file.as_ref().map_or(Ok(()), ReadyFile::remove_earlier)?;
        let Some(user) = &self.user else { return Ok(()) };
        user.change_to(|uid, gid| socket_files(self.options).try_for_each(|path| lchown(path, Some(uid), Some(gid))))?;
        if let Some(path) = &self.options.recording.record {
            let assignment = format!("{}FILE", self.options.given.assignment("record"));
            RecordingFile::check(path, "the recording", &assignment)?;
        }
        if let Some(ready_file) = &self.ready_file {
            ready_file.check()?;
        }
        Ok(())
    }

    /// Writes the file of the READY line, and begins to watch standard input. All loops are known.
    pub(crate) fn finish_start(&self, ready_line: &[u8]) -> Result<(), ExitError> {
        if let Some(ready_file) = &self.ready_file {
            ready_file.write(ready_line)?;
        }
        if self.options.lifetime.exit_on_eof {
            let shutdown = self.shutdown.clone();
            stdin_eof::watch(move || {
                log::info!("standard input has ended");
                // Loops that have ended already need no message.
                let _ = shutdown.drain_after_delay();
            })?;
        }
        Ok(())
    }

    /// Removes the file of the READY line, if there is one.
    pub(crate) fn remove_ready_file(&self) {
        self.ready_file.iter().for_each(ReadyFile::remove);
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

    /// Begins with the faults, when all sockets of the plan are open; an error for a fault that no client can meet.
    pub(crate) fn start_faults(&self, plan: &SocketPlan) -> Result<(), ExitError> {
        match &self.faults {
            // An abandoned start has opened some of them.
            Some(faults) if !self.is_stop_requested() => {
                faults.start(plan.sockets()).map_err(|error| usage_error(&error))
            }
            _ => Ok(()),
        }
    }

    /// The faults of one worker, if there are any; the first has number 1.
    pub(crate) fn new_worker_faults(&self, worker_number: usize) -> Option<WorkerFaults> {
        let memory_max = self.options.limits.memory_max.map(|total| total / self.options.workers / 4);
        Some(WorkerFaults {
            control: Arc::clone(self.faults.as_ref()?),
            worker_number,
            event_log: self.event_log.clone(),
            counters: Arc::clone(&self.worker_counters[worker_number - 1]),
            held_bytes_left: Rc::new(Cell::new(memory_max.unwrap_or(HELD_BYTES_MAX))),
        })
    }
}

/// The faults of the command line, if it has any.
fn new_fault_control(options: &ServeOptions) -> Option<Arc<FaultControl>> {
    let (faults, mode) = (&options.faults, options.replies.mode);
    let seed = faults.fault_seed.unwrap_or_else(|| fastrand::u32(..));
    (!faults.fault.is_empty()).then(|| Arc::new(FaultControl::new(&faults.fault, seed, mode != Mode::Discard)))
}

/// The files of the unix sockets that the command line names.
fn socket_files(options: &ServeOptions) -> impl Iterator<Item = &Path> {
    let admin = options.operation.admin.iter().filter_map(|endpoint| match endpoint {
        Endpoint::Unix(path) => Some(path),
        Endpoint::Internet(_) => None,
    });
    options.listening.unix.iter().chain(admin).filter(|path| !path.is_abstract()).map(UnixPath::as_path)
}
