//! One case: with the mistake, then without it, and why.
//!
//! Its recordings appear under their names only when they are whole and named.

mod server_process;
mod source_lines;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use halloo::observe::{self, Finding, Recording};

use crate::cli::flags::tour_options::{TourMode, TourOptions, TourServer};
use crate::exit::{ExitError, ExitStatus, cause_and_hint};
use crate::process::inherited_signals;
use crate::record::recording_file::RecordingFile;
use crate::text::escape;
use crate::tour::against;
use crate::tour::case::{Case, Outcome, Verdict};
use crate::tour::client::{PATIENCE, Target};
use crate::tour::guided::server_process::{Ended, SIGNALS, ServerProcess, Workplace};
use crate::tour::guided::source_lines::SourceLines;
use crate::tour::mio_server::server::SLOW_REQUEST;
use crate::tour::screen::Screen;
use crate::tour::served;

/// The two servers of a case, by their names on the command line, with what to call them and what they should do.
const SERVERS: [(&str, &str, Outcome); 2] =
    [("twin", "With the mistake, on mio", Outcome::Fail), ("halloo", "Without it, on halloo's loop", Outcome::Pass)];

/// The same servers.
const KINDS: [TourServer; 2] = [TourServer::Twin, TourServer::Halloo];

/// Runs cases, one after the other.
pub(crate) fn run(
    cases: &[&'static Case],
    options: &TourOptions,
    screen: &mut Screen,
) -> Result<ExitStatus, ExitError> {
    // A check creates a file for a moment.
    inherited_signals::block_signals(&SIGNALS);
    for (case, server) in cases.iter().flat_map(|case| KINDS.map(|server| (case, server))) {
        served::recording_file(case, server, options)?;
    }
    let workplace = Workplace::create(&options.save)?;
    let status = run_in(&workplace, cases, options, screen);
    workplace.clear();
    status
}

fn run_in(
    workplace: &Workplace,
    cases: &[&'static Case],
    options: &TourOptions,
    screen: &mut Screen,
) -> Result<ExitStatus, ExitError> {
    let mut status = ExitStatus::Success;
    for (index, case) in cases.iter().enumerate() {
        if index > 0 && !options.json {
            screen.line("\n");
        }
        let results = run_case(case, workplace, options, screen)?;
        if !screen.is_open() {
            break;
        }
        if results.iter().any(|(result, expected)| result.verdict.outcome != *expected) {
            status = ExitStatus::Mismatch;
        }
    }
    Ok(status)
}

/// What one server did.
struct TourResult {
    server: &'static str,
    verdict: Verdict,
    /// The error that ended it.
    error: Option<String>,
    unfinished: PathBuf,
    recording: Recording,
    findings: Vec<Finding>,
}

/// Runs a case with both servers, and prints all about it.
fn run_case(
    case: &'static Case,
    workplace: &Workplace,
    options: &TourOptions,
    screen: &mut Screen,
) -> Result<Vec<(TourResult, Outcome)>, ExitError> {
    if !options.json {
        let has_other_title = case.name.replace('-', " ") != case.title.replace('-', " ");
        let title = if has_other_title { format!(": {}", case.title) } else { String::new() };
        screen.line(&format!("Case {}, {}{title}\n", case.number, case.name));
        screen.paragraph("", case.mistake);
    }
    let mut results = Vec::new();
    for (server, title, expected) in SERVERS {
        if !options.json {
            screen.line(&format!("\n{title}:"));
        }
        let result = run_server(case, server, workplace)?;
        if !options.json {
            print_result(&result, expected, screen);
        }
        if !screen.is_open() {
            return Ok(results);
        }
        results.push((result, expected));
    }
    let files: Vec<PathBuf> = SERVERS.iter().map(|(server, ..)| file_path(case, server, options)).collect();
    if options.json {
        screen.line(&as_json(case, &results, &files));
    } else {
        print_lines(case, screen);
        print_recordings(&results, &files, options, screen);
    }
    if screen.is_open() {
        workplace.uninterrupted(|| {
            results.iter().zip(&files).try_for_each(|((result, _), file)| finish(result, file, options.html))
        })?;
    }
    Ok(results)
}

/// Runs the hostile client of a case against one of its servers.
fn run_server(case: &'static Case, server: &'static str, workplace: &Workplace) -> Result<TourResult, ExitError> {
    let process = ServerProcess::start(case, server, workplace)?;
    let target = Target {
        tcp: Some(process.address),
        udp: Some(process.address),
        mode: TourMode::Echo,
        slow_request: SLOW_REQUEST.to_vec(),
        patience: PATIENCE,
    };
    let verdict = against::judge(case, &target).verdict;
    let Ended { recording, error } = process.stop();
    let (unfinished, recording) = recording.map_err(|reason| {
        let message = format!("the server {server} of case {} left no recording: {reason}", case.number);
        ExitError::new(ExitStatus::RuntimeError, message)
    })?;
    let findings = observe::findings(&recording);
    Ok(TourResult { server, verdict, error, unfinished, recording, findings })
}

fn print_result(result: &TourResult, expected: Outcome, screen: &mut Screen) {
    let Verdict { outcome, sent, came } = &result.verdict;
    if !sent.is_empty() {
        screen.paragraph("  sent     ", sent);
    }
    screen.paragraph(if *outcome == Outcome::CannotBeJudged { "  why      " } else { "  came     " }, came);
    if let Some(error) = &result.error {
        // The hint is for operators.
        screen.paragraph("  then     ", error.split("; ").next().unwrap_or_default());
    }
    let remark = match (*outcome == expected, expected) {
        (true, Outcome::Fail) => ", as a server with this mistake does",
        (false, Outcome::Fail) if *outcome == Outcome::Pass => ": the mistake did not show on this machine; try again",
        (false, Outcome::Pass) if *outcome == Outcome::Fail => ", but the right server should pass; try again",
        _ => "",
    };
    let verdict = screen.verdict(*outcome);
    screen.line(&format!("  verdict  {verdict}{remark}"));
}

/// The source lines, the reasons, and what to read.
fn print_lines(case: &Case, screen: &mut Screen) {
    let (broken, right) = (SourceLines::broken(case), SourceLines::right(case));
    screen.line(&format!("\nThe broken lines ({}):\n\n{}", broken.file, broken.text()));
    screen.line(&format!("The right lines ({}):\n\n{}", right.file, right.text()));
    let command = format!("halloo tour {} --serve mio", case.number);
    let who = format!("`{command}` runs these lines; halloo's loop does the same in the library, with its own limits.");
    screen.paragraph("", &who);
    screen.line("");
    for sentence in case.explanation {
        screen.paragraph("", sentence);
    }
    screen.line("\nRead:");
    for text in case.reading {
        screen.paragraph("  ", text);
    }
}

fn print_recordings(results: &[(TourResult, Outcome)], files: &[PathBuf], options: &TourOptions, screen: &mut Screen) {
    screen.line("\nRecordings:");
    for ((result, _), file) in results.iter().zip(files) {
        screen.line(&format!("  {}", display(file)));
        if result.findings.is_empty() {
            screen.line("    no findings");
        }
        for (index, finding) in result.findings.iter().enumerate() {
            let is_of_kind = |other: &&Finding| other.kind == finding.kind;
            // The first stands for all of its kind.
            if result.findings[..index].iter().any(|other| is_of_kind(&other)) {
                continue;
            }
            let more = match result.findings.iter().filter(is_of_kind).count() {
                1 => String::new(),
                count => format!(" (and {} more of this kind)", count - 1),
            };
            screen.paragraph("    ", &format!("{}: {}{more}", finding.kind, finding.sentence));
        }
    }
    if options.html {
        screen.line("\nOpen them in a browser.");
        return;
    }
    screen.line("\nTo play them in a browser:");
    for file in files {
        let page = file.with_extension("html");
        screen.line(&format!("  halloo view {} --html {}", shell_word(file), shell_word(&page)));
    }
}

/// Gives a recording its name, or writes its page.
fn finish(result: &TourResult, file: &Path, is_page: bool) -> Result<(), ExitError> {
    let mut unfinished = result.unfinished.clone();
    if is_page {
        unfinished.set_extension("html");
        let title = escape::path(file.file_name().unwrap_or_default().as_encoded_bytes());
        let page = RecordingFile::check(&unfinished, "the page", "--save FOLDER")?;
        page.write_page(&result.recording, &result.findings, &title)?;
    }
    // The file behind a link is replaced, not the link.
    let target = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    fs::rename(&unfinished, target).map_err(|error| {
        let (name, cause) = (display(file), cause_and_hint(&error, "choose another folder with --save FOLDER"));
        ExitError::new(ExitStatus::RuntimeError, format!("cannot write the recording to {name}: {cause}"))
    })
}

fn file_path(case: &Case, server: &str, options: &TourOptions) -> PathBuf {
    let name = served::recording_name(case, server, options.html);
    // The usual folder needs no name.
    if options.save == Path::new(".") { PathBuf::from(name) } else { options.save.join(name) }
}

fn display(path: &Path) -> String {
    escape::path(path.as_os_str().as_encoded_bytes())
}

/// A path as a word of a shell.
fn shell_word(path: &Path) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._/+,@%".contains(byte);
    let is_safe = |path: &OsStr| path.as_encoded_bytes().iter().all(is_plain);
    let text = display(path);
    if is_safe(path.as_os_str()) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// One line of JSON.
fn as_json(case: &Case, results: &[(TourResult, Outcome)], files: &[PathBuf]) -> String {
    let json = |text: &str| escape::json(text.as_bytes());
    let of_server = |((result, _), file): (&(TourResult, Outcome), &PathBuf)| {
        let Verdict { outcome, sent, came } = &result.verdict;
        let findings: Vec<String> = result.findings.iter().map(|finding| json(&finding.to_string())).collect();
        let (verdict, sent, received, findings) = (outcome.as_str(), json(sent), json(came), findings.join(","));
        let (server, recording) = (result.server, escape::json(file.as_os_str().as_encoded_bytes()));
        format!(
            r#""{server}":{{"verdict":"{verdict}","sent":{sent},"came":{received},"recording":{recording},"findings":[{findings}]}}"#
        )
    };
    let (number, name) = (case.number, json(case.name));
    let servers: Vec<String> = results.iter().zip(files).map(of_server).collect();
    let (servers, read) = (servers.join(","), case.reading_as_json());
    format!(r#"{{"case":{number},"name":{name},{servers},"read":{read}}}"#)
}
