//! `halloo tour`: the list of the cases.

use std::process::Command;

use serde_json::Value;
use support::process::child::run;

use crate::tour::{assert_fits, command_in, files_in};

#[test]
fn the_list_has_every_case_and_what_to_type_next() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = run(command_in(folder.path(), &["tour"]));
    assert_eq!((output.status, output.stderr.as_str()), (0, ""), "{output:?}");
    assert_fits(&output.stdout);
    for (number, name) in ["accept-once", "one-datagram", "read-once", "ignored-eof", "partial-write", "fatal-reset"]
        .into_iter()
        .chain(["half-close", "no-descriptors", "slot-reuse", "starvation", "slow-handler", "udp-source"])
        .enumerate()
    {
        let begin = format!("{:2}  {name}", number + 1);
        assert!(output.stdout.lines().any(|line| line.starts_with(&begin)), "{begin}: {output:?}");
    }
    assert!(output.stdout.contains("halloo tour --against") && output.stdout.contains("halloo tour 1"), "{output:?}");
    assert_eq!(files_in(folder.path()), [""; 0]);
}

#[test]
fn the_list_as_json_is_an_object_for_each_case() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = run(command_in(folder.path(), &["tour", "--json"]));
    let objects: Vec<Value> =
        output.stdout.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    let numbers: Vec<u64> = objects.iter().map(|case| case["case"].as_u64().expect("a number")).collect();
    assert_eq!(numbers, (1..=12).collect::<Vec<u64>>());
    assert!(objects.iter().all(|case| case["name"].is_string() && case["read"].is_array()), "{output:?}");
}

#[test]
fn a_tour_needs_no_repository_and_no_home() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    // A copy by another process: no child of this one inherits the open file.
    let copied = Command::new("cp").arg(crate::HALLOO.path()).arg(folder.path().join("copy")).status();
    assert!(copied.expect("cp is installed").success());
    let mut command = Command::new(folder.path().join("copy"));
    command.args(["tour", "6"]).current_dir(folder.path()).env_clear();
    let output = command.output().expect("the copy runs");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(files_in(folder.path()), ["copy", "tour-06-halloo.json", "tour-06-twin.json"]);
}
