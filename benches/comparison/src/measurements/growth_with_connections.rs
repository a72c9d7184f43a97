//! CPU time per exchange beside idle connections, and with more clients.

use std::io;

use crate::benchmark_run::{BenchmarkRun, Measurement};
use crate::measurements::exchange_cost::{cost, line_load};
use crate::measurements::idle_connections::{self, IdleConnections};
use crate::report::statistics::Summary;
use crate::report::table::{Table, thousands};
use crate::servers::Server;
use crate::servers::process::ServerProcess;
use crate::workload::{Mode, Workload};

const SERVERS: [Server; 2] = [Server::Floor, Server::Library];
const IDLE_COUNTS: [usize; 3] = [10, 1_000, 10_000];
const BUSY_COUNTS: [usize; 4] = [64, 256, 1_024, 4_096];

/// Lines of 64 clients, beside a growing number of idle ones.
pub(crate) fn by_idle_connections(bench: &BenchmarkRun) -> Table {
    let max = idle_connections::connections_max(bench.fd_limit);
    let mut sizes: Vec<usize> = IDLE_COUNTS.into_iter().filter(|&size| size < max).collect();
    sizes.push(max);
    let title = "Nanoseconds of processor time for a line, beside idle connections";
    let mut table = growth_table(bench, title, &sizes, "idle", |process| {
        let mut idle = IdleConnections::new(process.address);
        let measure_size = |&size: &usize| {
            idle.grow_to(size)?;
            Ok(cost(process, Workload::Lines.load_options(), bench.duration)?.nanos)
        };
        sizes.iter().map(measure_size).collect()
    });
    table.note(format!("The last column is the most that a limit of {} descriptors allows.", bench.fd_limit));
    table
}

/// Lines of a growing number of clients.
pub(crate) fn by_clients(bench: &BenchmarkRun) -> Table {
    let mut sizes = BUSY_COUNTS.map(|size| size.min(idle_connections::connections_max(bench.fd_limit))).to_vec();
    sizes.dedup();
    let title = "Nanoseconds of processor time for a line, by the number of active clients";
    growth_table(bench, title, &sizes, "active", |process| {
        sizes.iter().map(|&size| Ok(cost(process, line_load(size), bench.duration)?.nanos)).collect()
    })
}

/// Measures the floor and the library in turn, in every round one figure for each size.
fn growth_table(
    bench: &BenchmarkRun,
    title: &str,
    sizes: &[usize],
    unit: &str,
    measure: impl Fn(&ServerProcess) -> io::Result<Vec<f64>>,
) -> Table {
    let mut table = Table::new(title, &["server"]);
    #[expect(clippy::cast_precision_loss)]
    let names = sizes.iter().map(|&size| format!("{} {unit}", thousands(size as f64)));
    table.header.extend(names);
    let mut rounds = SERVERS.map(|_| Vec::new());
    for round in 1..=bench.rounds {
        for (server, runs) in SERVERS.iter().zip(&mut rounds) {
            let label = format!("growth, {unit}, round {round} of {}", bench.rounds);
            if let Measurement::Value(run) = bench.measure(*server, Mode::Lines, &label, &measure) {
                runs.push(run);
            }
        }
    }
    for (server, runs) in SERVERS.iter().zip(&rounds) {
        let columns: Vec<Option<Summary>> =
            (0..sizes.len()).map(|size| Summary::of(runs.iter().map(|run: &Vec<f64>| run[size]))).collect();
        let first = columns[0].map_or(f64::NAN, |summary| summary.median);
        let cell = |summary: &Option<Summary>| {
            summary.map_or("failed".to_owned(), |summary| {
                format!("{} ({:.2}, {})", thousands(summary.median), summary.median / first, summary.spread())
            })
        };
        table.rows.push(std::iter::once(server.title().to_owned()).chain(columns.iter().map(cell)).collect());
    }
    table.note("In brackets: the ratio to the first column, and the spread.");
    table
}
