//! The measurements of the benchmark, one in each file.

pub(crate) mod all_servers;
pub(crate) mod counts;
pub(crate) mod exchange_cost;
pub(crate) mod growth;
pub(crate) mod idle_connections;
pub(crate) mod kernel_memory;
pub(crate) mod memory;
pub(crate) mod million_connections;
pub(crate) mod startup;
pub(crate) mod task_cost;

use std::error::Error;
use std::io::{self, Write};

use crate::arguments::{Arguments, Part};
use crate::benchmark_run::{BenchmarkRun, clear_progress, show_progress};
use crate::measurements::counts::{instructions, system_calls};
use crate::measurements::growth::worker_scaling;
use crate::report::chart;

/// Runs the chosen measurements and prints them; false if one failed.
pub(crate) fn run(arguments: &Arguments) -> Result<bool, Box<dyn Error>> {
    show_progress("building the servers");
    let bench = BenchmarkRun::prepare(arguments)?;
    let (mut tables, mut panel_groups) = (Vec::new(), Vec::new());
    for part in arguments.chosen_parts() {
        match part {
            Part::Cost => {
                let comparison = all_servers::measure(&bench);
                tables.extend(comparison.cost_tables(&bench));
                tables.extend(comparison.speed_tables(&bench));
                panel_groups.extend(comparison.panels(&bench));
            }
            Part::Calls => tables.extend(system_calls::measure(&bench)),
            Part::Instructions => tables.extend(instructions::measure(&bench)),
            Part::Tasks => {
                let (table, panel_group) = task_cost::measure(&bench);
                tables.push(table);
                panel_groups.push(panel_group);
            }
            Part::Memory => {
                tables.push(memory::allocations(&bench));
                let idle = memory::measure(&bench);
                tables.push(memory::table(&bench, &idle));
                tables.extend(million_connections::table(&bench, &idle));
            }
            Part::Growth => tables.extend(growth::tables(&bench)),
            Part::Workers => tables.push(worker_scaling::measure(&bench, arguments.cores_min)),
            Part::Startup => tables.push(startup::measure(&bench, arguments.build_times)),
        }
    }
    if let Some(path) = &arguments.svg
        && let Err(error) = std::fs::write(path, chart::svg(&panel_groups))
    {
        bench.record_failure(format!("the chart in {}: {error}", path.display()));
    }
    clear_progress();
    let mut output = io::stdout().lock();
    for table in &tables {
        writeln!(output, "{}", if arguments.markdown { table.markdown() } else { table.text() })?;
    }
    let failures = bench.failures.borrow();
    for failure in &*failures {
        eprintln!("failed: {failure}");
    }
    Ok(failures.is_empty())
}
