//! Verdicts of `halloo tour --against`, from its JSON lines.

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::process::child::Process;
use crate::process::server::ServerBinary;

/// The numbers of the cases.
pub const CASES: RangeInclusive<u8> = 1..=12;

/// The case in which a server may have few descriptors. A limit in other cases would change them, too.
const CASE_WITHOUT_DESCRIPTORS: u8 = 8;
const FEW_DESCRIPTORS: u64 = 64;

/// All twelve cases against a server that fails many of them take about this long, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The exit status of a tour without a fail, and of one with a fail.
const STATUSES: [i32; 2] = [0, 5];

/// What a hostile client found.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The number of the case.
    pub case: u8,
    /// `pass`, `fail` or `cannot-be-judged`.
    pub word: String,
    /// What the hostile client sent.
    pub sent: String,
    /// What came, or why there is no judgement.
    pub came: String,
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { case, word, sent, came } = self;
        write!(formatter, "case {case}: {word}; sent: {sent}; came: {came}")
    }
}

/// Cases that one process of a server is tried with.
#[derive(Clone, Debug)]
pub struct Run {
    /// The cases, in order.
    pub cases: Vec<u8>,
    /// The limit on the file descriptors of the server, if it is not that of the test.
    pub descriptors_max: Option<u64>,
}

/// Case 12 leaves datagrams in the queue of a server that fails this case.
const ONE_DATAGRAM: u8 = 2;

/// All cases. One that is expected to fail may damage the server: it is the last one of its process.
pub fn runs(is_expected_to_fail: impl Fn(u8) -> bool) -> Vec<Run> {
    let (alone, mut shared): (Vec<u8>, Vec<u8>) =
        CASES.partition(|case| *case == CASE_WITHOUT_DESCRIPTORS || is_expected_to_fail(*case));
    let (limited, mut failing): (Vec<u8>, Vec<u8>) =
        alone.into_iter().partition(|case| *case == CASE_WITHOUT_DESCRIPTORS);
    if !failing.contains(&ONE_DATAGRAM) {
        shared.extend(failing.pop());
    }
    let run = |cases, descriptors_max| Run { cases, descriptors_max };
    let alone = failing.into_iter().map(|case| run(vec![case], None));
    let limited = limited.into_iter().map(|case| run(vec![case], Some(FEW_DESCRIPTORS)));
    [run(shared, None)].into_iter().chain(alone).chain(limited).collect()
}

/// Tries cases on the server at an address.
///
/// # Panics
///
/// If the program prints anything but verdicts, or its exit status does not agree with them.
#[track_caller]
pub fn verdicts(halloo: ServerBinary, address: SocketAddr, arguments: &[&str], cases: &[u8]) -> Vec<Verdict> {
    let address = address.to_string();
    let numbers: Vec<String> = cases.iter().map(u8::to_string).collect();
    let mut words = vec!["tour", "--json", "--against", &address];
    words.extend(arguments);
    words.extend(numbers.iter().map(String::as_str));
    let mut process = Process::spawn(halloo.command(&words));
    let status = process.wait_within(TIMEOUT);
    process.wait_for_eof();
    let (stdout, stderr) = (process.stdout.text(), process.stderr.text());
    assert!(STATUSES.contains(&status), "{words:?}: exit status {status}: {stdout}{stderr}");
    let found: Vec<Verdict> = stdout.lines().map(parse).collect();
    let has = |word: &str| found.iter().any(|verdict| verdict.word == word);
    let is_wrong = has("fail") || !has("pass") || stdout.contains("\"not judged: ");
    assert_eq!(status, STATUSES[usize::from(is_wrong)], "{words:?}: {stdout}{stderr}");
    assert!(found.iter().map(|verdict| verdict.case).eq(cases.iter().copied()), "{words:?}: {stdout}{stderr}");
    found
}

#[track_caller]
fn parse(line: &str) -> Verdict {
    let after = |name: &str| {
        let start = format!("\"{name}\":");
        line.split_once(&start).unwrap_or_else(|| panic!("no {name}: {line}")).1
    };
    // Each text is followed by another field. Escapes stay.
    let text = |name: &str| {
        let rest = after(name).strip_prefix('"').and_then(|rest| rest.split_once("\",\""));
        rest.unwrap_or_else(|| panic!("{name} is no text: {line}")).0.to_owned()
    };
    let case = after("case").split(',').next().and_then(|number| number.parse().ok());
    Verdict {
        case: case.unwrap_or_else(|| panic!("no number: {line}")),
        word: text("verdict"),
        sent: text("sent"),
        came: text("came"),
    }
}
