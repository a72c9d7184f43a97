//! A run of the benchmark: options, machine, progress.

use std::cell::RefCell;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use crate::arguments::Arguments;
use crate::machine::{self, Machine};
use crate::report::table::{Table, UNSUPPORTED};
use crate::servers::process::ServerProcess;
use crate::servers::{Environment, Server};
use crate::workload::{Group, Mode, Workload};

/// What all measurements share.
pub(crate) struct BenchmarkRun {
    pub(crate) machine: Machine,
    pub(crate) environment: Environment,
    pub(crate) servers: Vec<Server>,
    pub(crate) workloads: Vec<Workload>,
    pub(crate) rounds: u32,
    /// Of one measurement.
    pub(crate) duration: Duration,
    pub(crate) fd_limit: u64,
    pub(crate) failures: RefCell<Vec<String>>,
}

/// The result of one measurement of one server.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Measurement<T> {
    /// The server is not on this machine.
    Unavailable,
    /// The server cannot do this.
    Unsupported,
    /// An error, which is printed at the end.
    Failed,
    Value(T),
}

impl<T> Measurement<T> {
    pub(crate) fn value(&self) -> Option<&T> {
        match self {
            Self::Value(value) => Some(value),
            _ => None,
        }
    }

    /// A cell of a table.
    pub(crate) fn cell(&self, format_value: impl FnOnce(&T) -> String) -> String {
        match self {
            Self::Unavailable => "absent".to_owned(),
            Self::Unsupported => UNSUPPORTED.to_owned(),
            Self::Failed => "failed".to_owned(),
            Self::Value(value) => format_value(value),
        }
    }
}

impl BenchmarkRun {
    pub(crate) fn prepare(arguments: &Arguments) -> io::Result<Self> {
        let servers = arguments.chosen_servers();
        let machine = Machine::prepare()?;
        let bench = Self {
            fd_limit: machine::raise_fd_limit()?,
            environment: Environment::prepare(&servers, arguments.other_program.clone())?,
            workloads: arguments.workloads(),
            rounds: arguments.rounds,
            duration: Duration::from_secs_f64(arguments.seconds),
            failures: RefCell::default(),
            machine,
            servers,
        };
        bench.machine.pin_to_server_core()?;
        Ok(bench)
    }

    /// The groups of workloads that share a table, with those of the chosen workloads that are in them.
    pub(crate) fn groups(&self) -> impl Iterator<Item = (Group, Vec<Workload>)> {
        let members = |group| self.workloads.iter().copied().filter(|workload| workload.group() == group).collect();
        let groups = Group::ALL.into_iter().map(move |group| (group, members(group)));
        groups.filter(|(_, workloads): &(_, Vec<_>)| !workloads.is_empty())
    }

    /// Starts a server and calls `measure` with it.
    pub(crate) fn measure<T>(
        &self,
        server: Server,
        mode: Mode,
        label: &str,
        measure: impl FnOnce(&ServerProcess) -> io::Result<T>,
    ) -> Measurement<T> {
        self.measure_started(server, label, || self.environment.start(server, mode), measure)
    }

    /// The same with a server that is started in another way.
    pub(crate) fn measure_started<T>(
        &self,
        server: Server,
        label: &str,
        start: impl FnOnce() -> io::Result<Option<ServerProcess>>,
        measure: impl FnOnce(&ServerProcess) -> io::Result<T>,
    ) -> Measurement<T> {
        self.measure_with(server, label, || start()?.as_ref().map(measure).transpose())
    }

    /// The same with a measurement that starts what it needs; it returns `None` if the server cannot do this.
    pub(crate) fn measure_with<T>(
        &self,
        server: Server,
        label: &str,
        measure: impl FnOnce() -> io::Result<Option<T>>,
    ) -> Measurement<T> {
        if self.environment.unavailable_reason(server).is_some() {
            return Measurement::Unavailable;
        }
        show_progress(&format!("{label}: {}", server.title()));
        match measure() {
            Ok(Some(value)) => Measurement::Value(value),
            Ok(None) => Measurement::Unsupported,
            Err(error) => {
                self.record_failure(format!("{label}: {}: {error}", server.title()));
                Measurement::Failed
            }
        }
    }

    /// Keeps an error message for the end.
    pub(crate) fn record_failure(&self, message: String) {
        self.failures.borrow_mut().push(message);
    }

    /// Adds a note to a table for each server that is not on this machine, with the reason.
    pub(crate) fn note_unavailable(&self, table: &mut Table) {
        for server in &self.servers {
            if let Some(reason) = self.environment.unavailable_reason(*server) {
                table.note(format!("{} is absent: {reason}.", server.title()));
            }
        }
    }
}

/// Prints the current step in one line, on a terminal over the last one.
pub(crate) fn show_progress(message: &str) {
    let mut output = io::stderr().lock();
    let _ = if output.is_terminal() { write!(output, "\r\x1b[K{message}") } else { writeln!(output, "{message}") };
    let _ = output.flush();
}

pub(crate) fn clear_progress() {
    if io::stderr().is_terminal() {
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
}
