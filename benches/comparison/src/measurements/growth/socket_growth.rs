//! CPU time per datagram with a growing number of UDP sockets.

use std::io;

use super::{Growth, chosen_rows, sizes_within_limits};
use crate::benchmark_run::BenchmarkRun;
use crate::load::Load;
use crate::measurements::exchange_cost::load_cost;
use crate::report::table::Table;
use crate::servers::Server;
use crate::servers::builtin::many_sockets::nth_address;
use crate::workload::Workload;

/// Datagrams to at most 64 of a growing number of sockets of one loop.
pub(crate) fn by_sockets(bench: &BenchmarkRun) -> Table {
    let sizes = sizes_within_limits(bench, &[1, 10, 100, 1_000, 10_000]);
    let title = "Nanoseconds of processor time for a datagram, by the number of UDP sockets";
    let rows = chosen_rows(bench, &[Server::Floor, Server::Library]);
    let growth = Growth { title, sizes: &sizes, unit: "sockets", rows: &rows };
    let options = Workload::UdpSingle.load_options();
    let mut table = growth.measure(bench, |server, label| {
        bench.measure_with(server, label, || {
            let measure_size = |&sockets: &usize| -> io::Result<f64> {
                let process = bench.environment.start_many_sockets(server, sockets)?;
                let busy = sockets.min(options.clients);
                let load = Load::open_each(|client| nth_address(process.address, client % busy), options)?;
                Ok(load_cost(&process, load, bench.duration / 2)?.nanos)
            };
            sizes.iter().map(measure_size).collect::<io::Result<Vec<f64>>>().map(Some)
        })
    });
    table.note(
        "64 clients with one datagram in flight each share the sockets; of more than 64 sockets, 64 have traffic.",
    );
    table
}
