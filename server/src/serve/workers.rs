//! Starts all workers, waits for them, and merges their results.
//!
//! READY is the first line of standard output, printed once every worker listens. A worker that fails or panics ends
//! all workers.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, Scope};
use std::time::Instant;

use halloo::{DrainReport, Interest, Watch};

use crate::admin::admin_thread::AdminThread;
use crate::cli::without_effect::settings_without_effect;
use crate::exit::{ExitError, ExitStatus, os_error};
use crate::output::printer_thread::Printer;
use crate::output::stdout::ready_line;
use crate::process;
use crate::process::inherited_socket::{self, InheritedSocket};
use crate::process::sd_notify::Watchdog;
use crate::process::server_state::ServerState;
use crate::process::worker_loops::WorkerLoop;
use crate::serve::admin_sockets;
use crate::serve::server_context::ServerContext;
use crate::serve::signals::{self, ServerSignals, StartSignals};
use crate::serve::socket::SocketOpener;
use crate::serve::socket_plan::{self, SocketPlan};
use crate::serve::worker;
use crate::text::bound_address::BoundSocket;
use crate::text::protocol::Protocol;
use crate::text::served_socket::ServedSocket;

/// How a worker ended.
type WorkerResult = Result<DrainReport, ExitError>;

/// A message from a worker to the first one, sent with its number.
enum WorkerMessage {
    Listening(WorkerLoop),
    Finished(WorkerResult),
}

/// Serves until every worker has ended, and returns their merged drain reports; `None` if a signal arrived before all
/// workers listened.
pub(crate) fn run(
    server: &ServerContext<'_>,
    inherited: Vec<InheritedSocket>,
    printer: &Printer,
    start_signals: StartSignals,
    admin: &mut Option<AdminThread>,
) -> Result<Option<DrainReport>, ExitError> {
    let groups = socket_plan::resolve_groups(server.options, !inherited.is_empty())?;
    let admin_endpoint = admin_sockets::resolve(server.options)?;
    if let Some(endpoint) = &admin_endpoint {
        admin_sockets::check_not_served(endpoint, &groups, server.options)?;
    }
    let signal_error = |error| ExitError::from_io("cannot catch signals", &error);
    // Before a socket's file is created, which must be removed.
    let (signals, mut start_guard) = start_signals.collect(server).map_err(signal_error)?;
    let signals = RefCell::new(signals);
    if let Some(endpoint) = admin_endpoint {
        *admin = Some(admin_sockets::start(server, endpoint)?);
    }
    let admin_sockets: Vec<BoundSocket> = admin.iter().flat_map(|admin| admin.sockets.iter().cloned()).collect();
    thread::scope(|scope| {
        let greeter = server.new_greeter(1);
        let mut event_loop = worker::new_event_loop(server, 1)?;
        let opener = SocketOpener::new(server.options, &greeter, 1, server.new_worker_faults(1));
        let plan = socket_plan::open_all(
            &mut event_loop,
            inherited,
            &groups,
            server.options,
            &opener,
            &server.stop_requested,
        )?;
        server.start_faults(&plan)?;
        let (bound, sockets) = (plan.bound.clone(), plan.sockets().map(|(socket, _)| socket).collect::<Vec<_>>());
        let (other_workers, mut worker_loops) = WorkerThreads::spawn(scope, server, plan)?;
        if bound.iter().any(|(protocol, _)| *protocol != Protocol::Udp) {
            process::check_descriptor_available()
                .map_err(|error| ExitError::from_io("cannot serve any client", &error))?;
        }
        if server.is_stop_requested() {
            return Ok(None);
        }
        let handle_signals = |_: &mut _, _: &mut _, _| {
            signals.borrow_mut().handle_pending();
            Watch::Drained
        };
        let descriptor = signals.borrow().descriptor();
        event_loop.watch(descriptor, Interest::Read, handle_signals).map_err(|error| signal_error(os_error(error)))?;
        server.change_user()?;
        drop(start_guard.take());
        worker_loops.insert(0, opener.worker_loop(&event_loop));
        let other_loops = worker_loops[1..].iter().map(|worker_loop| worker_loop.handle.clone()).collect();
        server.shutdown.loops.set(worker_loops);
        let ready_line = ready_line(server.options.output.events, &bound, &admin_sockets);
        server.finish_start(&ready_line)?;
        log_warnings(server, &sockets);
        // A script that waits for READY finds the server ready.
        server.shutdown.state.advance_to(ServerState::Ready);
        printer.print_ready(ready_line);
        server.shutdown.notifier.notify_ready();
        let start = Instant::now();
        other_workers.start_serving(start);
        let mut watchdog = server.shutdown.notifier.watchdog(other_loops);
        let result = run_or_shut_down(server, 1, || {
            let result = worker::run_loop(server, &mut event_loop, &greeter, start, Some(&signals), watchdog.as_mut());
            server.counters.set_final(1, event_loop.stats().clone());
            result
        });
        // This closes its sockets now, before the other workers end.
        drop(event_loop);
        other_workers.join(result, &signals, watchdog).map(Some)
    })
}

/// Logs settings that were accepted and have no effect, or one that surprises.
fn log_warnings(server: &ServerContext<'_>, sockets: &[Arc<ServedSocket>]) {
    let options = server.options;
    inherited_socket::warn_of_invalid_pid();
    let protocols: Vec<Protocol> = sockets.iter().map(|socket| socket.protocol).collect();
    for warning in options.warnings.iter().chain(&settings_without_effect(options, &protocols)) {
        log::warn!("{warning}");
    }
    for source in options.operation.proxy_protocol.iter().filter(|source| source.is_every_address()) {
        log::warn!(
            "{}{source} trusts every client: each can choose the address in limits and events; write only the networks \
             of proxies",
            options.given.assignment("proxy_protocol")
        );
    }
    if options.replies.mode.sends_greetings()
        && let Some(warning) = server.templates.warning(sockets.iter().map(AsRef::as_ref))
    {
        log::warn!("{warning}");
    }
    if let Some(faults) = &server.faults {
        log::warn!("faults on purpose: {}; repeat them with --fault-seed {}", faults.list(), faults.seed());
    }
}

/// Runs a worker to its end. If it fails, the other workers are drained, and the error names this worker.
fn run_or_shut_down(
    server: &ServerContext<'_>,
    worker_number: usize,
    run: impl FnOnce() -> WorkerResult,
) -> WorkerResult {
    catch_panic(run).map_err(|error| {
        // Loops that have ended already need no message.
        let _ = server.shutdown.drain();
        let workers = server.options.workers;
        if workers == 1 {
            return error;
        }
        log::error!("worker {worker_number} of {workers} has failed; stopping all workers");
        name_worker(server, worker_number, &error)
    })
}

fn name_worker(server: &ServerContext<'_>, worker_number: usize, error: &ExitError) -> ExitError {
    let workers = server.options.workers;
    ExitError::new(error.status, format!("worker {worker_number} of {workers} has failed: {}", error.message))
}

/// Turns a panic into an error. State that the panic may have left inconsistent is not used again.
fn catch_panic<T>(body: impl FnOnce() -> Result<T, ExitError>) -> Result<T, ExitError> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| {
        let message = "a bug of halloo: it panicked; please report it with the log";
        Err(ExitError::new(ExitStatus::RuntimeError, message))
    })
}

/// The threads of all workers but the first.
struct WorkerThreads {
    messages: Receiver<(usize, WorkerMessage)>,
    /// One for each worker: it sends the start time. A worker whose sender is dropped ends at once.
    start_senders: Vec<Sender<Instant>>,
}

impl WorkerThreads {
    /// Starts the threads, and waits until all workers listen. Returns their loops in the order of their numbers; some
    /// are missing if a signal abandons the start.
    fn spawn<'scope>(
        scope: &'scope Scope<'scope, '_>,
        server: &'scope ServerContext<'_>,
        plan: SocketPlan,
    ) -> Result<(Self, Vec<WorkerLoop>), ExitError> {
        let (message_sender, messages) = mpsc::channel();
        let mut threads = Self { messages, start_senders: Vec::new() };
        for worker_number in 2..=server.options.workers {
            if server.is_stop_requested() {
                break;
            }
            let (start_sender, start_receiver) = mpsc::channel();
            threads.start_senders.push(start_sender);
            let (plan, message_sender) = (plan.clone(), message_sender.clone());
            thread::Builder::new()
                .name(format!("worker-{worker_number}"))
                .spawn_scoped(scope, move || run_worker(server, worker_number, plan, &message_sender, &start_receiver))
                .map_err(|error| ExitError::from_io(&format!("cannot start worker {worker_number}"), &error))?;
        }
        drop((plan, message_sender));
        let mut worker_loops = vec![None; threads.start_senders.len()];
        for _ in 0..threads.start_senders.len() {
            match threads.messages.recv() {
                Ok((worker_number, WorkerMessage::Listening(worker_loop))) => {
                    worker_loops[worker_number - 2] = Some(worker_loop);
                }
                Ok((_, WorkerMessage::Finished(Err(error)))) => return Err(error),
                // A worker finishes without an error only after the start.
                Ok((_, WorkerMessage::Finished(Ok(_)))) | Err(_) => {}
            }
        }
        Ok((threads, worker_loops.into_iter().flatten().collect()))
    }

    fn start_serving(&self, start: Instant) {
        for start_sender in &self.start_senders {
            // A worker that does not receive has failed, and its message contains the error.
            let _ = start_sender.send(start);
        }
    }

    /// Waits for the other workers to end, handles signals and pings the watchdog meanwhile, and merges all results.
    fn join(
        self,
        first_result: WorkerResult,
        signals: &RefCell<ServerSignals>,
        mut watchdog: Option<Watchdog>,
    ) -> WorkerResult {
        let (mut merged, mut running) = (first_result, self.start_senders.len());
        loop {
            for (_, message) in self.messages.try_iter() {
                if let WorkerMessage::Finished(result) = message {
                    merged = merge_results(merged, result);
                    running -= 1;
                }
            }
            if running == 0 {
                return merged;
            }
            // A worker that ends sends its message, then wakes this thread.
            signals.borrow_mut().wait(watchdog.as_ref().map(Watchdog::time_until_ping));
            if let Some(watchdog) = &mut watchdog {
                watchdog.ping();
            }
        }
    }
}

/// The thread of a worker that is not the first.
fn run_worker(
    server: &ServerContext<'_>,
    worker_number: usize,
    plan: SocketPlan,
    message_sender: &Sender<(usize, WorkerMessage)>,
    start_receiver: &Receiver<Instant>,
) {
    let result = catch_panic(|| {
        let greeter = server.new_greeter(worker_number);
        let mut event_loop = worker::new_event_loop(server, worker_number)
            .map_err(|error| name_worker(server, worker_number, &error))?;
        let faults = server.new_worker_faults(worker_number);
        let opener = SocketOpener::new(server.options, &greeter, worker_number, faults);
        socket_plan::open_again(&mut event_loop, plan, &opener, worker_number)?;
        let worker_loop = opener.worker_loop(&event_loop);
        let _ = message_sender.send((worker_number, WorkerMessage::Listening(worker_loop)));
        // No start time arrives if the server failed to start.
        let Ok(start) = start_receiver.recv() else { return Ok(None) };
        run_or_shut_down(server, worker_number, || {
            let result = worker::run_loop(server, &mut event_loop, &greeter, start, None, None);
            server.counters.set_final(worker_number, event_loop.stats().clone());
            result
        })
        .map(Some)
    });
    if let Some(result) = result.transpose() {
        let _ = message_sender.send((worker_number, WorkerMessage::Finished(result)));
        signals::wake_main_thread();
    }
}

/// Returns the first failure, or the sums of both reports with the longer time.
fn merge_results(first: WorkerResult, second: WorkerResult) -> WorkerResult {
    let (mut first, second) = (first?, second?);
    first.finished += second.finished;
    first.forced += second.forced;
    first.elapsed = first.elapsed.max(second.elapsed);
    Ok(first)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use clap::Parser;
    use halloo::{DrainReport, EventLoop};

    use super::{SocketPlan, WorkerThreads, merge_results, run_or_shut_down};
    use crate::cli::flags::CommandLine;
    use crate::cli::flags::serve_options::ServeOptions;
    use crate::exit::{ExitError, ExitStatus};
    use crate::greeting::greeting_templates::GreetingTemplates;
    use crate::output::printer_thread::Printer;
    use crate::process::sd_notify::SdNotifier;
    use crate::process::worker_loops::WorkerLoop;
    use crate::serve::server_context::ServerContext;

    fn options(workers: &str) -> ServeOptions {
        CommandLine::parse_from(["halloo", "--workers", workers, "--drain-delay", "10m"]).serve
    }

    fn server_context(options: &ServeOptions) -> ServerContext<'_> {
        let templates = GreetingTemplates::new(&options.replies).unwrap();
        ServerContext::new(options, templates, &Printer::null(), SdNotifier::disabled()).unwrap()
    }

    fn report() -> DrainReport {
        let mut event_loop = EventLoop::new().unwrap();
        event_loop.context().stop();
        event_loop.run().unwrap()
    }

    #[test]
    fn a_worker_that_fails_or_panics_is_named_and_stops_the_others() {
        let options = options("3");
        let runs: [fn() -> super::WorkerResult; 2] =
            [|| Err(ExitError::new(ExitStatus::RuntimeError, "cannot wait for events")), || panic!("this is a test")];
        for (run, cause) in runs.into_iter().zip(["cannot wait for events", "a bug of halloo"]) {
            let server = server_context(&options);
            let mut other_loop = EventLoop::new().unwrap();
            server.shutdown.loops.set(vec![WorkerLoop::for_test(&other_loop)]);
            let error = run_or_shut_down(&server, 2, run).unwrap_err();
            assert_eq!(error.status, ExitStatus::RuntimeError);
            assert!(error.message.starts_with("worker 2 of 3 has failed: "), "{}", error.message);
            assert!(error.message.contains(cause), "{}", error.message);
            // It ends although no other worker stops it.
            assert_eq!(other_loop.run().unwrap().forced, 0);
        }
    }

    #[test]
    fn an_abandoned_start_starts_no_more_workers() {
        let options = options("3");
        for (is_abandoned, started) in [(false, 2), (true, 0)] {
            let server = server_context(&options);
            server.stop_requested.store(is_abandoned, Ordering::SeqCst);
            std::thread::scope(|scope| {
                let (_threads, worker_loops) = WorkerThreads::spawn(scope, &server, SocketPlan::default()).unwrap();
                assert_eq!(worker_loops.len(), started);
            });
        }
    }

    #[test]
    fn drain_reports_are_merged_and_a_failure_wins() {
        let (mut first, mut second) = (report(), report());
        (first.finished, first.forced, first.elapsed) = (3, 1, Duration::from_millis(20));
        (second.finished, second.forced, second.elapsed) = (4, 2, Duration::from_millis(10));
        let merged = merge_results(Ok(first), Ok(second)).unwrap();
        assert_eq!((merged.finished, merged.forced, merged.elapsed), (7, 3, Duration::from_millis(20)));
        let error = || Err(ExitError::new(ExitStatus::RuntimeError, "x"));
        assert!(merge_results(error(), Ok(first)).is_err() && merge_results(Ok(first), error()).is_err());
    }
}
