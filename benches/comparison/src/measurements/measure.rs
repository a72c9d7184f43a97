//! One measurement: start a server, warm it up, load it.

use std::io;
use std::time::Duration;

use crate::load::{Load, Outcome, Until};
use crate::machine::Machine;
use crate::servers::process::Running;
use crate::workload::{Shape, Workload};

/// What a server used for a load.
pub(crate) struct Cost {
    /// Nanoseconds of processor time for each exchange.
    pub(crate) nanos: f64,
    pub(crate) outcome: Outcome,
}

/// Processor time for each exchange, the clients on the server's own core. The server must have been started there.
pub(crate) fn cost(running: &Running, shape: Shape, time: Duration) -> io::Result<Cost> {
    let mut load = Load::open(running.address, shape)?;
    load.run(Until::Time(time / 5))?;
    let before = running.cpu_nanos()?;
    let outcome = load.run(Until::Time(time))?;
    let used = running.cpu_nanos()? - before;
    #[expect(clippy::cast_precision_loss)]
    let nanos = used as f64 / outcome.exchanges as f64;
    Ok(Cost { nanos, outcome })
}

/// Throughput and latency, the clients on another core; `None` if there is none.
pub(crate) fn speed(machine: &Machine, running: &Running, shape: Shape, time: Duration) -> io::Result<Option<Outcome>> {
    if !machine.go_to_other_core()? {
        return Ok(None);
    }
    let mut load = Load::open(running.address, shape)?;
    load.run(Until::Time(time / 5))?;
    let outcome = load.run(Until::Time(time));
    machine.go_to_server_core()?;
    outcome.map(Some)
}

/// Exchanges in a second.
pub(crate) fn per_second(outcome: &Outcome) -> f64 {
    #[expect(clippy::cast_precision_loss)]
    let exchanges = outcome.exchanges as f64;
    exchanges / outcome.took.as_secs_f64()
}

/// A load of one line in flight for each of so many clients.
pub(crate) fn lines(clients: usize) -> Shape {
    Shape { clients, ..Workload::Lines.shape() }
}
