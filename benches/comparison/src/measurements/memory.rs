//! Allocations per exchange, and memory per idle connection.

use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::bench::{Bench, Reading, progress};
use crate::load::{Load, Until};
use crate::measurements::idle::{self, Idle};
use crate::report::table::{Table, thousands};
use crate::servers::process::{Running, told_address};
use crate::servers::{Server, build};
use crate::workload::{Mode, Workload};

/// Exchanges of the shorter and the longer run, whose difference counts: what a start allocates is in both.
const EXCHANGES: [u64; 2] = [2_000, 12_000];
/// Connections between which memory is taken to grow evenly.
const CONNECTIONS: [usize; 2] = [1_000, 10_000];

/// What idle connections cost one server.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    /// The server's own memory.
    pub(crate) bytes: f64,
    /// Its processor time for taking one in, with one exchange.
    pub(crate) nanos: f64,
}

/// How many allocations halloo as a library makes for an exchange.
pub(crate) fn allocations(bench: &Bench) -> Table {
    let mut table = Table::new("Allocations for an exchange", &["server"]);
    let mut row = vec![Server::Library.title().to_owned()];
    progress("allocations");
    let program = build("allocations").map_err(io::Error::other);
    for workload in &bench.workloads {
        table.header.push(workload.name().to_owned());
        let counted = program.as_ref().map_err(|error| io::Error::other(error.to_string())).and_then(|program| {
            let [few, many] = EXCHANGES;
            Ok((count(program, *workload, few)?, count(program, *workload, many)?))
        });
        row.push(match counted {
            #[expect(clippy::cast_precision_loss)]
            Ok((few, many)) => format!("{:.3}", (many as f64 - few as f64) / (EXCHANGES[1] - EXCHANGES[0]) as f64),
            Err(error) => {
                bench.fail(format!("allocations, {}: {error}", workload.name()));
                "failed".to_owned()
            }
        });
    }
    table.rows.push(row);
    table.note(format!(
        "Counted on the loop's thread: {} exchanges beside {}, so that what a start allocates is left out.",
        thousands(f64_of(EXCHANGES[1])),
        thousands(f64_of(EXCHANGES[0]))
    ));
    table
}

#[expect(clippy::cast_precision_loss)]
fn f64_of(count: u64) -> f64 {
    count as f64
}

/// All allocations of a server that ends after so many exchanges.
fn count(program: &Path, workload: Workload, exchanges: u64) -> io::Result<u64> {
    let mut command = Command::new(program);
    command.args([workload.mode().name(), &exchanges.to_string()]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let counted = (|| {
        let mut output = child.stdout.take().map(BufReader::new).ok_or_else(|| io::Error::other("no output"))?;
        let mut line = String::new();
        output.read_line(&mut line)?;
        let address = told_address(&line).ok_or_else(|| io::Error::other("it told no address"))?;
        Load::open(address, workload.shape())?.run(Until::Exchanges(exchanges))?;
        line.clear();
        output.read_line(&mut line)?;
        line.trim().parse().map_err(|_| io::Error::other(format!("it told no number, but {line:?}")))
    })();
    let _ = child.kill();
    child.wait()?;
    counted
}

/// Asks every server to keep idle connections.
pub(crate) fn measure(bench: &Bench) -> Vec<(Server, Reading<Kept>)> {
    let high = CONNECTIONS[1].min(idle::connections_max(bench.descriptors));
    let low = CONNECTIONS[0].min(high / 10);
    let keep = |running: &Running| {
        // What a first load brings is there before and after.
        Load::open(running.address, Workload::Lines.shape())?.run(Until::Exchanges(1_000))?;
        let mut idle = Idle::new(running.address);
        idle.grow(low)?;
        let (bytes, nanos) = (running.resident_bytes()?, running.cpu_nanos()?);
        idle.grow(high)?;
        let each = |before: u64, after: u64| (f64_of(after) - f64_of(before)) / f64_of((high - low) as u64);
        Ok(Kept { bytes: each(bytes, running.resident_bytes()?), nanos: each(nanos, running.cpu_nanos()?) })
    };
    let server = |server: &Server| (*server, bench.ask(*server, Mode::Lines, "idle connections", keep));
    bench.servers.iter().map(server).collect()
}

/// The table of what idle connections cost.
pub(crate) fn table(bench: &Bench, idle: &[(Server, Reading<Kept>)]) -> Table {
    let header = ["server", "bytes of its own memory", "ns to take one in"];
    let mut table = Table::new("An idle connection that has exchanged one line", &header);
    for (server, kept) in idle {
        let bytes = kept.cell(|kept| thousands(kept.bytes));
        table.rows.push(vec![server.title().to_owned(), bytes, kept.cell(|kept| thousands(kept.nanos))]);
    }
    let high = CONNECTIONS[1].min(idle::connections_max(bench.descriptors));
    table.note(format!(
        "Resident growth up to {} connections, divided by them; the kernel's own memory is not in it.",
        thousands(f64_of(high as u64))
    ));
    if high < CONNECTIONS[1] {
        table.note(format!("Fewer than meant: no more than {} descriptors here.", bench.descriptors));
    }
    bench.note_absent(&mut table);
    table
}
