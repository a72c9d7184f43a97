//! `slowest_turn` with clients of std.

use super::Client;
use crate::programs::start_example;

/// The time at the start of a text, in milliseconds.
#[track_caller]
fn milliseconds(text: &str) -> f64 {
    let time = text.split(' ').next().unwrap_or_default();
    let units = [("ms", 1.0), ("s", 1000.0)];
    let found = units.iter().find_map(|(unit, factor)| Some(time.strip_suffix(unit)?.parse::<f64>().ok()? * factor));
    found.unwrap_or_else(|| panic!("no time of a slow turn: {text}"))
}

#[test]
fn each_turn_slower_than_all_before_is_printed_with_the_client_that_caused_it() {
    let (mut server, at) = start_example(env!("CARGO_BIN_EXE_slowest_turn"), &["127.0.0.1:0"]);
    let (mut quick, mut slow) = (Client::connect(at), Client::connect(at));
    quick.send("ten\n10\n");
    assert_eq!([quick.read_line(), quick.read_line()], ["not a number\n", "4 primes\n"]);
    for (number, reply) in [(50_000, "5133 primes\n"), (300_000, "25997 primes\n"), (50_000, "5133 primes\n")] {
        slow.send(&format!("{number}\n"));
        assert_eq!(slow.read_line(), reply);
    }
    // A turn is printed before the next.
    quick.send("10\n");
    assert_eq!(quick.read_line(), "4 primes\n");
    server.signal("KILL");
    server.wait_for_signal();
    server.wait_for_eof();

    let text = server.stdout.text();
    let mut turns: Vec<(f64, &str)> = Vec::new();
    for turn in text.split("slowest turn: ").skip(1) {
        turns.push((milliseconds(turn), turn));
    }
    assert!(turns.is_sorted_by(|one, next| one.0 < next.0), "{text}");
    let (in_turn, turn) = turns.last().expect("a slow turn");
    let mut lines = turn.lines();
    let first = lines.next().expect("the time of the turn");
    assert!(first.contains("(events: ") && first.ends_with(", callbacks: 1)"), "{first}");
    let callback = lines.next().expect("its only callback");
    assert!(callback.ends_with(&format!(" on_data of {}", slow.local_addr())), "{callback}");
    let in_callback = milliseconds(callback.trim_start());
    assert!(in_callback > in_turn / 2.0 && in_callback <= *in_turn, "{in_callback} of {in_turn} ms");
}
