//! CPU time and latency of all servers on all workloads.

use crate::benchmark_run::{BenchmarkRun, Measurement};
use crate::measurements::exchange_cost;
use crate::report::chart::{Bar, Panel, PanelGroup};
use crate::report::statistics::{Summary, percentile};
use crate::report::table::{Table, UNSUPPORTED, thousands};
use crate::servers::Server;
use crate::workload::{Group, Workload};

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

/// Measures all servers in turn, in every round; in every other one the last server comes first.
pub(crate) fn measure(bench: &BenchmarkRun) -> Comparison {
    let mut cells = vec![vec![Measurement::Value(Vec::new()); bench.servers.len()]; bench.workloads.len()];
    for round in 1..=bench.rounds {
        for (workload, row) in bench.workloads.iter().zip(&mut cells) {
            let mut turns: Vec<_> = bench.servers.iter().zip(row).collect();
            if round.is_multiple_of(2) {
                turns.reverse();
            }
            for (server, cell) in turns {
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
        let runs = self.cells[workload][server].value()?;
        Some((self.ratio_to(0, workload, server)?, Summary::of(runs.iter().map(|run| run.cpu_nanos))?))
    }

    /// The ratio to another server of the same round.
    fn ratio_to(&self, other: usize, workload: usize, server: usize) -> Option<Summary> {
        let [runs, others] = [server, other].map(|server| self.cells[workload][server].value());
        Summary::of(runs?.iter().zip(others?).map(|(run, other)| run.cpu_nanos / other.cpu_nanos))
    }

    /// A table with a row for each server and a column for each workload of a group.
    fn table(
        &self,
        bench: &BenchmarkRun,
        title: &str,
        group: Group,
        cell: impl Fn(usize, usize, &[Round]) -> String,
    ) -> Table {
        let mut table = Table::new(title, &["server"]);
        let columns = || self.columns(group);
        table.header.extend(columns().map(|column| self.workloads[column].name().to_owned()));
        for (index, server) in self.servers.iter().enumerate() {
            let mut row = vec![server.title().to_owned()];
            row.extend(columns().map(|column| self.cells[column][index].cell(|runs| cell(column, index, runs))));
            table.push_unless_empty(row);
        }
        bench.note_unavailable(&mut table);
        table
    }

    /// The indices of the workloads of a group.
    fn columns(&self, group: Group) -> impl Iterator<Item = usize> {
        (0..self.workloads.len()).filter(move |column| self.workloads[*column].group() == group)
    }

    /// The tables of processor time, one for each group.
    pub(crate) fn cost_tables(&self, bench: &BenchmarkRun) -> Vec<Table> {
        let plain = self.servers.iter().position(|server| *server == Server::Plain);
        let tables = |(group, _)| {
            let to_plain =
                plain.filter(|_| group == Group::Small).map(|plain| self.table_to_plain(bench, group, plain));
            std::iter::once(self.cost_table(bench, group)).chain(to_plain)
        };
        bench.groups().flat_map(tables).collect()
    }

    /// The ratios to the plain loop, to which earlier figures are ratios.
    fn table_to_plain(&self, bench: &BenchmarkRun, group: Group, plain: usize) -> Table {
        self.table(bench, "The same as a ratio to the plain loop", group, |workload, server, _| {
            let ratio = self.ratio_to(plain, workload, server);
            ratio.map_or(UNSUPPORTED.to_owned(), |ratio| format!("{:.2}", ratio.median))
        })
    }

    fn cost_table(&self, bench: &BenchmarkRun, group: Group) -> Table {
        let title = format!("The server's processor time for {}, as a ratio to the floor", group.exchange());
        let mut table = self.table(bench, &title, group, |workload, server, _| {
            let Some((ratio, nanos)) = self.ratio(workload, server) else { return UNSUPPORTED.to_owned() };
            let spread = if server == 0 { nanos.spread() } else { ratio.spread() };
            let per_gigabyte = self.workloads[workload].exchange_bytes().map_or(String::new(), |bytes| {
                #[expect(clippy::cast_precision_loss)]
                let seconds = nanos.median / bytes as f64;
                format!(" {seconds:.3} s/GB,")
            });
            format!("{:.2} ({} ns,{per_gigabyte} {spread})", ratio.median, thousands(nanos.median))
        });
        table.note(format!(
            "Rounds: {}; the median, and the spread around it. Server and clients share one core{}.",
            bench.rounds,
            if bench.machine.is_batch { " as batch jobs" } else { "; without chrt they interrupt each other" }
        ));
        table.note(format!("{}.", bench.machine.describe()));
        for column in self.columns(group) {
            self.note_losses(&mut table, column);
        }
        table
    }

    /// Adds a note for each server that lost datagrams or reset connections.
    fn note_losses(&self, table: &mut Table, column: usize) {
        let workload = self.workloads[column].name();
        for (server, cell) in self.servers.iter().zip(&self.cells[column]) {
            let runs = cell.value().map(Vec::as_slice).unwrap_or_default();
            let sum = |count: fn(&Round) -> u64| runs.iter().map(count).sum::<u64>();
            let (resent, resets) = (sum(|run| run.resent), sum(|run| run.resets));
            if resent > 0 {
                table.note(format!("{}, {workload}: {resent} datagrams were lost.", server.title()));
            }
            if resets > 0 {
                let reason = "does not read the question, so its connections end with a reset";
                table.note(format!("{} {reason}, {resets} here.", server.title()));
            }
        }
    }

    /// The tables of throughput and latency, one for each group.
    pub(crate) fn speed_tables(&self, bench: &BenchmarkRun) -> Vec<Table> {
        bench.groups().map(|(group, _)| self.speed_table(bench, group)).collect()
    }

    fn speed_table(&self, bench: &BenchmarkRun, group: Group) -> Table {
        let title = match group {
            Group::Small => "Exchanges a second, and latency in microseconds (p50, p99)",
            Group::Bulk => "Bulk exchanges a second, and latency in microseconds (p50, p99)",
        };
        let mut table = self.table(bench, title, group, |_, _, runs| {
            let median = |figure: fn(&Speed) -> f64| {
                Summary::of(runs.iter().filter_map(|run| run.speed.as_ref().map(figure))).map(|summary| summary.median)
            };
            let (speed, p50, p99) =
                (median(|run| run.exchanges_per_second), median(|run| run.p50_micros), median(|run| run.p99_micros));
            let (Some(speed), Some(p50), Some(p99)) = (speed, p50, p99) else { return UNSUPPORTED.to_owned() };
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

    /// The figures of the first tables for the chart.
    pub(crate) fn panels(&self, bench: &BenchmarkRun) -> Vec<PanelGroup> {
        let panel_group = |(group, _): (Group, _)| PanelGroup {
            title: group.chart_title().to_owned(),
            panels: self.columns(group).map(|column| self.panel(column)).collect(),
        };
        bench.groups().map(panel_group).collect()
    }

    fn panel(&self, column: usize) -> Panel {
        let servers = self.servers.iter().zip(&self.cells[column]).enumerate();
        let bars = servers.filter(|(_, (_, cell))| !matches!(cell, Measurement::Unsupported));
        let bars = bars.map(|(index, (server, cell))| Bar {
            label: server.title(),
            is_own: matches!(server, Server::Library | Server::Binary),
            ratio: self.ratio(column, index).map(|(ratio, _)| ratio),
            missing: cell.cell(|_| String::new()),
        });
        let floor = self.ratio(column, 0).map_or(0.0, |(_, nanos)| nanos.median);
        Panel { title: self.workloads[column].name(), floor_nanos: floor, bars: bars.collect() }
    }
}
