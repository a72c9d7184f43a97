//! One measurement: start a server, warm it up, load it.

use std::io;
use std::time::Duration;

use crate::load::{Load, Outcome, StopCondition};
use crate::machine::Machine;
use crate::servers::process::ServerProcess;
use crate::workload::LoadOptions;

/// The cost of a load to the server.
pub(crate) struct Cost {
    /// Nanoseconds of processor time for each exchange.
    pub(crate) nanos: f64,
    pub(crate) outcome: Outcome,
}

/// Processor time for each exchange, with the clients on the core of the server.
pub(crate) fn cost(process: &ServerProcess, options: LoadOptions, duration: Duration) -> io::Result<Cost> {
    load_cost(process, Load::open(process.address, options)?, duration)
}

/// The same for an open load.
pub(crate) fn load_cost(process: &ServerProcess, mut load: Load, duration: Duration) -> io::Result<Cost> {
    load.run(StopCondition::Elapsed(duration / 5))?;
    let before = process.cpu_nanos()?;
    let outcome = load.run(StopCondition::Elapsed(duration))?;
    let used = process.cpu_nanos()? - before;
    #[expect(clippy::cast_precision_loss)]
    let nanos = used as f64 / outcome.exchanges as f64;
    Ok(Cost { nanos, outcome })
}

/// Throughput and latency, with the clients on another core; `None` if there is none.
pub(crate) fn speed(
    machine: &Machine,
    process: &ServerProcess,
    options: LoadOptions,
    duration: Duration,
) -> io::Result<Option<Outcome>> {
    if !machine.pin_to_client_core(process.backend_pid())? {
        return Ok(None);
    }
    let mut load = Load::open(process.address, options)?;
    load.run(StopCondition::Elapsed(duration / 5))?;
    let outcome = load.run(StopCondition::Elapsed(duration));
    machine.pin_to_server_core()?;
    outcome.map(Some)
}

/// Exchanges in a second.
pub(crate) fn per_second(outcome: &Outcome) -> f64 {
    #[expect(clippy::cast_precision_loss)]
    let exchanges = outcome.exchanges as f64;
    exchanges / outcome.elapsed.as_secs_f64()
}
