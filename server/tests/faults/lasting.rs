//! Trouble that lasts: a pause instead of a spin, two lines of log, and nobody forgotten when it is over.

use std::net::{TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use crate::accepting::{EXHAUSTION, PASSING};
use crate::clients::{GREETING, QUESTION, UDP_GREETING, ask, ask_udp, begin_asking, begin_asking_udp, connect, hear};
use crate::clients::{heard, try_to_say, whatever_comes};
use crate::datagrams::RECEIVE_ERRORS;
use crate::injection::{Injection, injected, is_possible};
use crate::support::{SERVED_WITHIN, Server, throughout};

/// Long enough for several pauses, the last of them more than half a second long.
const LASTS: Duration = Duration::from_millis(1_400);

/// What a spin is told from.
const TRIES_PER_SECOND_MAX: usize = 500;

/// A pause is never longer than a second; the rest is for a busy machine.
const RELIEF_WITHIN: Duration = Duration::from_secs(3);

const CPU_TIME_MAX: Duration = Duration::from_millis(400);

const WAITING_CLIENTS: usize = 5;

/// Runs each errno beside the others, on a server of its own.
fn side_by_side(errnos: &[&'static str], run: fn(&str)) {
    thread::scope(|scope| {
        for errno in errnos {
            let name = thread::current().name().unwrap_or_default().to_owned();
            let thread = thread::Builder::new().name(format!("{name} {errno}"));
            thread.spawn_scoped(scope, || run(errno)).expect("a thread");
        }
    });
}

/// Few tries, little load, a line when it began and one when it was over.
#[track_caller]
fn assert_calm(server: &Server, errno: &str, calls: &[String], lasted: Duration, said: &str, over: &str) {
    let tries = injected(calls).count();
    assert!(tries >= 2, "{errno}: it was tried {tries} times");
    let most = TRIES_PER_SECOND_MAX * usize::try_from(lasted.as_millis()).expect("a short time") / 1000;
    assert!(tries < most, "{errno}: {tries} tries in {lasted:?}");
    assert!(server.cpu_time() < CPU_TIME_MAX, "{errno}: it used {:?} of processor time", server.cpu_time());
    let log = server.log();
    assert_eq!(log.len(), 2, "{errno}: {log:#?}");
    assert!(log[0].contains(said) && log[1].contains(over), "{errno}: {log:#?}");
    let told = log[1].split("after ").nth(1).and_then(|rest| rest.split(' ').next()).map(str::to_owned);
    assert_eq!(told, Some(tries.to_string()), "{errno}: the count that is told: {log:#?}");
}

fn assert_a_lasting_error_of_accept_only_delays(errno: &str) {
    let mut server = Server::start(&["--listen", "127.0.0.1:0"]);
    let descriptors = server.descriptors();
    let earlier = connect(server.tcp());
    assert_eq!(ask(server.tcp()), GREETING);
    let fault = Injection::into(&server, "accept4", errno, "1+");
    let began = Instant::now();
    let waiting: Vec<TcpStream> = (0..WAITING_CLIENTS).map(|_| begin_asking(server.tcp())).collect();
    throughout(LASTS / 2, || assert_eq!(ask_udp(server.udp()), UDP_GREETING, "{errno}"));
    // Whoever was connected before is served meanwhile.
    try_to_say(&earlier, QUESTION);
    let asked = Instant::now();
    assert_eq!(whatever_comes(&earlier), GREETING, "{errno}");
    assert!(asked.elapsed() < SERVED_WITHIN, "{errno}: an open connection waited {:?}", asked.elapsed());
    throughout(LASTS / 2, || assert_eq!(ask_udp(server.udp()), UDP_GREETING, "{errno}"));
    let lasted = began.elapsed();
    let calls = fault.end();
    let over = Instant::now();
    // Nobody knocks anew: they are served because the pause ends.
    for client in &waiting {
        assert_eq!(whatever_comes(client), GREETING, "{errno}");
    }
    assert!(over.elapsed() < RELIEF_WITHIN, "{errno}: they waited {:?} more", over.elapsed());
    crate::support::wait_until("the second line", || server.log().len() >= 2);
    assert_calm(&server, errno, &calls, lasted, "cannot accept, clients wait in the backlog", "accepts again, after");
    assert_eq!(ask(server.tcp()), GREETING, "{errno}");
    crate::support::wait_until("the descriptors to come back", || server.descriptors() == descriptors);
    server.assert_stops();
}

#[test]
fn while_a_resource_is_used_up_the_listener_pauses_and_then_serves_everybody_who_waited() {
    if is_possible() {
        side_by_side(&EXHAUSTION, assert_a_lasting_error_of_accept_only_delays);
    }
}

#[test]
fn any_error_of_accept_that_does_not_end_pauses_the_listener_instead_of_spinning() {
    if is_possible() {
        side_by_side(&PASSING, assert_a_lasting_error_of_accept_only_delays);
    }
}

fn assert_a_lasting_error_of_a_receive_only_delays(errno: &str) {
    let mut server = Server::start(&["--listen", "127.0.0.1:0"]);
    let fault = Injection::into(&server, "recvmmsg", errno, "1+");
    let began = Instant::now();
    let waiting: Vec<UdpSocket> = (0..WAITING_CLIENTS).map(|_| begin_asking_udp(server.udp())).collect();
    throughout(LASTS, || {
        let asked = Instant::now();
        assert_eq!(ask(server.tcp()), GREETING, "{errno}");
        assert!(asked.elapsed() < 4 * SERVED_WITHIN, "{errno}: a TCP client waited {:?}", asked.elapsed());
    });
    assert!(waiting.iter().all(|client| heard(client).is_none()), "{errno}: nothing could be received");
    let lasted = began.elapsed();
    let calls = fault.end();
    let over = Instant::now();
    for client in &waiting {
        assert_eq!(hear(client), UDP_GREETING, "{errno}");
    }
    assert!(over.elapsed() < RELIEF_WITHIN, "{errno}: they waited {:?} more", over.elapsed());
    crate::support::wait_until("the second line", || server.log().len() >= 2);
    assert_calm(&server, errno, &calls, lasted, "cannot receive, datagrams wait", "receives again, after");
    server.assert_stops();
}

#[test]
fn any_error_of_a_receive_that_does_not_end_pauses_the_socket_and_no_datagram_is_forgotten() {
    if is_possible() {
        side_by_side(&RECEIVE_ERRORS, assert_a_lasting_error_of_a_receive_only_delays);
    }
}

/// The system's limit on watched descriptors, say, met by a crowd.
#[test]
fn while_no_client_can_be_watched_the_log_stays_short_and_those_who_have_asked_are_served() {
    if !is_possible() {
        return;
    }
    let mut server = Server::start(&["--listen", "127.0.0.1:0"]);
    let descriptors = server.descriptors();
    let fault = Injection::into(&server, "epoll_ctl", "ENOSPC", "1+");
    let began = Instant::now();
    for _ in 0..50 {
        assert_eq!(whatever_comes(&connect(server.tcp())), "");
    }
    server.freeze();
    let asking: Vec<TcpStream> = (0..WAITING_CLIENTS).map(|_| begin_asking(server.tcp())).collect();
    server.thaw();
    for client in &asking {
        assert_eq!(whatever_comes(client), GREETING);
    }
    assert_eq!(ask_udp(server.udp()), UDP_GREETING);
    assert_eq!(injected(&fault.end()).count(), 50);
    let seconds = usize::try_from(began.elapsed().as_secs()).expect("a short time") + 1;
    let log = server.log();
    assert!(!log.is_empty() && log.len() <= seconds, "{} lines in {seconds} s, such as {:?}", log.len(), log.last());
    crate::support::wait_until("the descriptors to come back", || server.descriptors() == descriptors);
    assert_eq!(ask(server.tcp()), GREETING);
    server.assert_stops();
}
