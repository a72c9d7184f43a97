//! `--against`: the hostile clients against another server, a verdict for each.
//!
//! A case is tried only while the server serves a calm client.

pub(crate) mod first_contact;

use std::io;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::cli::flags::tour_options::{TourMode, TourOptions};
use crate::exit::{ExitError, ExitStatus, cause_and_hint};
use crate::text::address::Address;
use crate::text::escape;
use crate::tour::case::{Case, Outcome, Verdict};
use crate::tour::client::{PATIENCE, Target};
use crate::tour::screen::{Screen, plain};

/// The most time of one case: a healthy server needs a few seconds. Each wait of a client has a deadline of its own, but a
/// server may drip bytes for ever.
const CASE_TIME_MAX: Duration = Duration::from_secs(20);

/// A process that ends may close its connections this long before its listener.
const END_TIME: Duration = Duration::from_millis(100);

/// What was sent by a client that was not done.
const UNFINISHED: &str = "the requests of the case, not to their end";

/// The case in which an error of one connection ends the server.
const FATAL_RESET: u8 = 6;

/// Between two tries to reach a server that may be starting again.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// Tries cases on a server, and prints a verdict for each as it is found.
pub(crate) fn run(
    address: &Address,
    cases: &[&'static Case],
    options: &TourOptions,
    screen: &mut Screen,
) -> Result<ExitStatus, ExitError> {
    if !options.json {
        for text in expectations(address, cases, options) {
            screen.paragraph("", &text);
        }
    }
    let slow_request = format!("{}\n", options.slow).into_bytes();
    let (target, note) = first_contact::find(address, options.mode, slow_request)?;
    if !options.json {
        let found =
            [("TCP", target.tcp), ("UDP", target.udp)].map(|(name, address)| Some(format!("{name} at {}", address?)));
        screen.paragraph("", &format!("It serves {}.", found.into_iter().flatten().collect::<Vec<_>>().join(" and ")));
        if let Some(note) = &note {
            screen.paragraph("", &format!("Note: {note}. Cases of that protocol cannot be judged."));
        }
        screen.line("");
    }
    let mut counts = [0; 3];
    // How the server was lost, and the command for the rest.
    let mut lost: Option<(String, String)> = None;
    let (mut unfinished, mut has_ended) = (None, false);
    for (index, case) in cases.iter().enumerate() {
        if !options.json {
            screen.print(&format!("{:2} {:15} ", case.number, case.name));
        }
        if lost.is_none() && index > 0 {
            let how = unfinished.take().or_else(|| lost_server(&target, cases[index - 1]));
            lost = how.map(|how| (format!("not judged: {how}"), command_for(&cases[index..], address, options)));
        }
        let verdict = match (&lost, missing_protocol(case, &target, note.as_deref())) {
            (Some((how, command)), _) => {
                Verdict::cannot_be_judged("", format!("{how}; start it again and run {command}"))
            }
            (None, Some(reason)) => Verdict::cannot_be_judged("", reason),
            (None, None) => {
                let Judgement { verdict, aftermath } = judge(case, &target);
                has_ended |= aftermath == Aftermath::ServerEnded;
                unfinished = (aftermath == Aftermath::ClientRuns)
                    .then(|| format!("the client of case {} still runs", case.number));
                verdict
            }
        };
        counts[verdict.outcome as usize] += 1;
        if options.json {
            screen.line(&as_json(case, &verdict));
        } else {
            let is_noted = lost.is_some() || missing_protocol(case, &target, note.as_deref()).is_some();
            print_verdict(case, &verdict, is_noted, screen);
        }
        if !screen.is_open() {
            break;
        }
    }
    let [passed, failed, unjudged] = counts;
    if !options.json {
        screen.line("");
        if let Some((how, command)) = &lost {
            screen.paragraph("Note: ", &format!("{how}. Start it again and run:"));
            screen.line(&format!("  {command}\n"));
        }
        screen.line(&format!("{passed} passed, {failed} failed, {unjudged} cannot be judged"));
    }
    // Without any judgement, a check of a build must not succeed.
    let is_right = failed == 0 && passed > 0 && !has_ended && lost.is_none();
    Ok(if is_right { ExitStatus::Success } else { ExitStatus::Mismatch })
}

/// What the server is expected to do, and how long that takes.
fn expectations(address: &Address, cases: &[&'static Case], options: &TourOptions) -> Vec<String> {
    let mode = match options.mode {
        TourMode::Echo => {
            "sends back all input, over UDP each datagram; after the client's EOF it sends the rest and closes"
        }
        TourMode::Line => {
            "replies to each line with one line, over UDP to each datagram; after the client's EOF it closes"
        }
        TourMode::Greet => {
            "greets each client, at once or after its first bytes, over UDP for each datagram; it may close then"
        }
    };
    let slow = escape::excerpt(&escape::whole(options.slow.as_bytes()));
    let of_cases = [
        (
            &[9, 11][..],
            format!(
                "it replies to the line \"{slow}\" (--slow), sent alone, after 300 ms of work, and serves other clients \
                 meanwhile"
            ),
        ),
        (&[8], "it was started with few descriptors, after ulimit -n 64".to_owned()),
    ];
    let mut texts =
        vec![format!("Expected of the server at {address} (--mode {}): it {mode}.", first_contact::name(options.mode))];
    for (needed_by, what) in of_cases {
        let numbers: Vec<String> =
            cases.iter().filter(|case| needed_by.contains(&case.number)).map(|case| case.number.to_string()).collect();
        if !numbers.is_empty() {
            let word = if numbers.len() == 1 { "case" } else { "cases" };
            texts.push(format!("To be judged in the {word} {}: {what}.", numbers.join(" and ")));
        }
    }
    texts.push(format!("A case takes a few seconds; one that is not done within {CASE_TIME_MAX:?} fails."));
    texts
}

/// The command that tries these cases.
fn command_for(cases: &[&'static Case], address: &Address, options: &TourOptions) -> String {
    let mode = match options.mode {
        TourMode::Echo => String::new(),
        mode => format!(" --mode {}", first_contact::name(mode)),
    };
    let numbers: Vec<String> = cases.iter().map(|case| case.number.to_string()).collect();
    format!("halloo tour --against {address}{mode} {}", numbers.join(" "))
}

/// Why a case cannot be judged, if the server does not serve its protocol.
fn missing_protocol(case: &Case, target: &Target, note: Option<&str>) -> Option<String> {
    let is_served = if case.uses_udp() { target.udp.is_some() } else { target.tcp.is_some() };
    let reason = note.unwrap_or("the server does not serve its protocol");
    (!is_served).then(|| reason.to_owned())
}

/// What the hostile client of a case found.
pub(crate) struct Judgement {
    pub(crate) verdict: Verdict,
    aftermath: Aftermath,
}

/// What is left after a case.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Aftermath {
    /// Nothing.
    Calm,
    /// The server ended, and the case is not to blame.
    ServerEnded,
    /// The client was not done, and still runs.
    ClientRuns,
}

/// Runs the hostile client of a case.
pub(crate) fn judge(case: &'static Case, target: &Target) -> Judgement {
    judge_within(CASE_TIME_MAX, case, target)
}

fn judge_within(time_max: Duration, case: &'static Case, target: &Target) -> Judgement {
    let (sender, receiver) = mpsc::sync_channel(1);
    let its_target = target.clone();
    let client = thread::Builder::new().spawn(move || sender.send((case.attack)(&its_target)));
    let found = match client {
        Ok(_) => receiver.recv_timeout(time_max),
        Err(error) => Ok(Err(error)),
    };
    let mut aftermath = Aftermath::Calm;
    let verdict = match found {
        Ok(Ok(Verdict { outcome, sent, came })) => Verdict { outcome, sent: plain(&sent), came: plain(&came) },
        Ok(Err(error)) if is_of_this_machine(&error) => {
            let reason = cause_and_hint(&error, "try again when less runs on this machine");
            Verdict::cannot_be_judged("", format!("this machine has no room for the clients of the case: {reason}"))
        }
        Ok(Err(_)) if case.number != FATAL_RESET && has_ended(target) => {
            aftermath = Aftermath::ServerEnded;
            Verdict::cannot_be_judged(UNFINISHED, format!("the server ended; see case {FATAL_RESET}"))
        }
        // The case has seen no mistake: a limit on clients or a timeout ends connections, too.
        Ok(Err(error)) if is_end_of_a_client(&error) && exchange(target).is_ok() => {
            let reason = "the server still serves a calm client, so a limit or a timeout of it may be the cause";
            Verdict::cannot_be_judged(UNFINISHED, format!("{}; {reason}", plain(&error.to_string())))
        }
        Ok(Err(error)) => Verdict::fail(UNFINISHED, plain(&error.to_string())),
        Err(mpsc::RecvTimeoutError::Timeout) => {
            aftermath = Aftermath::ClientRuns;
            Verdict::fail(UNFINISHED, format!("not done within {time_max:?}"))
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            Verdict::cannot_be_judged("", "the hostile client ended by an error of its own; please report it")
        }
    };
    Judgement { verdict, aftermath }
}

/// Whether no process listens at the address any more.
fn has_ended(target: &Target) -> bool {
    let deadline = Instant::now() + END_TIME;
    loop {
        if target.is_gone() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(RETRY_INTERVAL);
    }
}

/// Whether an error is that of one client: no reply, EOF or a reset.
fn is_end_of_a_client(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, TimedOut, UnexpectedEof};
    matches!(error.kind(), TimedOut | ConnectionReset | BrokenPipe | UnexpectedEof)
}

/// Whether an error says nothing about the server: the clients had no descriptor, port or memory.
fn is_of_this_machine(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    let of_this_machine =
        [Errno::EMFILE, Errno::ENFILE, Errno::EADDRNOTAVAIL, Errno::ENOBUFS, Errno::ENOMEM, Errno::EAGAIN];
    errno.is_some_and(|errno| of_this_machine.contains(&errno))
}

/// How the server was lost in the last case; `None` if it serves a calm client.
fn lost_server(target: &Target, last: &Case) -> Option<String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let error = exchange(target).err()?;
        if Instant::now() >= deadline {
            let number = last.number;
            return Some(match error.kind() {
                io::ErrorKind::ConnectionRefused => format!("the server is gone after case {number}"),
                _ => format!("the server serves no client after case {number}: {}", plain(&error.to_string())),
            });
        }
        // A supervisor may be starting it again.
        thread::sleep(RETRY_INTERVAL);
    }
}

/// One calm exchange.
fn exchange(target: &Target) -> io::Result<()> {
    if target.tcp.is_some() {
        return target.connect()?.exchange("still there?").map(drop);
    }
    let reply = target.udp.and_then(|address| first_contact::datagram_reply(target, address));
    reply.map(drop).ok_or_else(|| io::Error::other("no reply over UDP"))
}

/// The rest of the line that began with the name of the case; for what is not a pass, also why, unless a note has that.
fn print_verdict(case: &Case, verdict: &Verdict, is_noted: bool, screen: &mut Screen) {
    let word = screen.verdict(verdict.outcome);
    screen.line(&word);
    if verdict.outcome == Outcome::Pass || is_noted {
        return;
    }
    if !verdict.sent.is_empty() {
        screen.paragraph("     sent  ", &verdict.sent);
    }
    let label = if verdict.outcome == Outcome::Fail { "     came  " } else { "     why   " };
    screen.paragraph(label, &verdict.came);
    screen.paragraph("     read  ", &format!("halloo tour {}; {}", case.number, case.reading.join("; ")));
}

/// One line of JSON.
fn as_json(case: &Case, Verdict { outcome, sent, came }: &Verdict) -> String {
    let json = |text: &str| escape::json(text.as_bytes());
    let (number, name, verdict) = (case.number, json(case.name), json(outcome.as_str()));
    let (sent, received, read) = (json(sent), json(came), case.reading_as_json());
    format!(r#"{{"case":{number},"name":{name},"verdict":{verdict},"sent":{sent},"came":{received},"read":{read}}}"#)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;
    use std::sync::Mutex;

    use super::*;
    use crate::tour::cases::CASES;
    use crate::tour::client::tests::start_server;

    /// A case with another client.
    fn case_with(number: usize, attack: fn(&Target) -> io::Result<Verdict>) -> &'static Case {
        Box::leak(Box::new(Case { attack, ..*CASES[number - 1] }))
    }

    #[test]
    fn a_case_without_an_end_fails_and_its_client_still_runs() {
        let drip = |mut stream: std::net::TcpStream| {
            while stream.write_all(b"x").is_ok() {
                thread::sleep(Duration::from_millis(1));
            }
        };
        let target = start_server(TourMode::Echo, drip);
        let case = case_with(7, |target| {
            target.connect()?.receive_to_eof()?;
            Ok(Verdict::pass("", ""))
        });
        let Judgement { verdict, aftermath } = judge_within(Duration::from_millis(100), case, &target);
        assert_eq!((verdict.outcome, aftermath), (Outcome::Fail, Aftermath::ClientRuns), "{verdict:?}");
        assert_eq!((verdict.sent.as_str(), verdict.came.as_str()), (UNFINISHED, "not done within 100ms"));
    }

    /// The server that a case ends.
    static SERVER: Mutex<Option<TcpListener>> = Mutex::new(None);

    #[test]
    fn the_end_of_the_server_is_blamed_only_on_case_6() {
        let attack: fn(&Target) -> io::Result<Verdict> = |_| {
            *SERVER.lock().expect("no thread panics with it") = None;
            Err(io::Error::other("the server reset the connection"))
        };
        for (number, outcome, came, expected) in [
            (3, Outcome::CannotBeJudged, "the server ended; see case 6", Aftermath::ServerEnded),
            (6, Outcome::Fail, "the server reset the connection", Aftermath::Calm),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let target = Target { tcp: listener.local_addr().ok(), ..start_server(TourMode::Echo, drop) };
            *SERVER.lock().expect("no thread panics with it") = Some(listener);
            let Judgement { verdict, aftermath } = judge(case_with(number, attack), &target);
            assert_eq!((verdict.outcome, verdict.came.as_str(), aftermath), (outcome, came, expected), "case {number}");
        }
    }

    #[test]
    fn an_error_while_the_server_runs_is_a_fail() {
        let target = start_server(TourMode::Echo, drop);
        let verdict = judge(case_with(3, |_| Err(io::Error::other("no reply"))), &target).verdict;
        assert_eq!((verdict.outcome, verdict.came.as_str()), (Outcome::Fail, "no reply"));
    }

    #[test]
    fn the_end_of_a_client_is_no_mistake_of_a_server_that_serves_the_next_one() {
        let serving = start_server(TourMode::Line, |mut stream| drop(stream.write_all(b"ok\n")));
        // Its clients are closed without a reply.
        let closing = start_server(TourMode::Line, drop);
        for attack in [
            (|_| Err(io::ErrorKind::TimedOut.into())) as fn(&Target) -> io::Result<Verdict>,
            |_| Err(io::ErrorKind::ConnectionReset.into()),
            |_| Err(io::ErrorKind::UnexpectedEof.into()),
        ] {
            let outcome_at = |target| judge(case_with(3, attack), target).verdict.outcome;
            assert_eq!(outcome_at(&serving), Outcome::CannotBeJudged);
            assert_eq!(outcome_at(&closing), Outcome::Fail);
        }
    }
}
