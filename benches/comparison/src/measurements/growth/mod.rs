//! CPU time with a growing number of clients, sockets or timers.
//!
//! A table has a column for each number. Every round measures all rows and columns.

pub(crate) mod connection_growth;
pub(crate) mod socket_growth;
pub(crate) mod timer_growth;
pub(crate) mod worker_scaling;

use std::time::Duration;

use crate::benchmark_run::{BenchmarkRun, Measurement};
use crate::measurements::idle_connections;
use crate::report::statistics::Summary;
use crate::report::table::{Table, thousands};
use crate::servers::Server;

/// All tables of growth.
pub(crate) fn tables(bench: &BenchmarkRun) -> Vec<Table> {
    vec![
        connection_growth::by_idle_connections(bench),
        connection_growth::lines_by_clients(bench),
        connection_growth::once_by_clients(bench),
        socket_growth::by_sockets(bench),
        timer_growth::by_armed_timers(bench),
    ]
}

/// A table, before it is measured.
struct Growth<'a> {
    title: &'a str,
    /// The numbers of the columns, and what they count.
    sizes: &'a [usize],
    unit: &'a str,
    rows: &'a [Server],
}

impl Growth<'_> {
    /// Measures the rows in turn, in every round one figure for each size.
    fn measure(&self, bench: &BenchmarkRun, measure_row: impl Fn(Server, &str) -> Measurement<Vec<f64>>) -> Table {
        let mut rows: Vec<Measurement<Vec<Vec<f64>>>> = vec![Measurement::Value(Vec::new()); self.rows.len()];
        for round in 1..=bench.rounds {
            let label = format!("growth, {}, round {round} of {}", self.unit, bench.rounds);
            for (server, row) in self.rows.iter().zip(&mut rows) {
                let Measurement::Value(runs) = row else { continue };
                match measure_row(*server, &label) {
                    Measurement::Value(run) => runs.push(run),
                    Measurement::Unavailable => *row = Measurement::Unavailable,
                    Measurement::Unsupported => *row = Measurement::Unsupported,
                    Measurement::Failed => *row = Measurement::Failed,
                }
            }
        }
        let mut table = self.table(&rows);
        bench.note_unavailable(&mut table);
        table
    }

    /// The table of these runs, by row and round.
    fn table(&self, rows: &[Measurement<Vec<Vec<f64>>>]) -> Table {
        let mut table = Table::new(self.title, &["server"]);
        #[expect(clippy::cast_precision_loss)]
        let names = self.sizes.iter().map(|&size| format!("{} {}", thousands(size as f64), self.unit));
        table.header.extend(names);
        table.header.push("last to first".to_owned());
        let last = self.sizes.len() - 1;
        for (server, row) in self.rows.iter().zip(rows) {
            let ratio_to_first = |size: usize| {
                let ratio = |runs: &Vec<Vec<f64>>| Summary::of(runs.iter().map(|run| run[size] / run[0]));
                row.value().and_then(ratio)
            };
            let figure = |size: usize| {
                row.cell(|runs| {
                    let nanos = Summary::of(runs.iter().map(|run| run[size]));
                    nanos.zip(ratio_to_first(size)).map_or(String::new(), |(nanos, ratio)| {
                        format!("{} ({:.2}, {})", thousands(nanos.median), ratio.median, nanos.spread())
                    })
                })
            };
            let mut cells = vec![server.title().to_owned()];
            cells.extend((0..=last).map(figure));
            cells.push(
                ratio_to_first(last)
                    .map_or("–".to_owned(), |ratio| format!("{:.2}, at worst {:.2}", ratio.median, ratio.max)),
            );
            table.rows.push(cells);
        }
        table.note("In brackets: the ratio to the first column, and the spread.");
        table
    }
}

/// A shorter measurement is only a trial, without the largest sizes.
const TRIAL_MAX: Duration = Duration::from_millis(100);
const TRIAL_SIZE_MAX: usize = 1_000;

/// The sizes that fit the limit on descriptors.
fn sizes_within_limits(bench: &BenchmarkRun, sizes: &[usize]) -> Vec<usize> {
    let max = idle_connections::connections_max(bench.fd_limit);
    let max = if bench.duration < TRIAL_MAX { max.min(TRIAL_SIZE_MAX) } else { max };
    sizes.iter().copied().filter(|size| *size <= max).collect()
}

/// Of these servers, those that were chosen, and another program beside the program.
fn chosen_rows(bench: &BenchmarkRun, servers: &[Server]) -> Vec<Server> {
    let has_row = |server: &Server| {
        servers.contains(server) || *server == Server::OtherBinary && servers.contains(&Server::Binary)
    };
    bench.servers.iter().copied().filter(has_row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_column_compares_the_first_and_the_last_size_of_each_round() {
        let rows = [Server::Floor, Server::Library, Server::Binary];
        let growth = Growth { title: "Time", sizes: &[1, 2_000], unit: "armed", rows: &rows };
        let runs = vec![vec![100.0, 110.0], vec![200.0, 300.0], vec![100.0, 120.0]];
        let table = growth.table(&[Measurement::Value(runs), Measurement::Failed, Measurement::Unavailable]);
        assert_eq!(table.header, ["server", "1 armed", "2,000 armed", "last to first"]);
        let figures = ["100 (1.00, +0..+100 %)", "120 (1.20, -8..+150 %)", "1.20, at worst 1.50"];
        assert_eq!(table.rows[0][1..], figures);
        assert_eq!(table.rows[1][1..], ["failed", "failed", "–"]);
        assert_eq!(table.rows[2][1..], ["absent", "absent", "–"]);
    }
}
