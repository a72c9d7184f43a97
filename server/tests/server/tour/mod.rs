//! `halloo tour`: list, cases, verdicts, servers, table of twins, pages.

mod guided_cases;
mod interrupted_tours;
mod listed_cases;
mod recorded_tour_servers;
mod served_processes;
mod tour_flags;
mod tour_pages;
mod tour_servers;
#[cfg(target_os = "linux")]
mod tour_table;
mod verdicts_on_servers;

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::HALLOO;

/// A command line that runs in a folder, with no home and no colours.
fn command_in(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = HALLOO.command(arguments);
    command.current_dir(folder).env_remove("HOME").env("NO_COLOR", "1");
    command
}

/// The names of all files in a folder, hidden ones included.
fn files_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Fails if a line has more than 80 columns, or an escape code.
#[track_caller]
fn assert_fits(text: &str) {
    for line in text.lines() {
        assert!(line.chars().count() <= 80 && !line.contains('\x1b'), "{line:?}");
    }
}
