//! A short run of every built-in server on every workload.

use std::process::Command;

#[test]
fn every_builtin_server_answers_every_workload() {
    let folder = tempfile::tempdir().expect("a folder for the chart");
    let chart = folder.path().join("chart.svg");
    let output = Command::new(env!("CARGO_BIN_EXE_comparison"))
        .args(["--servers", "floor,library,tokio,mio", "--parts", "cost", "--rounds", "1", "--seconds", "0.02"])
        .args(["--markdown", "--svg"])
        .arg(&chart)
        .output()
        .expect("it starts");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stderr}");
    let tables: Vec<&str> = stdout.split("**").collect();
    for (exchange, servers) in [
        (
            "an exchange",
            &["floor: bare epoll", "halloo, the library", "tokio, one thread", "mio as in its examples"][..],
        ),
        ("a bulk exchange", &["floor: bare epoll", "halloo, the library", "tokio, one thread"]),
    ] {
        let title = format!("The server's processor time for {exchange}, as a ratio to the floor");
        let costs = tables.iter().skip_while(|part| **part != title).nth(1).expect("a table with this title");
        for server in servers {
            let row = costs.lines().find(|line| line.starts_with(&format!("| {server} |")));
            let row = row.unwrap_or_else(|| panic!("{server} has no row in\n{costs}"));
            assert_eq!(row.matches(" ns, ").count(), 5, "a workload has no figure: {row}");
        }
    }
    let svg = std::fs::read_to_string(chart).expect("the chart is there");
    assert!(svg.starts_with("<svg ") && svg.contains(">udp-single</text>") && svg.contains(">fan-out</text>"), "{svg}");
}

#[test]
fn every_runtime_runs_every_task() {
    let output = Command::new(env!("CARGO_BIN_EXE_comparison"))
        .args(["--servers", "floor,library,tokio", "--parts", "tasks", "--rounds", "1", "--seconds", "0.02"])
        .arg("--markdown")
        .output()
        .expect("it starts");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stderr}");
    for runtime in ["floor: bare epoll", "halloo, the library", "tokio, one thread"] {
        let row = stdout.lines().find(|line| line.starts_with(&format!("| {runtime} |")));
        let row = row.unwrap_or_else(|| panic!("{runtime} has no row in\n{stdout}"));
        assert_eq!(row.matches(" ns (").count(), 4, "a task has no figure: {row}");
    }
}

#[test]
#[ignore = "needs valgrind"]
fn instructions_and_code_lines_are_counted_for_every_workload() {
    let output = Command::new(env!("CARGO_BIN_EXE_comparison"))
        .args(["--servers", "floor,library", "--parts", "instructions", "--markdown"])
        .output()
        .expect("it starts");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stderr}");
    for server in ["floor: bare epoll", "halloo, the library"] {
        let rows: Vec<&str> = stdout.lines().filter(|line| line.starts_with(&format!("| {server} |"))).collect();
        let figures = |row: &str| -> Vec<f64> {
            row.split(" | ").filter_map(|cell| cell.trim_end_matches(" |").replace(',', "").parse().ok()).collect()
        };
        assert_eq!(rows.len(), 4, "a group has no table:\n{stdout}");
        for group in rows.chunks(2) {
            let [instructions, lines] = [0, 1].map(|row| figures(group[row]));
            assert!(instructions.len() == 5 && lines.len() == 5, "a workload has no figure:\n{stdout}");
            let is_plausible = |(instructions, lines): (&f64, &f64)| *lines > 0.0 && instructions > lines;
            assert!(instructions.iter().zip(&lines).all(is_plausible), "{stdout}");
        }
    }
}

#[test]
fn bad_input_is_an_error_of_one_line_with_status_2() {
    let output = Command::new(env!("CARGO_BIN_EXE_comparison")).arg("--seconds=never").output().expect("it starts");
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}
