//! The hostile client of each case against the servers of the tour.
//!
//! A twin fails its own case and no other, but for the overlaps that are listed here.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::Stdio;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use support::process::server::Server;
use support::process::tour::{CASES, Run, Verdict, runs, verdicts};

use crate::HALLOO;

/// Pairs of a twin and a case of another mistake that it fails, too.
const OVERLAPS: [(u8, u8, &str); 4] = [
    (3, 5, "a read that leaves input behind stops a long echo"),
    (3, 7, "it does not come to the FIN behind much input, either"),
    (4, 8, "a connection that is never closed does not return its descriptor"),
    (5, 7, "the replies that wait at the FIN are those that a partial write has left"),
];
const OVERLAPS_MAX: usize = 4;

/// Tries at the same time. Two cases need a processor: more would measure the machine.
const THREADS: usize = 6;

/// A row of the table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Row {
    /// The server on mio with the mistake of a case.
    Twin(u8),
    /// The server on mio without a mistake.
    Mio,
    /// The server on halloo's loop.
    Halloo,
}

impl Row {
    fn all() -> impl Iterator<Item = Self> {
        CASES.map(Self::Twin).chain([Self::Mio, Self::Halloo])
    }

    fn name(self) -> String {
        match self {
            Self::Twin(number) => format!("twin {number}"),
            Self::Mio => "mio".to_owned(),
            Self::Halloo => "halloo".to_owned(),
        }
    }

    /// The verdict that is expected.
    fn expected(self, case: u8) -> &'static str {
        let is_overlap = |twin| OVERLAPS.iter().any(|(row, column, _)| (*row, *column) == (twin, case));
        match self {
            Self::Twin(number) if number == case || is_overlap(number) => "fail",
            _ => "pass",
        }
    }

    /// Starts the server, and tries cases on it.
    fn verdicts(self, run: &Run) -> Vec<Verdict> {
        let (number, kind) = match self {
            Self::Twin(number) => (number, "twin"),
            Self::Mio => (run.cases[0], "mio"),
            Self::Halloo => (run.cases[0], "halloo"),
        };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (number, folder) = (number.to_string(), folder.path().display().to_string());
        let arguments = ["tour", &number, "--serve", kind, "--save", &folder];
        let mut command = match run.descriptors_max {
            Some(descriptors) => HALLOO.command_with_fd_limits(descriptors, descriptors, &arguments),
            None => HALLOO.command(&arguments),
        };
        // The server ends with its standard input.
        command.stdin(Stdio::piped());
        let server = Server::start(command);
        verdicts(HALLOO, server.tcp(), &[], &run.cases)
    }
}

/// The verdicts of all rows and cases.
type Table = BTreeMap<(Row, u8), Verdict>;

fn fill_table() -> Table {
    let of_row = |row: Row| runs(move |case| row.expected(case) == "fail").into_iter().map(move |run| (row, run));
    let mut waiting: Vec<(Row, Run)> = Row::all().flat_map(of_row).collect();
    // The longest come first.
    waiting.sort_by_key(|(_, run)| run.cases.len());
    let (waiting, table) = (Mutex::new(waiting), Mutex::new(Table::new()));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().expect("no thread panics with it").pop();
                    let Some((row, run)) = next else { return };
                    let started = Instant::now();
                    let found = row.verdicts(&run);
                    println!("{}, cases {:?}: {:?}", row.name(), run.cases, started.elapsed());
                    let cells = found.into_iter().map(|verdict| ((row, verdict.case), verdict));
                    table.lock().expect("no thread panics with it").extend(cells);
                }
            });
        }
    });
    table.into_inner().expect("no thread panicked with it")
}

/// The table as text, and what is not as expected.
fn describe(table: &Table) -> (String, Vec<String>) {
    let mut text = format!("{:8}", "case");
    for case in CASES {
        let _ = write!(text, "{case:>5}");
    }
    let mut deviations = Vec::new();
    for row in Row::all() {
        let _ = write!(text, "\n{:8}", row.name());
        for case in CASES {
            let verdict = &table[&(row, case)];
            let is_expected = verdict.word == row.expected(case);
            let word = verdict.word.split('-').next().unwrap_or_default();
            let _ = write!(text, "{:>5}", if is_expected { word.to_owned() } else { word.to_uppercase() });
            if !is_expected {
                deviations.push(format!("{} is expected to {}: {verdict}", row.name(), row.expected(case)));
            }
        }
    }
    (text, deviations)
}

#[test]
fn each_twin_fails_its_own_case_and_the_right_servers_pass_all() {
    const { assert!(OVERLAPS.len() <= OVERLAPS_MAX) }
    let started = Instant::now();
    let table = fill_table();
    let (text, deviations) = describe(&table);
    assert!(deviations.is_empty(), "{text}\n\n{}", deviations.join("\n"));
    println!("{text}\nin {:?}", started.elapsed());
}
