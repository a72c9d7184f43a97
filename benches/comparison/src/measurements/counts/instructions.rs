//! User instructions and code lines per exchange, as callgrind counts them.

use crate::benchmark_run::{BenchmarkRun, Measurement};
use crate::load::{Load, StopCondition};
use crate::measurements::counts::callgrind::{self, CodeCost};
use crate::report::table::{Table, thousands};
use crate::servers::Server;
use crate::workload::{Group, Workload};

/// The tables of the floor and halloo: instructions and lines of code, for each group of workloads.
pub(crate) fn measure(bench: &BenchmarkRun) -> Vec<Table> {
    bench.groups().flat_map(|(group, workloads)| measure_group(bench, group, &workloads)).collect()
}

fn measure_group(bench: &BenchmarkRun, group: Group, workloads: &[Workload]) -> [Table; 2] {
    let is_installed = callgrind::is_installed();
    let servers: Vec<Server> =
        bench.servers.iter().copied().filter(|server| is_installed && is_counted(*server)).collect();
    let count_row = |server| workloads.iter().map(|workload| count(bench, server, *workload)).collect();
    let costs: Vec<Vec<Measurement<CodeCost>>> = servers.iter().copied().map(count_row).collect();
    let table = |title: String, cell: fn(&CodeCost) -> String| {
        let mut table = Table::new(&title, &["server"]);
        table.header.extend(workloads.iter().map(|workload| workload.name().to_owned()));
        for (server, costs) in servers.iter().zip(&costs) {
            let cells = costs.iter().map(|cost| cost.cell(cell));
            table.push_unless_empty(std::iter::once(server.title().to_owned()).chain(cells).collect());
        }
        table.note(match group {
            _ if !is_installed => "Not counted: valgrind is not installed.".to_owned(),
            Group::Small => "Counted by callgrind over 4096 exchanges of a warm server.".to_owned(),
            Group::Bulk => "Counted by callgrind: for a MiB, or for a delivery of 64 KiB.".to_owned(),
        });
        table
    };
    let exchange = group.exchange();
    let instructions = table(format!("User instructions for {exchange}"), |cost| thousands(cost.instructions));
    let mut lines = table(format!("Lines of code for {exchange}, of 64 bytes"), |cost| format!("{:.1}", cost.lines));
    lines.note("A line that runs several times in an exchange counts once; one that `n` exchanges share counts 1/n.");
    [instructions, lines]
}

/// halloo, and what it is compared with: a server in Python takes minutes under callgrind.
fn is_counted(server: Server) -> bool {
    matches!(server, Server::Floor | Server::Plain | Server::Library | Server::Binary | Server::OtherBinary)
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
    let start =
        || bench.environment.start_wrapped(server, workload.mode(), |command| callgrind::wrap(&command, folder.path()));
    bench.measure_started(server, &label, start, |process| {
        let exchanges = workload.counted_exchanges();
        let mut load = Load::open(process.address, workload.load_options())?;
        load.run(StopCondition::Exchanges(exchanges))?;
        callgrind::zero(process.pid())?;
        let outcome = load.run(StopCondition::Exchanges(exchanges))?;
        callgrind::cost_since_zero(process.pid(), folder.path(), outcome.exchanges)
    })
}
