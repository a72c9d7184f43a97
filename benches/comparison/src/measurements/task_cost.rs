//! CPU time of timers and posted jobs: floor, library, tokio.

use std::io;
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::ValueEnum;

use crate::benchmark_run::{BenchmarkRun, show_progress};
use crate::report::chart::{Bar, Panel, PanelGroup};
use crate::report::statistics::Summary;
use crate::report::table::{Table, thousands};
use crate::servers::Server;
use crate::tasks::{Runtime, Task, TimerPlan, parse_cost};

/// A measurement of at least this length has the full size; a shorter one has a share of it.
const FULL_SIZE: Duration = Duration::from_millis(500);

/// The tasks, each with its name, and whether its threads run on all cores.
fn tasks(duration: Duration) -> [(&'static str, Task, bool); 4] {
    let share = (duration.as_secs_f64() / FULL_SIZE.as_secs_f64()).min(1.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let scaled = |count: f64| (count * share).ceil() as u64;
    let timers = |timers, period_millis, fires| Task::Timers(TimerPlan { timers, period_millis, fires, beside: 0 });
    [
        ("timers", timers(1_000, 10, scaled(100.0)), false),
        ("timers-100k", timers(scaled(100_000.0), scaled(1_000.0), 2), false),
        ("posts", Task::Posts { jobs: scaled(1_000_000.0) }, false),
        ("posts, all cores", Task::Posts { jobs: scaled(1_000_000.0) }, true),
    ]
}

/// The server of the other tables that a runtime belongs to.
fn server(runtime: Runtime) -> Server {
    match runtime {
        Runtime::Floor => Server::Floor,
        Runtime::Library => Server::Library,
        Runtime::Tokio => Server::Tokio,
    }
}

/// The table of the tasks, and their part of the chart.
pub(crate) fn measure(bench: &BenchmarkRun) -> (Table, PanelGroup) {
    let title = "Processor time for a timer that fires and is set again, and for a posted job";
    let mut table = Table::new(title, &["runtime"]);
    let runtimes: Vec<Runtime> =
        Runtime::ALL.into_iter().filter(|runtime| bench.servers.contains(&server(*runtime))).collect();
    let mut panels = Vec::new();
    table.rows = runtimes.iter().map(|runtime| vec![server(*runtime).title().to_owned()]).collect();
    for (name, task, uses_all_cores) in tasks(bench.duration) {
        table.header.push(name.to_owned());
        let runs = rounds(bench, name, &runtimes, task, uses_all_cores);
        let tokio = runtimes.iter().position(|runtime| *runtime == Runtime::Tokio);
        for (runtime, row) in table.rows.iter_mut().enumerate() {
            row.push(cell(&runs[runtime], &runs[0], tokio.map(|tokio| &*runs[tokio])));
        }
        panels.push(panel(name, &runtimes, &runs));
    }
    table.note(format!(
        "Rounds: {}; the median, its ratio to the floor and to tokio, and the spread around it. All threads are \
         counted; they share one core, unless the column says otherwise.",
        bench.rounds
    ));
    table.note("timers: 1,000 of 10 ms; timers-100k: 100,000 of 1 s; posts: 1,000,000 boxed jobs of another thread.");
    table.note("tokio: a task for each timer, with a `Sleep` that is reset; jobs through an unbounded channel.");
    (table, PanelGroup { title: "A timer that fires and is set again; a posted job".to_owned(), panels })
}

/// The ratios to the floor, which is the first.
fn panel(name: &'static str, runtimes: &[Runtime], runs: &[Vec<f64>]) -> Panel {
    let bars = runtimes.iter().zip(runs).map(|(runtime, of_runtime)| Bar {
        label: server(*runtime).title(),
        is_own: *runtime == Runtime::Library,
        ratio: ratio(of_runtime, &runs[0]),
        missing: "failed".to_owned(),
    });
    let floor = Summary::of(runs[0].iter().copied()).map_or(0.0, |nanos| nanos.median);
    Panel { title: name, floor_nanos: floor, bars: bars.collect() }
}

/// The ratio within each round.
fn ratio(runs: &[f64], to: &[f64]) -> Option<Summary> {
    Summary::of(runs.iter().zip(to).map(|(run, to)| run / to))
}

/// A cell: nanoseconds, and ratios within each round.
fn cell(runs: &[f64], floor: &[f64], tokio: Option<&[f64]>) -> String {
    let (Some(nanos), Some(to_floor)) = (Summary::of(runs.iter().copied()), ratio(runs, floor)) else {
        return "failed".to_owned();
    };
    let to_tokio =
        tokio.and_then(|tokio| ratio(runs, tokio)).map_or(String::new(), |ratio| format!("{:.2}, ", ratio.median));
    format!("{} ns ({:.2}, {to_tokio}{})", thousands(nanos.median), to_floor.median, nanos.spread())
}

/// Nanoseconds for each operation, by runtime and round. All runtimes take turns in every round.
fn rounds(bench: &BenchmarkRun, name: &str, runtimes: &[Runtime], task: Task, uses_all_cores: bool) -> Vec<Vec<f64>> {
    let mut runs = vec![Vec::new(); runtimes.len()];
    for round in 1..=bench.rounds {
        for (runtime, runs) in runtimes.iter().zip(&mut runs) {
            let title = server(*runtime).title();
            show_progress(&format!("{name}, round {round} of {}: {title}", bench.rounds));
            match run(bench, *runtime, task, uses_all_cores) {
                Ok(nanos) => runs.push(nanos),
                Err(error) => bench.record_failure(format!("{name}: {title}: {error}")),
            }
        }
    }
    runs
}

/// Nanoseconds of processor time for each operation.
pub(crate) fn run(bench: &BenchmarkRun, runtime: Runtime, task: Task, uses_all_cores: bool) -> io::Result<f64> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("task").arg(runtime.to_possible_value().map_or(String::new(), |value| value.get_name().to_owned()));
    match task {
        Task::Timers(TimerPlan { timers, period_millis, fires, beside }) => {
            command.arg("timers").args([timers, period_millis, fires, beside].map(|number| number.to_string()));
        }
        Task::Posts { jobs } => {
            command.args(["posts", &jobs.to_string()]);
        }
    }
    if uses_all_cores {
        bench.machine.unpin()?;
    }
    let output = command.stdin(Stdio::null()).output();
    bench.machine.pin_to_server_core()?;
    let output = output?;
    let text = String::from_utf8_lossy(&output.stdout);
    match parse_cost(&text) {
        #[expect(clippy::cast_precision_loss)]
        Some(cost) if output.status.success() => Ok(cost.cpu_nanos as f64 / cost.operations as f64),
        _ => Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
    }
}
