//! The instructions that the journal costs per exchange while it is off.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The most instructions in user mode per exchange, compared with a build without the journal.
const INSTRUCTIONS_MAX: u64 = 40;

/// Two counts of exchanges: the difference leaves out the start and the end of the program.
const EXCHANGES: [u64; 2] = [500, 2_500];

/// Builds the program with flags of rustc, in a target folder of its own.
fn build(flags: &str, folder: &str) -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = package.join("../../target").join(folder);
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--locked", "--release", "--package", "instructions", "--target-dir"]).arg(&target);
    let status = cargo.env("RUSTFLAGS", flags).current_dir(package).status().expect("cargo starts");
    assert!(status.success(), "cargo failed");
    target.join("release/instructions")
}

/// The instructions in user mode of one exchange.
fn instructions(program: &Path, workload: &str) -> u64 {
    let folder = tempfile::tempdir().expect("a folder");
    let [few, many] = EXCHANGES.map(|exchanges| {
        let out = folder.path().join("callgrind.out");
        let mut valgrind = Command::new("valgrind");
        valgrind.args(["--tool=callgrind", "--quiet"]).arg(format!("--callgrind-out-file={}", out.display()));
        let status = valgrind.arg(program).args([workload, &exchanges.to_string()]).status().expect("valgrind starts");
        assert!(status.success(), "valgrind or the program failed");
        let profile = std::fs::read_to_string(&out).expect("callgrind has written its profile");
        let total = profile.lines().find_map(|line| line.strip_prefix("summary: "));
        total.and_then(|total| total.trim().parse::<u64>().ok()).expect("the profile has a sum")
    });
    (many - few) / (EXCHANGES[1] - EXCHANGES[0])
}

#[test]
#[ignore = "needs valgrind"]
fn a_journal_that_is_off_costs_at_most_40_instructions_per_exchange() {
    let programs = [build("", "instructions"), build("--cfg without_journal", "instructions-without-journal")];
    let mut costs = Vec::new();
    for workload in ["once", "lines", "udp"] {
        let [with, without] = [0, 1].map(|index: usize| instructions(&programs[index], workload));
        println!("{workload}: {with} instructions, {without} without the journal");
        costs.push((workload, with.saturating_sub(without)));
    }
    assert!(costs.iter().all(|(_, cost)| *cost <= INSTRUCTIONS_MAX), "{costs:?}");
}
