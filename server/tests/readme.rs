//! The console blocks and links of the README and of `docs`.
//!
//! Each command prints what its block shows, and each link leads to a file.

use std::fs;
use std::iter;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::network::ports::unused_port;
use support::process::server::{Server, ServerBinary};

const HALLOO: ServerBinary = ServerBinary::new(env!("CARGO_BIN_EXE_halloo"));

const README: &str = include_str!("../../README.md");
const RUNNING: &str = include_str!("../../docs/running.md");
const FAULTS: &str = include_str!("../../docs/faults.md");
const OPERATING: &str = include_str!("../../docs/operating.md");
const TOUR: &str = include_str!("../../docs/tour/README.md");

/// The folder of the repository, in which the commands run.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The pages whose links are checked. Those of the other pages are links of rustdoc.
const LINKED_PAGES: [&str; 12] = [
    "README.md",
    "SECURITY.md",
    "docs/running.md",
    "docs/flags.md",
    "docs/faults.md",
    "docs/operating.md",
    "examples/deploy/README.md",
    "docs/metrics.md",
    "docs/performance.md",
    "docs/peers.md",
    "docs/life-of-a-byte.md",
    "docs/tour/README.md",
];

/// The port of the server that the documented clients ask, and one that the documented servers use.
const PORT: &str = "8888";
const OTHER_PORT: &str = "9000";

/// The port of its admin endpoint.
const ADMIN_PORT: &str = "9090";

/// The documented ports.
const PORTS: [&str; 3] = [PORT, OTHER_PORT, ADMIN_PORT];

const SERVER: &str = "cargo run --release";
const BUILT_BINARY: &str = "target/release/halloo";

/// The unix socket of the server that the documented clients ask, and the one of a documented server.
const SERVED_SOCKET: &str = "/run/halloo.sock";
const SOCKET: &str = "/tmp/halloo.sock";

/// The files of documented recordings.
const RECORDING: &str = "/tmp/run.json";
const PAGE: &str = "/tmp/run.html";

/// A command of a console block, with the output that the block shows.
struct Example {
    command: String,
    output: Vec<String>,
}

fn examples(page: &str) -> Vec<Example> {
    let blocks = page.split("```console\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
    let mut all: Vec<Example> = Vec::new();
    for line in blocks.flat_map(str::lines) {
        if let Some(command) = line.strip_prefix("$ ") {
            all.push(Example { command: command.to_owned(), output: Vec::new() });
        } else if let (Some(more), Some(last)) = (line.strip_prefix("> "), all.last_mut()) {
            last.command.push('\n');
            last.command.push_str(more);
        } else if let Some(last) = all.last_mut() {
            last.output.push(line.to_owned());
        }
    }
    all
}

/// Programs of other projects in the commands.
const TOOLS: [&str; 3] = ["curl", "nc", "python3"];

impl Example {
    fn needs_a_tool(&self) -> bool {
        self.command.split(['|', ' ', '\n']).any(|word| TOOLS.contains(&word))
    }

    fn needs_ipv6(&self) -> bool {
        self.command.contains("[::")
    }
}

/// What stands for the ports and paths of the pages: a server that is asked, and a free port and path.
struct Substitutes {
    folder: tempfile::TempDir,
    port: String,
    other_port: String,
    admin_port: String,
}

impl Substitutes {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        // A port such as 28888 contains a documented one, which would be replaced in it.
        let mut ports = iter::repeat_with(|| unused_port().to_string());
        let mut next = || ports.find(|port| !PORTS.iter().any(|documented| port.ends_with(documented)));
        let [port, other_port, admin_port] = PORTS.map(|_| next().expect("it is endless"));
        Self { folder, port, other_port, admin_port }
    }

    fn pairs(&self) -> [(&str, String); 7] {
        let path_of = |name: &str| self.folder.path().join(name).to_str().expect("a plain path").to_owned();
        [
            (PORT, self.port.clone()),
            (OTHER_PORT, self.other_port.clone()),
            (ADMIN_PORT, self.admin_port.clone()),
            (SERVED_SOCKET, path_of("served")),
            (SOCKET, path_of("other")),
            (RECORDING, path_of("run.json")),
            (PAGE, path_of("run.html")),
        ]
    }

    fn start_server(&self) -> Server {
        let [_, _, _, (_, socket), ..] = self.pairs();
        let mut command = HALLOO.command(&[]);
        command
            .env("HALLOO_LISTEN", format!("localhost:{}", self.port))
            .env("HALLOO_UNIX", socket)
            .env("HALLOO_ADMIN", format!("127.0.0.1:{}", self.admin_port));
        Server::start(command)
    }

    /// Runs a command in a shell where `halloo` is the binary of this test; log lines left out. A server ends when it is
    /// idle.
    fn run(&self, command: &str) -> Vec<String> {
        let binary = Path::new(HALLOO.path());
        let folder = binary.parent().and_then(Path::to_str).expect("a plain path");
        let path = format!("{folder}:{}", std::env::var("PATH").unwrap_or_default());
        let mut command = command.replace(BUILT_BINARY, "halloo");
        for (documented, substitute) in self.pairs() {
            command = command.replace(documented, &substitute);
        }
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &format!("exec 2>&1\n{command}")])
            .current_dir(ROOT)
            .env("PATH", path)
            .env("HALLOO_EXIT_WHEN_IDLE", "100ms");
        let output = shell.output().expect("a shell is there");
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        // Paths first: one may contain the digits of a port.
        for (documented, substitute) in self.pairs().into_iter().rev() {
            text = text.replace(&substitute, documented);
        }
        text.lines().filter(|line| !line.contains(" INFO ")).map(str::to_owned).collect()
    }
}

/// Replaces what differs from run to run: process ids, times, free ports.
fn normalize(line: &str) -> String {
    let words = line.split(' ').map(|word| {
        let (name, value) = word.rsplit_once('=').unwrap_or(("", word));
        let is_time = value.starts_with(|c: char| c.is_ascii_digit()) && value.ends_with("ms");
        if is_time { format!("{name}=TIME") } else { without_long_numbers(word) }
    });
    words.collect::<Vec<_>>().join(" ")
}

fn without_long_numbers(word: &str) -> String {
    let mut normal = String::new();
    let mut digits = String::new();
    for c in word.chars().chain(['\0']) {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        let is_long = digits.len() >= 4 && !PORTS.contains(&digits.as_str()) || word.starts_with("pid=");
        normal.push_str(if is_long && !digits.is_empty() { "N" } else { &digits });
        digits.clear();
        normal.push(c);
    }
    normal.trim_end_matches('\0').to_owned()
}

#[track_caller]
fn assert_prints(command: &str, printed: &[String], expected: &[String]) {
    let normalized = |lines: &[String]| lines.iter().map(|line| normalize(line)).collect::<Vec<_>>();
    assert_eq!(normalized(printed), normalized(expected), "the output of `{command}`");
}

/// Runs some of the commands of a page, beside the server that its clients ask.
#[track_caller]
fn assert_examples(page: &str, is_chosen: impl Fn(&Example) -> bool, count_min: usize) {
    assert_examples_with(&Substitutes::new(), page, is_chosen, count_min);
}

#[track_caller]
fn assert_examples_with(substitutes: &Substitutes, page: &str, is_chosen: impl Fn(&Example) -> bool, count_min: usize) {
    let _server = substitutes.start_server();
    let examples = examples(page);
    let chosen: Vec<&Example> = examples.iter().filter(|one| one.command != SERVER && is_chosen(one)).collect();
    assert!(chosen.len() >= count_min, "only {} commands were found: the search is broken", chosen.len());
    for Example { command, output } in chosen {
        assert_prints(command, &substitutes.run(command), output);
    }
}

/// The READY line of a server on both addresses of localhost, and that of the README.
fn ready_lines() -> (String, String) {
    let documented = examples(README).into_iter().find(|example| example.command == SERVER);
    let documented = documented.expect("the README starts a server").output.swap_remove(0);
    let substitutes = Substitutes::new();
    let server = substitutes.start_server();
    let printed = server.ready_line().replace(&substitutes.port, PORT);
    let is_extra = |word: &&str| word.contains("unix=") || word.contains("admin=");
    let of_ip = |line: &str| line.split(' ').filter(|word| !is_extra(word)).collect::<Vec<_>>().join(" ");
    (of_ip(&printed), documented)
}

#[test]
fn every_console_block_of_the_readme_prints_what_it_shows() {
    assert_examples(README, |example| !example.needs_a_tool(), 4);
}

#[test]
fn every_console_block_of_the_running_page_prints_what_it_shows() {
    assert_examples(RUNNING, |example| !example.needs_a_tool() && !example.needs_ipv6(), 12);
    assert_examples(FAULTS, |example| !example.needs_a_tool(), 2);
}

#[test]
fn every_console_block_of_the_operating_page_prints_what_it_shows() {
    assert_examples(OPERATING, |example| !example.needs_a_tool(), 1);
}

#[test]
#[ignore = "needs curl, nc and python3"]
fn every_console_block_with_curl_netcat_or_python_prints_what_it_shows() {
    assert_examples(README, Example::needs_a_tool, 1);
    assert_examples(RUNNING, Example::needs_a_tool, 4);
    assert_examples(OPERATING, Example::needs_a_tool, 5);
}

#[test]
#[ignore = "needs nc and python3"]
fn every_console_block_of_the_tour_prints_what_it_shows() {
    let substitutes = Substitutes::new();
    let mut polling = Command::new("python3");
    polling.args(["examples/polling/echo_poll.py", &substitutes.other_port]).current_dir(ROOT);
    polling.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let polling = Server::spawn(polling);
    polling.stdout.wait_for_line("Listening on ");
    assert_examples_with(&substitutes, TOUR, |_| true, 2);
}

#[test]
#[ignore = "needs IPv6"]
fn every_console_block_with_an_ipv6_address_prints_what_it_shows() {
    assert_examples(RUNNING, Example::needs_ipv6, 1);
}

#[test]
fn the_server_of_the_readme_listens_on_the_ipv4_addresses_that_it_shows() {
    let of_ipv4 = |line: &str| line.split(' ').filter(|word| !word.contains("[::1]")).collect::<Vec<_>>().join(" ");
    let (printed, documented) = ready_lines();
    assert_prints(SERVER, &[of_ipv4(&printed)], &[of_ipv4(&documented)]);
}

#[test]
#[ignore = "needs IPv6"]
fn the_server_of_the_readme_listens_on_all_addresses_that_it_shows() {
    let (printed, documented) = ready_lines();
    assert_prints(SERVER, &[printed], &[documented]);
}

/// The anchors of a page: its headings in lower case, without punctuation, with hyphens for spaces.
fn anchors(page: &str) -> Vec<String> {
    let headings = page.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let is_kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
    headings
        .map(|heading| heading.to_lowercase().chars().filter(is_kept).collect::<String>().replace(' ', "-"))
        .collect()
}

#[test]
fn every_link_to_a_section_names_a_heading_of_the_page() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut checked = 0;
    for name in LINKED_PAGES {
        let page = root.join(name);
        let text = fs::read_to_string(&page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for (file, anchor) in
            targets.filter_map(|target| target.split_once('#')).filter(|(file, _)| !file.contains(':'))
        {
            let target = if file.is_empty() { page.clone() } else { page.parent().expect("a folder").join(file) };
            let linked = fs::read_to_string(&target).unwrap_or_else(|error| panic!("{name}: {file}: {error}"));
            assert!(
                anchors(&linked).iter().any(|one| one == anchor),
                "{name} links to {file}#{anchor}, which has no heading"
            );
            checked += 1;
        }
    }
    assert!(checked > 30, "only {checked} links were found: the search is broken");
}

#[test]
fn every_link_of_a_page_leads_to_a_file() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    for page in LINKED_PAGES {
        let page = root.join(page);
        let text = fs::read_to_string(&page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
        let links = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        // Those of pictures with a dark variant.
        let pictures = ["src=\"", "srcset=\""].into_iter().flat_map(|name| text.split(name).skip(1));
        let pictures = pictures.filter_map(|rest| rest.split('"').next());
        let is_file = |target: &&str| !target.is_empty() && !target.contains("://");
        for target in links.chain(pictures).filter(is_file) {
            let path = page.parent().expect("a page is in a folder").join(target);
            assert!(path.exists(), "{} links to {target}, which does not exist", page.display());
        }
    }
}
