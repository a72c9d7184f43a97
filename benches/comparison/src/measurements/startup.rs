//! Time until a server is ready, program size, build time.

use std::fs;
use std::io;
use std::process::Command;
use std::time::Instant;

use crate::benchmark_run::{BenchmarkRun, Measurement, show_progress};
use crate::report::statistics::Summary;
use crate::report::table::{Table, thousands};
use crate::servers::{Server, cargo};
use crate::workload::Mode;

const STARTS: usize = 20;

/// The table of startup times, with the size of the program, and with build times if they are chosen.
pub(crate) fn measure(bench: &BenchmarkRun, build_times: bool) -> Table {
    let mut table = Table::new("From the start of the process until it listens", &["server", "milliseconds"]);
    for server in &bench.servers {
        let starts: Vec<_> = (0..STARTS)
            .map(|_| {
                bench.measure(*server, Mode::Once, "start", |process| Ok(process.startup_time.as_secs_f64() * 1000.0))
            })
            .collect();
        let cell = match starts.iter().find(|start| start.value().is_none()) {
            Some(other) => other.cell(|_| String::new()),
            None => Summary::of(starts.iter().filter_map(Measurement::value).copied())
                .map_or(String::new(), |summary| {
                    format!("{:.1} ({:.1}..{:.1})", summary.median, summary.min, summary.max)
                }),
        };
        table.push_unless_empty(vec![server.title().to_owned(), cell]);
    }
    table.note(format!("Median of {STARTS} starts, with the minimum and the maximum."));
    if bench.environment.unavailable_reason(Server::Binary).is_none() {
        table.note(match stripped_kib(bench) {
            Ok(kib) => format!("The stripped program has {} KiB.", thousands(kib)),
            Err(error) => format!("The size of the program is unknown: {error}."),
        });
    }
    if build_times {
        for (target, result) in [
            ("the library alone", build_seconds(bench, &["--package", "halloo", "--lib"])),
            ("the program", build_seconds(bench, &["--package", "halloo-server"])),
        ] {
            match result {
                Ok(seconds) => table.note(format!("A cold release build of {target} takes {seconds:.0} s.")),
                Err(error) => bench.record_failure(format!("a cold build of {target}: {error}")),
            }
        }
    } else {
        table.note("Build times: `--build-times`.");
    }
    bench.note_unavailable(&mut table);
    table
}

/// The size of the release program without its symbols.
fn stripped_kib(bench: &BenchmarkRun) -> io::Result<f64> {
    let copy = tempfile::NamedTempFile::new()?;
    fs::copy(bench.environment.binary()?, copy.path())?;
    let status = Command::new("strip").arg(copy.path()).status();
    if !status.is_ok_and(|status| status.success()) {
        return Err(io::Error::other("strip is not installed"));
    }
    #[expect(clippy::cast_precision_loss)]
    let bytes = fs::metadata(copy.path())?.len() as f64;
    Ok(bytes / 1024.0)
}

/// The time of cargo with an empty target directory, on all cores. All downloads are there before.
fn build_seconds(bench: &BenchmarkRun, arguments: &[&str]) -> io::Result<f64> {
    show_progress("a cold build");
    let folder = tempfile::tempdir()?;
    bench.machine.unpin()?;
    let mut command = cargo();
    command.args(["build", "--release", "--quiet", "--locked", "--target-dir"]);
    let start = Instant::now();
    let status = command.arg(folder.path()).args(arguments).status();
    let elapsed = start.elapsed();
    bench.machine.pin_to_server_core()?;
    if status?.success() { Ok(elapsed.as_secs_f64()) } else { Err(io::Error::other("cargo could not build it")) }
}
