//! The rows of faults as data, and the one way to run them against streams.

use std::time::Duration;

use crate::clients::{GREETING, UDP_GREETING, ask, ask_udp, begin_asking, connect, try_to_say, whatever_comes};
use crate::clients::{QUESTION, best_of};
use crate::injection::{Injection, injected};
use crate::support::{SERVED_WITHIN, Server, wait_until};

/// What a client sees of a call of its own that fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// Nothing at all.
    Served,
    /// The end of its connection.
    Ended,
}

/// One call, the errors it may meet, and what follows from them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) call: &'static str,
    pub(crate) errnos: &'static [&'static str],
    pub(crate) outcome: Outcome,
}

/// How a row's clients behave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Manner {
    /// They ask as soon as they are connected.
    AskAtOnce,
    /// They say nothing until the fault has been met.
    SilentFirst,
    /// They have asked before the server looks, so that it never has to wait for them.
    AskBefore,
    /// The same with more than a question, so that the server reads on after its greeting.
    TalkMuch,
}

/// Once, several times in a row, and every third time.
pub(crate) const ONCE_THRICE_AND_EVERY_THIRD: [&str; 3] = ["1", "1..3", "1+3"];

/// Enough that every pattern above leaves some of them alone.
const CLIENTS: usize = 6;

/// More than the rows need, and far less than a spin uses.
const CPU_TIME_MAX: Duration = Duration::from_millis(400);

/// A start and an end of trouble.
const LOG_LINES_MAX: usize = 2;

/// What a server has and has used before a fault.
pub(crate) struct Before {
    descriptors: usize,
    cpu_time: Duration,
    log_lines: usize,
}

impl Before {
    pub(crate) fn of(server: &Server) -> Self {
        Self { descriptors: server.descriptors(), cpu_time: server.cpu_time(), log_lines: server.log().len() }
    }

    /// Others are served at once, and nothing is lost. `withheld` are descriptors that the fault itself kept from being
    /// closed.
    #[track_caller]
    pub(crate) fn assert_unharmed(&self, server: &mut Server, fault: &str, withheld: usize) {
        assert!(server.is_running(), "{fault}: it ended: {}", server.errors.text());
        assert_serves(server, fault);
        self.assert_nothing_lost(server, fault, withheld);
    }

    /// The descriptors are back, the load has stayed low and the log short.
    #[track_caller]
    pub(crate) fn assert_nothing_lost(&self, server: &mut Server, fault: &str, withheld: usize) {
        assert!(server.is_running(), "{fault}: it ended: {}", server.errors.text());
        let expected = self.descriptors + withheld;
        wait_until(&format!("{fault}: the descriptors to come back"), || server.descriptors() == expected);
        let used = server.cpu_time().saturating_sub(self.cpu_time);
        assert!(used < CPU_TIME_MAX, "{fault}: it used {used:?} of processor time");
        let log = &server.log()[self.log_lines..];
        assert!(log.len() <= LOG_LINES_MAX, "{fault}: {} lines of log:\n{}", log.len(), log.join("\n"));
    }
}

/// Whoever comes now is served, over whatever is served, and soon.
#[track_caller]
pub(crate) fn assert_serves(server: &Server, fault: &str) {
    let ready = server.output.lines().swap_remove(0);
    if ready.contains("tcp=") {
        let said = || server.errors.text();
        let took = best_of(3, || assert_eq!(ask(server.tcp()), GREETING, "{fault}: another client; {}", said()));
        assert!(took < SERVED_WITHIN, "{fault}: another client was served after {took:?}");
    }
    if ready.contains("udp=") {
        let took = best_of(3, || assert_eq!(ask_udp(server.udp()), UDP_GREETING, "{fault}: another datagram"));
        assert!(took < SERVED_WITHIN, "{fault}: another datagram was answered after {took:?}");
    }
}

/// Has a server meet every error of some rows, in every pattern, from clients of that manner.
#[track_caller]
pub(crate) fn assert_rows(server: &mut Server, rows: &[Row], manner: Manner, patterns: &[&str]) {
    let mut run = 0;
    for row in rows {
        for errno in row.errnos {
            for when in patterns {
                assert_row(server, row, errno, manner, when);
                run += 1;
            }
        }
    }
    assert!(run > 0, "there is something to run");
}

#[track_caller]
fn assert_row(server: &mut Server, row: &Row, errno: &str, manner: Manner, when: &str) {
    let before = Before::of(server);
    let fault = Injection::into(server, row.call, errno, when);
    let name = format!("{} {manner:?}", fault.name());
    let heard = visit(server, &fault, manner);
    let calls = fault.end();
    let met = injected(&calls).count();
    assert!(met > 0, "{name}: it was never met:\n{}", calls.join("\n"));
    let (greeted, ended) = (count(&heard, GREETING), count(&heard, ""));
    assert_eq!(greeted + ended, CLIENTS, "{name}: {heard:?}");
    match row.outcome {
        Outcome::Served => assert_eq!(ended, 0, "{name}: {heard:?}"),
        // Each error costs the one client whose call it was, and no client more.
        Outcome::Ended => assert_eq!(ended, met, "{name}: {heard:?}\n{}", calls.join("\n")),
    }
    let withheld = if row.call == "close" { met } else { 0 };
    before.assert_unharmed(server, &name, withheld);
}

fn count(heard: &[String], text: &str) -> usize {
    heard.iter().filter(|one| *one == text).count()
}

/// What each client of a row hears.
#[track_caller]
fn visit(server: &Server, fault: &Injection, manner: Manner) -> Vec<String> {
    match manner {
        Manner::AskAtOnce => (0..CLIENTS).map(|_| whatever_comes(&begin_asking(server.tcp()))).collect(),
        Manner::SilentFirst => {
            let clients: Vec<_> = (0..CLIENTS).map(|_| connect(server.tcp())).collect();
            fault.wait_met(1);
            let hear = |client| {
                try_to_say(client, QUESTION);
                whatever_comes(client)
            };
            clients.iter().map(hear).collect()
        }
        Manner::AskBefore | Manner::TalkMuch => {
            let much = vec![b'x'; 20_000];
            let question = if manner == Manner::TalkMuch { &much } else { QUESTION };
            server.freeze();
            let clients: Vec<_> = (0..CLIENTS).map(|_| connect(server.tcp())).collect();
            for client in &clients {
                try_to_say(client, question);
            }
            server.thaw();
            let heard = clients.iter().map(whatever_comes).collect();
            // What is left to read is their ends.
            drop(clients);
            fault.wait_met(1);
            heard
        }
    }
}
