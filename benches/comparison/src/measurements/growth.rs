//! CPU time per exchange beside idle connections, and with more clients.

use std::io;

use crate::bench::{Bench, Reading};
use crate::measurements::idle::{self, Idle};
use crate::measurements::measure::{cost, lines};
use crate::report::statistics::Figure;
use crate::report::table::{Table, thousands};
use crate::servers::Server;
use crate::servers::process::Running;
use crate::workload::{Mode, Workload};

const SERVERS: [Server; 2] = [Server::Floor, Server::Library];
const IDLE: [usize; 3] = [10, 1_000, 10_000];
const BUSY: [usize; 4] = [64, 256, 1_024, 4_096];

/// A line of each of 64 clients, beside more and more that are idle.
pub(crate) fn beside_idle(bench: &Bench) -> Table {
    let max = idle::connections_max(bench.descriptors);
    let mut sizes: Vec<usize> = IDLE.into_iter().filter(|&size| size < max).collect();
    sizes.push(max);
    let title = "Nanoseconds of processor time for a line, beside idle connections";
    let mut table = grow(bench, title, &sizes, "idle", |running| {
        let mut idle = Idle::new(running.address);
        let beside = |&size: &usize| {
            idle.grow(size)?;
            Ok(cost(running, Workload::Lines.shape(), bench.time)?.nanos)
        };
        sizes.iter().map(beside).collect()
    });
    table.note(format!("The last column is what a limit of {} descriptors leaves.", bench.descriptors));
    table
}

/// A line of each of so many clients.
pub(crate) fn of_turns(bench: &Bench) -> Table {
    let mut sizes = BUSY.map(|size| size.min(idle::connections_max(bench.descriptors))).to_vec();
    sizes.dedup();
    let title = "Nanoseconds of processor time for a line, by the number of clients that ask at once";
    grow(bench, title, &sizes, "asking", |running| {
        sizes.iter().map(|&size| Ok(cost(running, lines(size), bench.time)?.nanos)).collect()
    })
}

/// Some rounds of the floor and the library in turns, each round one figure for each size.
fn grow(
    bench: &Bench,
    title: &str,
    sizes: &[usize],
    unit: &str,
    figures: impl Fn(&Running) -> io::Result<Vec<f64>>,
) -> Table {
    let mut table = Table::new(title, &["server"]);
    #[expect(clippy::cast_precision_loss)]
    let names = sizes.iter().map(|&size| format!("{} {unit}", thousands(size as f64)));
    table.header.extend(names);
    let mut rounds = SERVERS.map(|_| Vec::new());
    for round in 1..=bench.rounds {
        for (server, runs) in SERVERS.iter().zip(&mut rounds) {
            let what = format!("growth, {unit}, round {round} of {}", bench.rounds);
            if let Reading::Figures(run) = bench.ask(*server, Mode::Lines, &what, &figures) {
                runs.push(run);
            }
        }
    }
    for (server, runs) in SERVERS.iter().zip(&rounds) {
        let columns: Vec<Option<Figure>> =
            (0..sizes.len()).map(|size| Figure::of(runs.iter().map(|run: &Vec<f64>| run[size]))).collect();
        let first = columns[0].map_or(f64::NAN, |figure| figure.median);
        let cell = |figure: &Option<Figure>| {
            figure.map_or("failed".to_owned(), |figure| {
                format!("{} ({:.2}, {})", thousands(figure.median), figure.median / first, figure.spread())
            })
        };
        table.rows.push(std::iter::once(server.title().to_owned()).chain(columns.iter().map(cell)).collect());
    }
    table.note("In brackets: the ratio to the first column, and the spread.");
    table
}
