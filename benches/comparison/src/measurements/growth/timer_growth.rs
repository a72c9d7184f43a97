//! CPU time per timer beside a growing number of armed timers.

use std::io;

use super::{Growth, TRIAL_MAX, chosen_rows};
use crate::benchmark_run::BenchmarkRun;
use crate::measurements::task_cost;
use crate::report::table::Table;
use crate::servers::Server;
use crate::tasks::{Runtime, Task, TimerPlan};

/// 1,000 timers of 10 ms, beside a growing number that do not fire.
pub(crate) fn by_armed_timers(bench: &BenchmarkRun) -> Table {
    let sizes: &[usize] = if bench.duration < TRIAL_MAX { &[1, 100] } else { &[1, 100, 10_000, 1_000_000] };
    let title = "Nanoseconds of processor time for one of 1,000 timers of 10 ms, beside armed timers";
    let rows = chosen_rows(bench, &[Server::Floor, Server::Library]);
    let growth = Growth { title, sizes, unit: "armed", rows: &rows };
    let fires = u64::try_from(bench.duration.as_millis() / 20).unwrap_or(1).max(1);
    growth.measure(bench, |server, label| {
        let runtime = if server == Server::Floor { Runtime::Floor } else { Runtime::Library };
        bench.measure_with(server, label, || {
            let measure_size = |&size: &usize| {
                let plan = TimerPlan { timers: 1_000, period_millis: 10, fires, beside: size as u64 };
                task_cost::run(bench, runtime, Task::Timers(plan), false)
            };
            sizes.iter().map(measure_size).collect::<io::Result<Vec<f64>>>().map(Some)
        })
    })
}
