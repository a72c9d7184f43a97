//! Memory for a million connections, extrapolated from one.

use std::fs;

use crate::benchmark_run::{BenchmarkRun, Measurement};
use crate::measurements::kernel_memory;
use crate::measurements::memory::IdleCost;
use crate::report::table::{Table, thousands};
use crate::servers::Server;

const CONNECTIONS: f64 = 1_000_000.0;
const GIB: f64 = 1024.0 * 1024.0 * 1024.0;

/// The table; `None` if the library was not measured.
pub(crate) fn table(bench: &BenchmarkRun, idle: &[(Server, Measurement<IdleCost>)]) -> Option<Table> {
    let cost = idle.iter().find(|(server, _)| *server == Server::Library)?.1.value()?;
    let mut table =
        Table::new("A million idle connections to halloo as a library", &["what", "for one", "for a million"]);
    let mut row = |cells: [String; 3]| table.rows.push(cells.into());
    row([
        "memory of the server".to_owned(),
        format!("{} bytes", thousands(cost.bytes)),
        format!("{:.2} GiB", cost.bytes * CONNECTIONS / GIB),
    ]);
    let objects = kernel_memory::objects();
    row(match &objects {
        Some(objects) => {
            let bytes = to_f64(objects.iter().map(|object| object.bytes).sum());
            [
                "kernel objects of the server".to_owned(),
                format!("{} bytes", thousands(bytes)),
                format!("{:.2} GiB", bytes * CONNECTIONS / GIB),
            ]
        }
        None => ["kernel objects of the server".to_owned(), "only root can read it".to_owned(), "–".to_owned()],
    });
    row([
        "processor time of the server to accept them".to_owned(),
        format!("{} ns", thousands(cost.cpu_nanos)),
        format!("{:.1} s", cost.cpu_nanos * CONNECTIONS / 1e9),
    ]);
    row([
        "descriptors".to_owned(),
        format!("1; allowed here: {}", thousands(to_f64(bench.fd_limit))),
        format!("1,000,064; the system's limit here: {}", read_sysctl("fs/nr_open")),
    ]);
    let ports = local_ports();
    row([
        "ports of the server; addresses of the clients".to_owned(),
        "1 port serves all".to_owned(),
        ports.map_or("–".to_owned(), |ports| {
            let addresses = (CONNECTIONS / ports).ceil();
            format!("{} addresses, each with {} ports", thousands(addresses), thousands(ports))
        }),
    ]);
    if let Some(objects) = objects {
        let sizes: Vec<String> = objects.iter().map(|object| format!("{} {}", object.name, object.bytes)).collect();
        table.note(format!("Kernel objects, in bytes: {}.", sizes.join(", ")));
    }
    table.note("Each figure for a million is a million times that for one; an idle connection has no bytes in flight.");
    Some(table)
}

#[expect(clippy::cast_precision_loss)]
fn to_f64(number: u64) -> f64 {
    number as f64
}

/// A number in `/proc/sys`.
fn read_sysctl(name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/sys/{name}")).unwrap_or_default();
    text.trim().parse().map_or("unknown".to_owned(), thousands)
}

/// The number of ports for outgoing connections from one address.
fn local_ports() -> Option<f64> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut bounds = text.split_whitespace().filter_map(|word| word.parse::<f64>().ok());
    Some(1.0 - bounds.next()? + bounds.next()?)
}
