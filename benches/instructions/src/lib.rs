//! Instructions and lines of code per exchange, counted by callgrind.
//!
//! Only the turns of the loop are counted, and what differs between two runs: neither the clients, nor the start.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Exchanges of the two runs, multiples of the clients of a turn.
const EXCHANGES: [u64; 2] = [640, 2_688];

/// Bytes of a line of the processor's cache.
const LINE_BYTES: u64 = 64;

/// The cost of one exchange in user mode.
#[derive(Debug)]
pub struct ExchangeCost {
    /// Instructions.
    pub instructions: u64,
    /// Lines of 64 bytes with code that runs in at least every second exchange. Between two system calls, the kernel takes
    /// their place in the cache: each is loaded again.
    pub code_lines: usize,
    /// Instructions and lines of each function, the most expensive first.
    functions: Vec<(String, f64, usize)>,
}

/// Runs of an instruction: its function, and how often it ran.
type Runs = BTreeMap<(String, u64), (String, u64)>;

/// Builds the program of the exchanges with flags of rustc, in a target folder of its own.
///
/// # Panics
/// If cargo fails.
#[must_use]
pub fn build(flags: &str, folder: &str) -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = package.join("../../target").join(folder);
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--locked", "--release", "--package", "instructions", "--target-dir"]).arg(&target);
    let status = cargo.env("RUSTFLAGS", flags).current_dir(package).status().expect("cargo starts");
    assert!(status.success(), "cargo failed");
    target.join("release/instructions")
}

/// Counts an exchange of a workload.
///
/// # Panics
/// If valgrind or the program fails.
#[must_use]
pub fn cost(program: &Path, workload: &str) -> ExchangeCost {
    let [few, mut runs] = EXCHANGES.map(|exchanges| count(program, workload, exchanges));
    for (instruction, (_, count)) in few {
        // What happens by chance, such as an allocation of the C library, may run more often in the shorter run.
        runs.entry(instruction).and_modify(|(_, all)| *all = all.saturating_sub(count));
    }
    let exchanges = EXCHANGES[1] - EXCHANGES[0];
    let mut lines = BTreeSet::new();
    let mut functions: BTreeMap<&str, (u64, BTreeSet<u64>)> = BTreeMap::new();
    for ((object, address), (function, count)) in &runs {
        let (instructions, lines_of_function) = functions.entry(function).or_default();
        *instructions += count;
        if 2 * count >= exchanges {
            lines.insert((object, address / LINE_BYTES));
            lines_of_function.insert(address / LINE_BYTES);
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "the counts are small")]
    let of_each = |(name, (count, lines)): (&str, (u64, BTreeSet<u64>))| {
        (name.to_string(), count as f64 / exchanges as f64, lines.len())
    };
    let mut functions: Vec<_> = functions.into_iter().map(of_each).collect();
    functions.sort_by(|first, second| second.1.total_cmp(&first.1));
    let instructions = runs.values().map(|(_, count)| count).sum::<u64>() / exchanges;
    ExchangeCost { instructions, code_lines: lines.len(), functions }
}

/// Counts the instructions of one run.
fn count(program: &Path, workload: &str, exchanges: u64) -> Runs {
    let folder = tempfile::tempdir().expect("a folder");
    let profile = folder.path().join("callgrind.out");
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--quiet", "--dump-instr=yes", "--compress-pos=no", "--compress-strings=no"]);
    valgrind.arg("--toggle-collect=instructions::turn").arg(format!("--callgrind-out-file={}", profile.display()));
    let status = valgrind.arg(program).args([workload, &exchanges.to_string()]).status().expect("valgrind starts");
    assert!(status.success(), "valgrind or the program failed");
    parse(&std::fs::read_to_string(&profile).expect("callgrind has written its profile"))
}

/// Reads a profile of callgrind: `0xADDRESS LINE COUNT` for each instruction, below its object (`ob=`) and function
/// (`fn=`). The line after `calls=` is the cost of the called function, which is counted there.
fn parse(profile: &str) -> Runs {
    let (mut object, mut function, mut is_call) = ("", "", false);
    let mut runs = Runs::new();
    for line in profile.lines() {
        if let Some(name) = line.strip_prefix("ob=") {
            object = name;
        } else if let Some(name) = line.strip_prefix("fn=") {
            function = name;
        } else if line.starts_with("calls=") {
            is_call = true;
        } else if let Some(position) = line.strip_prefix("0x")
            && !std::mem::take(&mut is_call)
        {
            let mut numbers = position.split(' ');
            let address = numbers.next().and_then(|address| u64::from_str_radix(address, 16).ok()).expect("an address");
            let count = numbers.next_back().and_then(|count| count.parse::<u64>().ok()).expect("a count");
            runs.entry((object.into(), address)).or_insert_with(|| (function.into(), 0)).1 += count;
        }
    }
    runs
}

impl fmt::Display for ExchangeCost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} instructions, {} lines of code", self.instructions, self.code_lines)?;
        for (name, instructions, lines) in self.functions.iter().filter(|(_, instructions, _)| *instructions >= 1.0) {
            writeln!(f, "{instructions:8.1} {lines:4} {name}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_counted_in_the_called_function_only() {
        let profile =
            "ob=program\nfn=outer\n0x40 7 2\n0x44 8 2\ncfn=inner\ncalls=2 0x80 0\n0x44 8 600\nfn=inner\n0x80 1 300\n";
        let counts: Vec<_> = parse(profile).into_iter().map(|((_, address), run)| (address, run)).collect();
        assert_eq!(counts, [(0x40, ("outer".into(), 2)), (0x44, ("outer".into(), 2)), (0x80, ("inner".into(), 300))]);
    }
}
