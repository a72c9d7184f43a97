//! The instructions and lines of code of an exchange.

use instructions::{build, cost};

/// The most instructions in user mode per exchange that the journal costs while it is off.
const OF_JOURNAL_MAX: u64 = 40;

/// Of each workload: the most instructions of an exchange, and the most lines of code that it runs.
const MAX: [(&str, u64, usize); 3] = [("once", 1_440, 150), ("lines", 910, 90), ("udp", 2_000, 220)];

#[test]
#[ignore = "needs valgrind"]
fn an_exchange_runs_few_instructions_in_few_lines_of_code() {
    let program = build("", "instructions");
    for (workload, instructions_max, code_lines_max) in MAX {
        let cost = cost(&program, workload);
        println!("{workload}: {cost}");
        assert!(cost.instructions <= instructions_max && cost.code_lines <= code_lines_max, "{workload}: {cost}");
    }
}

#[test]
#[ignore = "needs valgrind"]
fn a_journal_that_is_off_costs_at_most_40_instructions_per_exchange() {
    let programs = [build("", "instructions"), build("--cfg without_journal", "instructions-without-journal")];
    for (workload, ..) in MAX {
        let [with, without] = [0, 1].map(|index: usize| cost(&programs[index], workload).instructions);
        println!("{workload}: {with} instructions, {without} without the journal");
        assert!(with.saturating_sub(without) <= OF_JOURNAL_MAX, "{workload}: {with} instead of {without} instructions");
    }
}
