//! The cases of the tour against servers of other projects.
//!
//! The verdicts are those of `docs/tour/verdicts.md`, which were checked by hand.

use std::any::Any;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use support::network::network_namespace::in_network_namespace;
use support::network::ports::wait_for_listener;
use support::process::child::{Process, run};
use support::process::examples::example;
use support::process::server::Server;
use support::process::tour::{runs, verdicts};

use crate::HALLOO;
use crate::engine::{Engine, unused_address};

/// The page with the verdicts.
const PAGE: &str = include_str!("../../../docs/tour/verdicts.md");

/// A server under test, which ends when it is dropped, and its address.
type Started = (Box<dyn Any>, SocketAddr);

/// The verdicts of a server in the table of the page.
#[track_caller]
fn documented(server: &str) -> Vec<String> {
    let start = format!("| {server} |");
    let row = PAGE.lines().find_map(|line| line.strip_prefix(&start));
    let row = row.unwrap_or_else(|| panic!("docs/tour/verdicts.md has no row of {server}"));
    let words = row.split('|').map(str::trim).filter(|word| !word.is_empty());
    words.map(|word| if word == "-" { "cannot-be-judged" } else { word }.to_owned()).collect()
}

/// Fails unless the server gets the verdicts of its row. It is started with a limit on its descriptors.
#[track_caller]
fn assert_documented(server: &str, arguments: &[&str], start: impl Fn(Option<u64>) -> Started) {
    let expected = documented(server);
    let mut found = Vec::new();
    for run in runs(|case| expected[usize::from(case) - 1] == "fail") {
        let (_process, address) = start(run.descriptors_max);
        found.extend(verdicts(HALLOO, address, arguments, &run.cases));
    }
    found.sort_by_key(|verdict| verdict.case);
    let words: Vec<&str> = found.iter().map(|verdict| verdict.word.as_str()).collect();
    let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(words, expected, "{server}: found and documented\n{}", texts.join("\n"));
    println!("{server}\n{}", texts.join("\n"));
}

/// The same command with this limit on file descriptors.
fn limited(command: &Command, limit: Option<u64>) -> Command {
    let mut shell = Command::new("sh");
    let script = limit.map_or_else(String::new, |limit| format!("ulimit -n {limit}; "));
    shell.arg("-c").arg(script + "exec \"$0\" \"$@\"").arg(command.get_program()).args(command.get_args());
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    shell
}

/// Starts a server that prints the address that it listens on.
#[track_caller]
fn listening(command: &Command, limit: Option<u64>) -> Started {
    let server = Process::spawn(limited(command, limit));
    let line = server.stdout.wait_for_line("Listening on ");
    let address = line.strip_prefix("Listening on ").and_then(|address| address.parse().ok());
    let address = address.unwrap_or_else(|| panic!("{line}"));
    (Box::new(server), address)
}

/// A program of this folder, on a free port.
fn python(program: &str) -> Command {
    let mut command = Command::new("python3");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engines/foreign");
    command.arg(folder.join(program)).arg(unused_address().port().to_string());
    command
}

#[test]
#[ignore = "needs python3"]
fn an_echo_server_with_asyncio_gets_its_verdicts() {
    assert_documented("Python, asyncio", &[], |limit| listening(&python("asyncio_echo.py"), limit));
}

#[test]
#[ignore = "needs python3"]
fn an_echo_server_that_blocks_gets_its_verdicts() {
    assert_documented("Python, blocking", &[], |limit| listening(&python("blocking_echo.py"), limit));
}

#[test]
#[ignore = "needs python3"]
fn a_right_echo_server_with_selectors_fails_no_case() {
    assert_documented("Python, selectors", &[], |limit| listening(&python("selectors_echo.py"), limit));
    assert!(!documented("Python, selectors").contains(&"fail".to_owned()), "it is right");
}

/// nginx in front of a server that echoes, with these lines in its `stream` block.
#[track_caller]
fn nginx(settings: &str, limit: Option<u64>) -> Started {
    let server = halloo(&["--mode", "echo", "--udp-rate", "100"], None);
    let address = unused_address();
    let stream = format!(
        "stream {{\n    {settings}\n    server {{ listen {address}; proxy_pass {}; }}\n    \
         server {{ listen {address} udp; proxy_pass {}; proxy_responses 1; }}\n}}\n",
        server.tcp(),
        server.udp()
    );
    let limit = limit.map_or_else(String::new, |limit| format!("worker_rlimit_nofile {limit};\n"));
    let engine = Engine::nginx(&(limit + &stream), address);
    (Box::new((engine, server)), address)
}

#[test]
#[ignore = "needs nginx"]
fn nginx_gets_its_verdicts_without_and_with_half_close() {
    assert_documented("nginx, stream", &[], |limit| nginx("", limit));
    assert_documented("nginx, stream, `proxy_half_close on`", &[], |limit| nginx("proxy_half_close on;", limit));
}

/// Builds mio's own example `tcp_server`, of the version in Cargo.lock, with a logger that logs nothing.
#[track_caller]
fn mio_tcp_server() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let host = Command::new("rustc").args(["--print", "host-tuple"]).output().expect("rustc runs").stdout;
    let host = String::from_utf8(host).expect("a word");
    // Without the packages of other systems, which are not there.
    let mut metadata = Command::new(&cargo);
    metadata.args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", host.trim()]);
    let metadata = metadata.current_dir(&root).output().expect("cargo runs");
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).expect("cargo prints JSON");
    let packages = metadata["packages"].as_array().expect("a list");
    let mio = packages.iter().find(|package| package["name"] == "mio").expect("halloo depends on mio");
    let mio = Path::new(mio["manifest_path"].as_str().expect("a path")).parent().expect("a folder");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mio_tcp_server");
    let write = |path: &str, text: &str| {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().expect("it is in a folder")).expect("the folder is writable");
        fs::write(path, text).expect("the folder is writable");
    };
    let package = |name: &str| format!("[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"2021\"\n");
    let dependencies = format!(
        "[workspace]\n[dependencies]\nenv_logger = {{ path = \"env_logger\" }}\n\
         mio = {{ path = {:?}, features = [\"os-poll\", \"net\"] }}\n",
        mio.display().to_string()
    );
    write("Cargo.toml", &(package("mio_tcp_server") + &dependencies));
    write("env_logger/Cargo.toml", &package("env_logger"));
    write("env_logger/src/lib.rs", "pub fn init() {}\n");
    write("src/main.rs", &fs::read_to_string(mio.join("examples/tcp_server.rs")).expect("mio has the example"));
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--offline", "--target-dir", "target"]).current_dir(&folder);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let built = run(command);
    assert_eq!(built.status, 0, "{}", built.stderr);
    folder.join("target/debug/mio_tcp_server")
}

#[test]
#[ignore = "needs a network namespace"]
fn the_example_server_of_mio_gets_its_verdicts() {
    let program = mio_tcp_server();
    // Its port is fixed.
    in_network_namespace(|| {
        assert_documented("mio, tcp_server", &["--mode", "greet"], |limit| {
            let process = Process::spawn(limited(&Command::new(&program), limit));
            let address = SocketAddr::from(([127, 0, 0, 1], 9000));
            wait_for_listener(address.port());
            (Box::new(process), address)
        });
    });
}

/// Starts the server of this project.
#[track_caller]
fn halloo(arguments: &[&str], limit: Option<u64>) -> Server {
    let arguments = [&["--listen", "127.0.0.1:0", "--events", "off"], arguments].concat();
    match limit {
        Some(limit) => Server::start(HALLOO.command_with_fd_limits(limit, limit, &arguments)),
        None => HALLOO.start(&arguments),
    }
}

/// The server of this project gets the verdicts of its row, tried in a mode.
#[track_caller]
fn assert_halloo_documented(name: &str, mode: &str) {
    let arguments: Vec<&str> = name.split(' ').skip(1).collect();
    assert_documented(name, &["--mode", mode], |limit| {
        let server = halloo(&arguments, limit);
        let address = server.tcp();
        (Box::new(server), address)
    });
}

#[test]
fn halloo_and_its_example_get_their_verdicts() {
    // The first use may build it.
    let program = example(HALLOO, "echo");
    // Most of the time is waiting.
    thread::scope(|scope| {
        for (name, mode) in [
            ("halloo --mode echo --udp-rate 100", "echo"),
            // It loops with another such server.
            ("halloo --mode echo", "echo"),
            ("halloo --mode line", "line"),
            ("halloo --mode greet", "greet"),
        ] {
            scope.spawn(move || assert_halloo_documented(name, mode));
        }
        assert_documented("examples/echo.rs", &[], |limit| {
            let mut command = Command::new(&program);
            command.arg("127.0.0.1:0");
            listening(&command, limit)
        });
    });
}
