//! Exchanges a second by the number of workers of the program.
//!
//! The workers have one half of the cores, and the clients the other half.

use std::io;
use std::net::SocketAddr;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use crate::benchmark_run::BenchmarkRun;
use crate::load::{Load, StopCondition};
use crate::machine::Machine;
use crate::measurements::exchange_cost::per_second;
use crate::report::statistics::Summary;
use crate::report::table::{Table, thousands};
use crate::servers::Server;
use crate::workload::Workload;

const WORKER_COUNTS: [usize; 4] = [1, 2, 4, 8];
const WORKLOADS: [Workload; 3] = [Workload::Once, Workload::Lines, Workload::LinesDeep];

/// The table of scaling; without figures on a machine with fewer cores than this.
pub(crate) fn measure(bench: &BenchmarkRun, cores_min: usize) -> Table {
    let mut table = Table::new("Exchanges a second of the program, by the number of workers", &["workload"]);
    let cores = bench.machine.cores();
    if cores < cores_min.max(2) {
        table.note(format!("Not measured: workers and clients need {cores_min} cores, and this machine has {cores}."));
        return table;
    }
    let counts: Vec<usize> = WORKER_COUNTS.into_iter().filter(|workers| *workers <= cores / 2).collect();
    table.header.extend(counts.iter().map(|workers| format!("{workers} workers")));
    for workload in WORKLOADS {
        let mut rates = vec![Vec::new(); counts.len()];
        for round in 1..=bench.rounds {
            for (workers, rates) in counts.iter().zip(&mut rates) {
                let label = format!("{workers} workers, {}, round {round} of {}", workload.name(), bench.rounds);
                let rate = bench.measure_with(Server::Binary, &label, || scaled_rate(bench, workload, *workers));
                rates.extend(rate.value().copied());
            }
        }
        let medians: Vec<Option<Summary>> = rates.into_iter().map(Summary::of).collect();
        let first = medians[0].map_or(f64::NAN, |first| first.median);
        let cell = |rate: &Option<Summary>| {
            rate.map_or("failed".to_owned(), |rate| {
                format!("{} ({:.2}, {})", thousands(rate.median), rate.median / first, rate.spread())
            })
        };
        table.rows.push(std::iter::once(workload.name().to_owned()).chain(medians.iter().map(cell)).collect());
    }
    table.note(format!(
        "In brackets: the ratio to one worker, and the spread. {} cores have a client thread each, with {} clients.",
        cores - cores / 2,
        WORKLOADS[0].load_options().clients
    ));
    bench.note_unavailable(&mut table);
    table
}

/// Exchanges a second with this number of workers.
fn scaled_rate(bench: &BenchmarkRun, workload: Workload, workers: usize) -> io::Result<Option<f64>> {
    let server_cores = bench.machine.cores() / 2;
    bench.machine.pin_to(0..workers)?;
    let process = bench.environment.start_wrapped(Server::Binary, workload.mode(), |mut command| {
        command.args(["--workers", &workers.to_string()]);
        command
    });
    bench.machine.pin_to_server_core()?;
    let Some(process) = process? else { return Ok(None) };
    let clients = server_cores..bench.machine.cores();
    let (machine, duration, all_are_warm) = (&bench.machine, bench.duration, Barrier::new(clients.len()));
    let run = |core| run_clients(machine, core, workload, process.address, duration, &all_are_warm);
    thread::scope(|scope| {
        let threads: Vec<_> = clients.map(|core| scope.spawn(move || run(core))).collect();
        let rates = threads.into_iter().map(|thread| thread.join().map_err(|_| io::Error::other("a panic"))?);
        rates.sum::<io::Result<f64>>().map(Some)
    })
}

/// Exchanges a second of the clients of one core.
fn run_clients(
    machine: &Machine,
    core: usize,
    workload: Workload,
    address: SocketAddr,
    duration: Duration,
    all_are_warm: &Barrier,
) -> io::Result<f64> {
    let warm_up = || {
        machine.pin_to(core..core + 1)?;
        let mut load = Load::open(address, workload.load_options())?;
        load.run(StopCondition::Elapsed(duration / 5))?;
        Ok(load)
    };
    let load: io::Result<Load> = warm_up();
    // Also after an error: the threads of the other cores wait.
    all_are_warm.wait();
    let outcome = load?.run(StopCondition::Elapsed(duration))?;
    Ok(per_second(&outcome))
}
