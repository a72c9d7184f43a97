//! System calls per exchange, as strace counts them.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::NamedTempFile;

use crate::benchmark_run::{BenchmarkRun, Measurement};
use crate::load::{Load, StopCondition};
use crate::report::table::Table;
use crate::servers::process::ServerProcess;
use crate::workload::{Group, Workload};

/// A table for each group of workloads.
pub(crate) fn measure(bench: &BenchmarkRun) -> Vec<Table> {
    let has_strace = Command::new("strace").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    bench.groups().map(|(group, workloads)| measure_group(bench, group, &workloads, has_strace)).collect()
}

fn measure_group(bench: &BenchmarkRun, group: Group, workloads: &[Workload], has_strace: bool) -> Table {
    let mut table = Table::new(&format!("System calls for {}", group.exchange()), &["server"]);
    table.header.extend(workloads.iter().map(|workload| workload.name().to_owned()));
    for server in &bench.servers {
        let mut row = vec![server.title().to_owned()];
        for workload in workloads {
            let label = format!("system calls, {}", workload.name());
            let count = || bench.measure(*server, workload.mode(), &label, |process| count(process, *workload));
            let measurement = if has_strace { count() } else { Measurement::Unsupported };
            row.push(measurement.cell(|calls| format!("{calls:.2}")));
        }
        table.push_unless_empty(row);
    }
    table.note(match group {
        _ if !has_strace => "Not counted: strace is not installed.".to_owned(),
        Group::Small => "Counted by strace over 4096 exchanges, on one core: one wake-up finds the questions of all \
                         clients."
            .to_owned(),
        Group::Bulk => "Counted by strace on one core: for a MiB, or for a delivery of 64 KiB.".to_owned(),
    });
    bench.note_unavailable(&mut table);
    table
}

fn count(process: &ServerProcess, workload: Workload) -> io::Result<f64> {
    let exchanges = workload.counted_exchanges();
    let mut load = Load::open(process.address, workload.load_options())?;
    load.run(StopCondition::Exchanges(exchanges / 4))?;
    let strace = Strace::attach(process.pid())?;
    let outcome = load.run(StopCondition::Exchanges(exchanges))?;
    #[expect(clippy::cast_precision_loss)]
    let calls = strace.finish()? as f64 / outcome.exchanges as f64;
    Ok(calls)
}

/// A running `strace -c`, killed when it is dropped.
struct Strace {
    child: Child,
    counts: NamedTempFile,
}

impl Strace {
    fn attach(pid: u32) -> io::Result<Self> {
        let counts = NamedTempFile::new()?;
        let mut command = Command::new("strace");
        command.arg("-c").arg("-o").arg(counts.path());
        // Each thread by its id: with `-f`, strace has been seen to miss nearly all calls of a process with threads.
        let threads: Vec<_> = fs::read_dir(format!("/proc/{pid}/task"))?.collect::<Result<_, _>>()?;
        for thread in &threads {
            command.arg("-p").arg(thread.file_name());
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let mut strace = Self { child, counts };
        let stderr = strace.child.stderr.take().ok_or_else(|| io::Error::other("strace has no standard error"))?;
        let mut lines = BufReader::new(stderr).lines();
        for _ in &threads {
            let line = lines.next().transpose()?.unwrap_or_default();
            if !line.contains("attached") {
                return Err(io::Error::other(format!("strace does not attach: {line}")));
            }
        }
        Ok(strace)
    }

    /// Detaches from the server, and returns the number of calls.
    fn finish(mut self) -> io::Result<u64> {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            kill_process(pid, Signal::INT)?;
        }
        self.child.wait()?;
        Ok(sum(&fs::read_to_string(self.counts.path())?))
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The sum of the fourth column: `% time, seconds, usecs/call, calls, errors, syscall`.
fn sum(counts: &str) -> u64 {
    let rows = counts.lines().filter(|line| !line.ends_with(" total"));
    rows.filter_map(|line| line.split_whitespace().nth(3)?.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_summed_without_the_total_row() {
        let counts = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 61.11    0.000022           0       100           sendto
 38.89    0.000014           0        50        10 recvfrom
------ ----------- ----------- --------- --------- ----------------
100.00    0.000036           0       150        10 total
";
        assert_eq!(sum(counts), 150);
        assert_eq!(sum(""), 0);
    }
}
