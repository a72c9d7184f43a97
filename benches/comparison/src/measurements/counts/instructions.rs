//! User instructions and code lines per exchange, as callgrind counts them.

use crate::benchmark_run::{BenchmarkRun, Measurement};
use crate::load::{Load, StopCondition};
use crate::measurements::counts::callgrind::{self, CodeCost};
use crate::report::table::{Table, thousands};
use crate::servers::Server;
use crate::servers::process::ServerProcess;
use crate::workload::Workload;

const EXCHANGES: u64 = 4_096;

/// The tables of the floor and halloo on all workloads: instructions, lines of code.
pub(crate) fn measure(bench: &BenchmarkRun) -> [Table; 2] {
    let is_installed = callgrind::is_installed();
    let servers: Vec<Server> =
        bench.servers.iter().copied().filter(|server| is_installed && is_counted(*server)).collect();
    let count_row = |server| bench.workloads.iter().map(|workload| count(bench, server, *workload)).collect();
    let costs: Vec<Vec<Measurement<CodeCost>>> = servers.iter().copied().map(count_row).collect();
    let table = |title: &str, cell: fn(&CodeCost) -> String| {
        let mut table = Table::new(title, &["server"]);
        table.header.extend(bench.workloads.iter().map(|workload| workload.name().to_owned()));
        for (server, costs) in servers.iter().zip(&costs) {
            let cells = costs.iter().map(|cost| cost.cell(cell));
            table.rows.push(std::iter::once(server.title().to_owned()).chain(cells).collect());
        }
        table.note(if is_installed {
            format!("Counted by callgrind over {EXCHANGES} exchanges of a warm server.")
        } else {
            "Not counted: valgrind is not installed.".to_owned()
        });
        table
    };
    let instructions = table("User instructions for an exchange", |cost| thousands(cost.instructions));
    let mut lines = table("Lines of code for an exchange, of 64 bytes", |cost| format!("{:.1}", cost.lines));
    lines.note("A line that runs several times in an exchange counts once; one that `n` exchanges share counts 1/n.");
    [instructions, lines]
}

/// halloo, and what it is compared with: a server in Python takes minutes under callgrind.
fn is_counted(server: Server) -> bool {
    matches!(server, Server::Floor | Server::Library | Server::Binary | Server::OtherBinary)
}

fn count(bench: &BenchmarkRun, server: Server, workload: Workload) -> Measurement<CodeCost> {
    let label = format!("instructions, {}", workload.name());
    let folder = match tempfile::tempdir() {
        Ok(folder) => folder,
        Err(error) => {
            bench.record_failure(format!("{label}: {error}"));
            return Measurement::Failed;
        }
    };
    let start = || {
        let command = bench.environment.command(server, workload.mode())?;
        command.map(|command| ServerProcess::start(callgrind::wrap(&command, folder.path()))).transpose()
    };
    bench.measure_started(server, &label, start, |process| {
        let mut load = Load::open(process.address, workload.load_options())?;
        load.run(StopCondition::Exchanges(EXCHANGES))?;
        callgrind::zero(process.pid())?;
        load.run(StopCondition::Exchanges(EXCHANGES))?;
        callgrind::cost_since_zero(process.pid(), folder.path(), EXCHANGES)
    })
}
