//! CPU time per exchange beside idle connections, and with more clients.

use std::io;

use super::{Growth, chosen_rows, sizes_within_limits};
use crate::benchmark_run::BenchmarkRun;
use crate::measurements::exchange_cost::cost;
use crate::measurements::idle_connections::{self, IdleConnections};
use crate::report::table::Table;
use crate::servers::Server;
use crate::servers::process::ServerProcess;
use crate::workload::{LoadOptions, Mode, Workload};

const SERVERS: [Server; 3] = [Server::Floor, Server::Library, Server::Binary];

/// Lines of 64 clients, beside a growing number of idle ones.
pub(crate) fn by_idle_connections(bench: &BenchmarkRun) -> Table {
    let max = idle_connections::connections_max(bench.fd_limit);
    let sizes = sizes_within_limits(bench, &[10, 1_000, 10_000, max]);
    let title = "Nanoseconds of processor time for a line, beside idle connections";
    let growth = Growth { title, sizes: &sizes, unit: "idle", rows: &chosen_rows(bench, &SERVERS) };
    let measure_sizes = |process: &ServerProcess| -> io::Result<Vec<f64>> {
        let mut idle = IdleConnections::new(process.address);
        let measure_size = |&size: &usize| {
            idle.grow_to(size)?;
            Ok(cost(process, Workload::Lines.load_options(), bench.duration / 2)?.nanos)
        };
        sizes.iter().map(measure_size).collect()
    };
    let mut table = growth.measure(bench, |server, label| bench.measure(server, Mode::Lines, label, measure_sizes));
    table.note(format!("The last column is the most that a limit of {} descriptors allows.", bench.fd_limit));
    table
}

/// Lines of a growing number of clients.
pub(crate) fn lines_by_clients(bench: &BenchmarkRun) -> Table {
    by_clients(bench, Workload::Lines, "Nanoseconds of processor time for a line, by the number of active clients")
}

/// Connections of a growing number of clients at a time.
pub(crate) fn once_by_clients(bench: &BenchmarkRun) -> Table {
    by_clients(bench, Workload::Once, "Nanoseconds of processor time for a connection, by the number of clients")
}

fn by_clients(bench: &BenchmarkRun, workload: Workload, title: &str) -> Table {
    let sizes = sizes_within_limits(bench, &[64, 256, 1_024, 4_096]);
    let growth = Growth { title, sizes: &sizes, unit: "active", rows: &chosen_rows(bench, &SERVERS) };
    let load_options = |clients| LoadOptions { clients, ..workload.load_options() };
    growth.measure(bench, |server, label| {
        bench.measure(server, workload.mode(), label, |process| {
            sizes.iter().map(|&size| Ok(cost(process, load_options(size), bench.duration / 2)?.nanos)).collect()
        })
    })
}
