//! A run of the benchmark: options, machine, progress.

use std::cell::RefCell;
use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use crate::arguments::{Arguments, Part};
use crate::machine::{self, Machine};
use crate::measurements::{calls, compare, growth, memory, million, startup};
use crate::report::chart;
use crate::report::table::Table;
use crate::servers::process::Running;
use crate::servers::{Server, Site};
use crate::workload::{Mode, Workload};

/// What all measurements share.
pub(crate) struct Bench {
    pub(crate) machine: Machine,
    pub(crate) site: Site,
    pub(crate) servers: Vec<Server>,
    pub(crate) workloads: Vec<Workload>,
    pub(crate) rounds: u32,
    /// Of one measurement.
    pub(crate) time: Duration,
    pub(crate) descriptors: u64,
    failures: RefCell<Vec<String>>,
}

/// What came of asking a server for something.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Reading<T> {
    /// It is not on this machine.
    Absent,
    /// It does not do such things.
    Cannot,
    /// It went wrong; why is told in the end.
    Failed,
    Figures(T),
}

impl<T> Reading<T> {
    pub(crate) fn figures(&self) -> Option<&T> {
        match self {
            Self::Figures(figures) => Some(figures),
            _ => None,
        }
    }

    /// A cell of a table.
    pub(crate) fn cell(&self, show: impl FnOnce(&T) -> String) -> String {
        match self {
            Self::Absent => "absent".to_owned(),
            Self::Cannot => "–".to_owned(),
            Self::Failed => "failed".to_owned(),
            Self::Figures(figures) => show(figures),
        }
    }
}

impl Bench {
    pub(crate) fn prepare(arguments: &Arguments) -> io::Result<Self> {
        let servers = arguments.chosen_servers();
        let machine = Machine::prepare()?;
        let bench = Self {
            descriptors: machine::raise_descriptor_limit()?,
            site: Site::prepare(&servers)?,
            workloads: arguments.workloads(),
            rounds: arguments.rounds,
            time: Duration::from_secs_f64(arguments.seconds),
            failures: RefCell::default(),
            machine,
            servers,
        };
        bench.machine.go_to_server_core()?;
        Ok(bench)
    }

    /// Starts a server and does something with it.
    pub(crate) fn ask<T>(
        &self,
        server: Server,
        mode: Mode,
        what: &str,
        ask: impl FnOnce(&Running) -> io::Result<T>,
    ) -> Reading<T> {
        if self.site.absence(server).is_some() {
            return Reading::Absent;
        }
        progress(&format!("{what}: {}", server.title()));
        let result = self.site.start(server, mode).and_then(|running| running.as_ref().map(ask).transpose());
        match result {
            Ok(Some(figures)) => Reading::Figures(figures),
            Ok(None) => Reading::Cannot,
            Err(error) => {
                self.fail(format!("{what}: {}: {error}", server.title()));
                Reading::Failed
            }
        }
    }

    /// Keeps what went wrong for the end.
    pub(crate) fn fail(&self, what: String) {
        self.failures.borrow_mut().push(what);
    }

    /// Says below a table who is missing in it, and why.
    pub(crate) fn note_absent(&self, table: &mut Table) {
        for server in &self.servers {
            if let Some(reason) = self.site.absence(*server) {
                table.note(format!("{} is absent: {reason}.", server.title()));
            }
        }
    }
}

/// One line that says what happens now, over the last one where that can be.
pub(crate) fn progress(what: &str) {
    let mut output = io::stderr().lock();
    let _ = if output.is_terminal() { write!(output, "\r\x1b[K{what}") } else { writeln!(output, "{what}") };
    let _ = output.flush();
}

fn progress_is_over() {
    if io::stderr().is_terminal() {
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
}

/// Measures what is asked for and prints it; false if some of it went wrong.
pub(crate) fn run(arguments: &Arguments) -> Result<bool, Box<dyn Error>> {
    progress("building what is measured");
    let bench = Bench::prepare(arguments)?;
    let mut tables = Vec::new();
    for part in arguments.chosen_parts() {
        match part {
            Part::Cost => {
                let compared = compare::measure(&bench);
                tables.push(compared.costs(&bench));
                tables.push(compared.speeds(&bench));
                if let Some(path) = &arguments.svg {
                    let drawn = std::fs::write(path, chart::svg(&compared.panels()));
                    drawn.unwrap_or_else(|error| bench.fail(format!("the chart in {}: {error}", path.display())));
                }
            }
            Part::Calls => tables.push(calls::measure(&bench)),
            Part::Memory => {
                tables.push(memory::allocations(&bench));
                let idle = memory::measure(&bench);
                tables.push(memory::table(&bench, &idle));
                tables.extend(million::table(&bench, &idle));
            }
            Part::Growth => tables.extend([growth::beside_idle(&bench), growth::of_turns(&bench)]),
            Part::Startup => tables.push(startup::measure(&bench, arguments.build_times)),
        }
    }
    progress_is_over();
    let mut output = io::stdout().lock();
    for table in &tables {
        writeln!(output, "{}", if arguments.markdown { table.markdown() } else { table.text() })?;
    }
    let failures = bench.failures.borrow();
    for failure in &*failures {
        eprintln!("failed: {failure}");
    }
    Ok(failures.is_empty())
}
