//! A short run of every built-in server on every workload.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// Runs the benchmark, and returns what it prints.
fn run(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_comparison")).args(arguments).output().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn every_builtin_server_answers_every_workload() {
    let folder = tempfile::tempdir().expect("a folder for the chart");
    let chart = folder.path().join("chart.svg");
    let servers = "floor,plain,library,tokio,mio";
    let arguments = ["--servers", servers, "--parts", "cost", "--rounds", "1", "--seconds", "0.02", "--markdown"];
    let stdout = run(&[&arguments[..], &["--svg", chart.to_str().expect("a plain path")]].concat());
    let tables: Vec<&str> = stdout.split("**").collect();
    let servers = ["floor: the fastest loop", "halloo, the library", "tokio, one thread"];
    let small_servers = [&servers[..], &["epoll, a plain loop", "mio as in its examples"]].concat();
    for (exchange, workloads, servers) in [("an exchange", 6, &small_servers[..]), ("a bulk exchange", 5, &servers)] {
        let title = format!("The server's processor time for {exchange}, as a ratio to the floor");
        let costs = tables.iter().skip_while(|part| **part != title).nth(1).expect("a table with this title");
        for server in servers {
            let row = costs.lines().find(|line| line.starts_with(&format!("| {server} |")));
            let row = row.unwrap_or_else(|| panic!("{server} has no row in\n{costs}"));
            assert_eq!(row.matches(" ns, ").count(), workloads, "a workload has no figure: {row}");
        }
    }
    let ratios = tables.iter().skip_while(|part| **part != "The same as a ratio to the plain loop").nth(1);
    let row = "| epoll, a plain loop | 1.00 | 1.00 | 1.00 | 1.00 | 1.00 | 1.00 |";
    assert!(ratios.is_some_and(|table| table.contains(row)), "{stdout}");
    let svg = std::fs::read_to_string(chart).expect("the chart is there");
    assert!(svg.starts_with("<svg ") && svg.contains(">udp-single</text>") && svg.contains(">fan-out</text>"), "{svg}");
}

#[test]
fn every_runtime_runs_every_task() {
    let stdout = run(&[
        "--servers",
        "floor,library,tokio",
        "--parts",
        "tasks",
        "--rounds",
        "1",
        "--seconds",
        "0.02",
        "--markdown",
    ]);
    for runtime in ["floor: the fastest loop", "halloo, the library", "tokio, one thread"] {
        let row = stdout.lines().find(|line| line.starts_with(&format!("| {runtime} |")));
        let row = row.unwrap_or_else(|| panic!("{runtime} has no row in\n{stdout}"));
        assert_eq!(row.matches(" ns (").count(), 4, "a task has no figure: {row}");
    }
}

#[test]
fn the_growth_of_the_floor_and_the_library_is_measured_for_every_size() {
    let stdout =
        run(&["--servers", "floor,library", "--parts", "growth", "--rounds", "1", "--seconds", "0.02", "--markdown"]);
    for server in ["floor: the fastest loop", "halloo, the library"] {
        let rows: Vec<&str> = stdout.lines().filter(|line| line.starts_with(&format!("| {server} |"))).collect();
        let figures: Vec<usize> = rows.iter().map(|row| row.matches("+0..+0 %").count()).collect();
        assert_eq!(figures, [2, 2, 2, 4, 2], "a table has no figure:\n{stdout}");
    }
}

#[test]
#[ignore = "builds the program for release"]
fn workers_are_measured_if_there_are_cores_and_else_one_line_tells_the_reason() {
    let [figures, reason] = ["2", "100000"].map(|cores_min| {
        let arguments = ["--servers", "binary", "--parts", "workers", "--rounds", "1", "--seconds", "0.02"];
        run(&[&arguments[..], &["--cores-min", cores_min]].concat())
    });
    for workload in ["once", "lines", "lines-deep"] {
        let row = figures.lines().find(|line| line.trim_start().starts_with(&format!("{workload} ")));
        assert!(row.is_some_and(|row| row.contains("(1.00, ")), "{workload} has no figure:\n{figures}");
    }
    assert!(reason.contains("Not measured: workers and clients need 100000 cores") && !reason.contains("1.00"));
}

#[test]
#[ignore = "needs valgrind"]
fn instructions_and_code_lines_are_counted_for_every_workload() {
    let stdout = run(&["--servers", "floor,library", "--parts", "instructions", "--markdown"]);
    for server in ["floor: the fastest loop", "halloo, the library"] {
        let rows: Vec<&str> = stdout.lines().filter(|line| line.starts_with(&format!("| {server} |"))).collect();
        let figures = |row: &str| -> Vec<f64> {
            row.split(" | ").filter_map(|cell| cell.trim_end_matches(" |").replace(',', "").parse().ok()).collect()
        };
        assert_eq!(rows.len(), 4, "a group has no table:\n{stdout}");
        for (group, workloads) in rows.chunks(2).zip([6, 5]) {
            let [instructions, lines] = [0, 1].map(|row| figures(group[row]));
            assert!(instructions.len() == workloads && lines.len() == workloads, "a workload has no figure:\n{stdout}");
            let is_plausible = |(instructions, lines): (&f64, &f64)| *lines > 0.0 && instructions > lines;
            assert!(instructions.iter().zip(&lines).all(is_plausible), "{stdout}");
        }
    }
}

/// A server of the benchmark, ended when it is dropped.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_comparison"));
        let mut child = command.arg("serve").args(arguments).stdout(Stdio::piped()).spawn().expect("it starts");
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        stdout.read_line(&mut line).expect("its first line");
        let address = line.trim().strip_prefix("READY ").expect("an address").to_owned();
        Self { child, address }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_echo_and_a_proxy_lose_nothing_of_a_client_that_reads_late() {
    let bytes: Vec<u8> = (0..64 << 20).map(|at: usize| (at % 251).to_le_bytes()[0]).collect();
    for name in ["floor", "library", "tokio"] {
        let echo = Server::start(&[name, "echo"]);
        let proxy = Server::start(&[name, "proxy", &echo.address]);
        let mut client = TcpStream::connect(&proxy.address).expect("the proxy listens");
        client.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
        client.set_write_timeout(Some(Duration::from_millis(100))).expect("a socket");
        // Until all buffers are full.
        let mut sent = 0;
        while let Ok(count @ 1..) = client.write(&bytes[sent..]) {
            sent += count;
        }
        assert!(sent < bytes.len(), "{name}: there is no backpressure");
        let mut received = Vec::with_capacity(bytes.len());
        thread::scope(|scope| {
            let mut writer = client.try_clone().expect("a second descriptor");
            let rest = &bytes[sent..];
            scope.spawn(move || {
                writer.set_write_timeout(None).expect("a socket");
                writer.write_all(rest).expect("the proxy reads");
                writer.shutdown(Shutdown::Write).expect("the proxy is connected");
            });
            client.read_to_end(&mut received).unwrap_or_else(|error| panic!("{name}: {error}"));
        });
        assert!(received == bytes, "{name}: {} bytes came back, or wrong ones", received.len());
    }
}

#[test]
fn the_floor_loses_no_response_to_a_client_that_reads_late() {
    let server = Server::start(&["floor", "lines"]);
    let mut client = TcpStream::connect(&server.address).expect("it listens");
    client.set_write_timeout(Some(Duration::from_millis(300))).expect("a socket");
    client.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
    // Without a reader, the buffers fill: then neither side can go on.
    let (line, response) = (b"Hello, TCP Server!\n", b"Hello, TCP Client!\n");
    let (requests, mut sent) = (line.repeat(10_000), 0_usize);
    let error = loop {
        match client.write(&requests[sent % requests.len()..]) {
            Ok(count) => sent += count,
            Err(error) => break error,
        }
        assert!(sent < 1 << 28, "the server reads on without a limit");
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    let mut responses = vec![0; sent / line.len() * response.len()];
    client.read_exact(&mut responses).expect("every response");
    assert!(responses.chunks(response.len()).all(|one| one == response), "a wrong response");
}

#[test]
fn bad_input_is_an_error_of_one_line_with_status_2() {
    let output = Command::new(env!("CARGO_BIN_EXE_comparison")).arg("--seconds=never").output().expect("it starts");
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}
