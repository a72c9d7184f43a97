//! Allocations per exchange, and memory per idle connection.

use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::benchmark_run::{BenchmarkRun, Measurement, show_progress};
use crate::load::{Load, StopCondition};
use crate::measurements::idle_connections::{self, IdleConnections};
use crate::report::table::{Table, thousands};
use crate::servers::process::{ServerProcess, parse_address};
use crate::servers::{Server, build};
use crate::workload::{Group, Mode, Workload};

/// Exchanges of the shorter and the longer run. Their difference leaves out the allocations of a start.
const EXCHANGES: [u64; 2] = [2_000, 12_000];
/// Connections at the first and the second measurement of memory.
const CONNECTIONS: [usize; 2] = [1_000, 10_000];

/// The cost of an idle connection to a server.
#[derive(Clone, Debug)]
pub(crate) struct IdleCost {
    /// Memory of the server.
    pub(crate) bytes: f64,
    /// Processor time of the server for the accept and one exchange.
    pub(crate) cpu_nanos: f64,
}

/// The allocations of halloo as a library for an exchange.
pub(crate) fn allocations(bench: &BenchmarkRun) -> Table {
    let mut table = Table::new("Allocations for an exchange", &["server"]);
    let mut row = vec![Server::Library.title().to_owned()];
    show_progress("allocations");
    let program = build("allocations").map_err(io::Error::other);
    for workload in bench.workloads.iter().filter(|workload| workload.group() == Group::Small) {
        table.header.push(workload.name().to_owned());
        let counts = program.as_ref().map_err(|error| io::Error::other(error.to_string())).and_then(|program| {
            let [few, many] = EXCHANGES;
            Ok((count_allocations(program, *workload, few)?, count_allocations(program, *workload, many)?))
        });
        row.push(match counts {
            #[expect(clippy::cast_precision_loss)]
            Ok((few, many)) => format!("{:.3}", (many as f64 - few as f64) / (EXCHANGES[1] - EXCHANGES[0]) as f64),
            Err(error) => {
                bench.record_failure(format!("allocations, {}: {error}", workload.name()));
                "failed".to_owned()
            }
        });
    }
    table.rows.push(row);
    table.note(format!(
        "Counted on the loop's thread: the difference between {} and {} exchanges, without what a start allocates.",
        thousands(to_f64(EXCHANGES[1])),
        thousands(to_f64(EXCHANGES[0]))
    ));
    table
}

#[expect(clippy::cast_precision_loss)]
fn to_f64(count: u64) -> f64 {
    count as f64
}

/// All allocations of a server that exits after `exchanges` exchanges.
fn count_allocations(program: &Path, workload: Workload, exchanges: u64) -> io::Result<u64> {
    let mut command = Command::new(program);
    command.args([workload.mode().name(), &exchanges.to_string()]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let count = (|| {
        let mut output = child.stdout.take().map(BufReader::new).ok_or_else(|| io::Error::other("no output"))?;
        let mut line = String::new();
        output.read_line(&mut line)?;
        let address = parse_address(&line).ok_or_else(|| io::Error::other("the first line has no address"))?;
        Load::open(address, workload.load_options())?.run(StopCondition::Exchanges(exchanges))?;
        line.clear();
        output.read_line(&mut line)?;
        line.trim().parse().map_err(|_| io::Error::other(format!("no number of allocations in {line:?}")))
    })();
    let _ = child.kill();
    child.wait()?;
    count
}

/// Measures the cost of an idle connection to each server.
pub(crate) fn measure(bench: &BenchmarkRun) -> Vec<(Server, Measurement<IdleCost>)> {
    let high = CONNECTIONS[1].min(idle_connections::connections_max(bench.fd_limit));
    let low = CONNECTIONS[0].min(high / 10);
    let measure_idle = |process: &ServerProcess| {
        // The growth from a first load must come before the first measurement.
        Load::open(process.address, Workload::Lines.load_options())?.run(StopCondition::Exchanges(1_000))?;
        let mut idle = IdleConnections::new(process.address);
        idle.grow_to(low)?;
        let (bytes, nanos) = (process.resident_bytes()?, process.cpu_nanos()?);
        idle.grow_to(high)?;
        let per_connection = |before: u64, after: u64| (to_f64(after) - to_f64(before)) / to_f64((high - low) as u64);
        Ok(IdleCost {
            bytes: per_connection(bytes, process.resident_bytes()?),
            cpu_nanos: per_connection(nanos, process.cpu_nanos()?),
        })
    };
    let measure_server =
        |server: &Server| (*server, bench.measure(*server, Mode::Lines, "idle connections", measure_idle));
    bench.servers.iter().map(measure_server).collect()
}

/// The table of the cost of an idle connection.
pub(crate) fn table(bench: &BenchmarkRun, idle: &[(Server, Measurement<IdleCost>)]) -> Table {
    let header = ["server", "bytes of memory", "ns to accept it"];
    let mut table = Table::new("An idle connection that has exchanged one line", &header);
    for (server, cost) in idle {
        let bytes = cost.cell(|cost| thousands(cost.bytes));
        let nanos = cost.cell(|cost| thousands(cost.cpu_nanos));
        table.push_unless_empty(vec![server.title().to_owned(), bytes, nanos]);
    }
    let high = CONNECTIONS[1].min(idle_connections::connections_max(bench.fd_limit));
    table.note(format!(
        "Growth of resident memory up to {} connections, divided by their number; without kernel memory.",
        thousands(to_f64(high as u64))
    ));
    if high < CONNECTIONS[1] {
        table.note(format!("Fewer than planned: the limit on descriptors is {} here.", bench.fd_limit));
    }
    bench.note_unavailable(&mut table);
    table
}
