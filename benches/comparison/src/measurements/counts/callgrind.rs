//! User instructions of a server under callgrind, and their code lines.
//!
//! Only what runs between `zero` and `dump` counts: the server is idle at both.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Bytes of a line of the processor's caches.
const LINE_BYTES: u64 = 64;

/// The cost of some exchanges.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct CodeCost {
    /// User instructions for one exchange.
    pub(crate) instructions: f64,
    /// Lines of code for one exchange. One that `n` exchanges share, such as that of a wake-up, counts 1/n.
    pub(crate) lines: f64,
}

/// True if valgrind and its debugger's end are installed.
pub(crate) fn is_installed() -> bool {
    let is_found = |program| {
        let mut command = Command::new(program);
        command.arg("--help").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    };
    is_found("valgrind") && is_found("vgdb")
}

/// The same command under callgrind, with its profiles in `folder`.
pub(crate) fn wrap(command: &Command, folder: &Path) -> Command {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--quiet", "--dump-instr=yes", "--compress-strings=no", "--compress-pos=no"]);
    valgrind.arg(format!("--callgrind-out-file={}", profile(folder).display()));
    valgrind.arg(command.get_program()).args(command.get_args());
    valgrind
}

fn profile(folder: &Path) -> PathBuf {
    folder.join("callgrind.out")
}

/// Sets all counts of a process to zero.
pub(crate) fn zero(pid: u32) -> io::Result<()> {
    control(pid, "zero")
}

/// The cost of what ran since `zero`, for each of `exchanges`.
pub(crate) fn cost_since_zero(pid: u32, folder: &Path, exchanges: u64) -> io::Result<CodeCost> {
    control(pid, "dump")?;
    // The first dump of a process has this ending.
    let profile = fs::read_to_string(profile(folder).with_extension("out.1"))?;
    Ok(cost(&executions(&profile), exchanges))
}

/// Sends a command to callgrind, and waits until it has obeyed.
fn control(pid: u32, command: &str) -> io::Result<()> {
    let output = Command::new("vgdb").arg(format!("--pid={pid}")).arg(command).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let reason = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(io::Error::other(format!("vgdb {command}: {}", reason.lines().last().unwrap_or("it failed"))))
}

/// How often each instruction of a profile ran, by object and address.
fn executions(profile: &str) -> HashMap<(&str, u64), u64> {
    let mut executions = HashMap::new();
    let (mut object, mut is_call) = ("", false);
    for line in profile.lines() {
        if let Some(name) = line.strip_prefix("ob=") {
            object = name;
        }
        // The line after `calls=` has the cost of the called function, which is counted there.
        if !std::mem::replace(&mut is_call, line.starts_with("calls="))
            && let Some((address, count)) = instruction(line)
        {
            *executions.entry((object, address)).or_default() += count;
        }
    }
    executions
}

/// The address and the count of a line `0xADDRESS SOURCE_LINE COUNT`.
fn instruction(line: &str) -> Option<(u64, u64)> {
    let mut words = line.strip_prefix("0x")?.split_whitespace();
    let address = u64::from_str_radix(words.next()?, 16).ok()?;
    Some((address, words.nth(1)?.parse().ok()?))
}

fn cost(executions: &HashMap<(&str, u64), u64>, exchanges: u64) -> CodeCost {
    let mut lines: HashMap<(&str, u64), u64> = HashMap::new();
    for ((object, address), count) in executions {
        let most = lines.entry((object, address / LINE_BYTES)).or_default();
        *most = (*most).max(*count);
    }
    #[expect(clippy::cast_precision_loss)]
    let per_exchange = |count: u64| count as f64 / exchanges as f64;
    CodeCost {
        instructions: per_exchange(executions.values().sum()),
        lines: lines.values().map(|count| per_exchange(*count).min(1.0)).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = "\
positions: instr line
events: Ir
summary: 90

ob=/usr/bin/server
fl=???
fn=turn
0x1000 0 10
0x103f 0 20
cob=/usr/lib/libc.so.6
cfi=???
cfn=recv
calls=10 0x1000
0x1040 0 60
0x1044 0 20

ob=/usr/lib/libc.so.6
fl=???
fn=recv
0x1000 0 30
0x1000 0 10
totals: 90
";

    #[test]
    fn instructions_are_counted_once_and_not_again_in_their_caller() {
        let cost = cost(&executions(PROFILE), 20);
        assert_eq!(cost.instructions.to_string(), "4.5");
    }

    #[test]
    fn a_code_line_counts_as_often_as_it_is_used_at_most_once_an_exchange() {
        let executions = executions(PROFILE);
        assert_eq!(executions.len(), 4);
        assert_eq!([cost(&executions, 20), cost(&executions, 40)].map(|cost| cost.lines.to_string()), ["3", "2"]);
    }
}
