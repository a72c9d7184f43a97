//! CPU time and latency of all servers on all workloads.

use crate::benchmark_run::{BenchmarkRun, Measurement};
use crate::measurements::exchange_cost;
use crate::report::chart::{Bar, Panel};
use crate::report::statistics::{Summary, percentile};
use crate::report::table::{Table, thousands};
use crate::servers::Server;
use crate::workload::Workload;

/// One round of one server on one workload.
#[derive(Clone, Debug)]
struct Round {
    cpu_nanos: f64,
    resent: u64,
    resets: u64,
    /// `None` on a machine with one core.
    speed: Option<Speed>,
}

#[derive(Clone, Copy, Debug)]
struct Speed {
    exchanges_per_second: f64,
    /// Microseconds.
    p50_micros: f64,
    p99_micros: f64,
}

/// All rounds.
pub(crate) struct Comparison {
    servers: Vec<Server>,
    workloads: Vec<Workload>,
    /// By workload, then by server.
    cells: Vec<Vec<Measurement<Vec<Round>>>>,
}

/// Measures all servers in turn, in every round.
pub(crate) fn measure(bench: &BenchmarkRun) -> Comparison {
    let mut cells = vec![vec![Measurement::Value(Vec::new()); bench.servers.len()]; bench.workloads.len()];
    for round in 1..=bench.rounds {
        for (workload, row) in bench.workloads.iter().zip(&mut cells) {
            for (server, cell) in bench.servers.iter().zip(row) {
                let Measurement::Value(runs) = cell else { continue };
                match run(bench, *server, *workload, round) {
                    Measurement::Value(run) => runs.push(run),
                    Measurement::Unavailable => *cell = Measurement::Unavailable,
                    Measurement::Unsupported => *cell = Measurement::Unsupported,
                    Measurement::Failed => *cell = Measurement::Failed,
                }
            }
        }
    }
    Comparison { servers: bench.servers.clone(), workloads: bench.workloads.clone(), cells }
}

fn run(bench: &BenchmarkRun, server: Server, workload: Workload, round: u32) -> Measurement<Round> {
    let label = format!("{}, round {round} of {}", workload.name(), bench.rounds);
    bench.measure(server, workload.mode(), &label, |process| {
        let cost = exchange_cost::cost(process, workload.load_options(), bench.duration)?;
        let outcome = exchange_cost::speed(&bench.machine, process, workload.load_options(), bench.duration / 2)?;
        let speed = outcome.map(|mut outcome| {
            let micros = |nanos: Option<u32>| f64::from(nanos.unwrap_or(0)) / 1000.0;
            Speed {
                exchanges_per_second: exchange_cost::per_second(&outcome),
                p50_micros: micros(percentile(&mut outcome.latencies, 0.5)),
                p99_micros: micros(percentile(&mut outcome.latencies, 0.99)),
            }
        });
        Ok(Round { cpu_nanos: cost.nanos, resent: cost.outcome.resent, resets: cost.outcome.resets, speed })
    })
}

impl Comparison {
    /// The ratio to the floor of the same round, and nanoseconds.
    fn ratio(&self, workload: usize, server: usize) -> Option<(Summary, Summary)> {
        let floor = self.cells[workload].first()?.value()?;
        let runs = self.cells[workload][server].value()?;
        let ratio = Summary::of(runs.iter().zip(floor).map(|(run, floor)| run.cpu_nanos / floor.cpu_nanos))?;
        Some((ratio, Summary::of(runs.iter().map(|run| run.cpu_nanos))?))
    }

    /// A table with a row for each server and a column for each workload.
    fn table(&self, bench: &BenchmarkRun, title: &str, cell: impl Fn(usize, usize, &[Round]) -> String) -> Table {
        let mut table = Table::new(title, &["server"]);
        table.header.extend(self.workloads.iter().map(|workload| workload.name().to_owned()));
        for (index, server) in self.servers.iter().enumerate() {
            let mut row = vec![server.title().to_owned()];
            let cells = self.cells.iter().enumerate();
            row.extend(cells.map(|(workload, cells)| cells[index].cell(|runs| cell(workload, index, runs))));
            table.rows.push(row);
        }
        bench.note_unavailable(&mut table);
        table
    }

    pub(crate) fn cost_table(&self, bench: &BenchmarkRun) -> Table {
        let title = "The server's processor time for an exchange, as a ratio to the floor";
        let mut table = self.table(bench, title, |workload, server, _| {
            let Some((ratio, nanos)) = self.ratio(workload, server) else { return "–".to_owned() };
            let spread = if server == 0 { nanos.spread() } else { ratio.spread() };
            format!("{:.2} ({} ns, {spread})", ratio.median, thousands(nanos.median))
        });
        table.note(format!(
            "Rounds: {}; the median, and the spread around it. Server and clients share one core{}.",
            bench.rounds,
            if bench.machine.is_batch { " as batch jobs" } else { "; without chrt they interrupt each other" }
        ));
        table.note(format!("{}.", bench.machine.describe()));
        for (workload, cells) in self.workloads.iter().zip(&self.cells) {
            for (server, cell) in self.servers.iter().zip(cells) {
                let runs = cell.value().map(Vec::as_slice).unwrap_or_default();
                let sum = |count: fn(&Round) -> u64| runs.iter().map(count).sum::<u64>();
                let (resent, resets) = (sum(|run| run.resent), sum(|run| run.resets));
                if resent > 0 {
                    table.note(format!("{}, {}: {resent} datagrams were lost.", server.title(), workload.name()));
                }
                if resets > 0 {
                    let reason = "does not read the question, so its connections end with a reset";
                    table.note(format!("{} {reason}, {resets} here.", server.title()));
                }
            }
        }
        table
    }

    pub(crate) fn speed_table(&self, bench: &BenchmarkRun) -> Table {
        let title = "Exchanges a second, and latency in microseconds (p50, p99)";
        let mut table = self.table(bench, title, |_, _, runs| {
            let median = |figure: fn(&Speed) -> f64| {
                Summary::of(runs.iter().filter_map(|run| run.speed.as_ref().map(figure))).map(|summary| summary.median)
            };
            let (speed, p50, p99) =
                (median(|run| run.exchanges_per_second), median(|run| run.p50_micros), median(|run| run.p99_micros));
            let (Some(speed), Some(p50), Some(p99)) = (speed, p50, p99) else { return "–".to_owned() };
            format!("{} ({}, {})", thousands(speed), thousands(p50), thousands(p99))
        });
        table.note(match bench.machine.cores() {
            1 => "Not measured: the clients need a core of their own.".to_owned(),
            _ => {
                "The server on one core, the clients on another. These figures vary; compare the ones above.".to_owned()
            }
        });
        table
    }

    /// The figures of the first table for the chart.
    pub(crate) fn panels(&self) -> Vec<Panel> {
        let panel = |(index, workload): (usize, &Workload)| {
            let bars = self.servers.iter().enumerate().map(|(server, name)| Bar {
                label: name.title(),
                is_own: matches!(name, Server::Library | Server::Binary),
                ratio: self.ratio(index, server).map(|(ratio, _)| ratio),
                missing: self.cells[index][server].cell(|_| String::new()),
            });
            let floor = self.ratio(index, 0).map_or(0.0, |(_, nanos)| nanos.median);
            Panel { title: workload.name(), floor_nanos: floor, bars: bars.collect() }
        };
        self.workloads.iter().enumerate().map(panel).collect()
    }
}
