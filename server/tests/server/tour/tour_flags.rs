//! The command line of `halloo tour`.

use support::process::child::run;
use support::process::server::assert_fails;

use crate::HALLOO;
use crate::tour::{command_in, files_in};

#[test]
fn an_unknown_case_gets_the_nearest_name_or_a_hint() {
    for (name, part) in [
        ("fatal-rest", "there is no case fatal-rest; did you mean fatal-reset?"),
        ("eof", "write a number from 1 to 12, or a name that halloo tour lists"),
        ("13", "write a number from 1 to 12"),
        ("0", "write a number from 1 to 12"),
        ("", "there is no case ''; write a number"),
        ("9000", "a server is tried with halloo tour --against 9000"),
        ("localhost:9000", "a server is tried with halloo tour --against localhost:9000"),
    ] {
        assert_fails(&HALLOO.run(&["tour", "6", name]), 2, &[part]);
    }
}

#[test]
fn a_wrong_flag_or_value_gets_the_right_one() {
    for (arguments, part) in [
        (&["--agianst", "9000"][..], "did you mean --against? halloo tour --help lists all flags"),
        (&["--port", "9000"], "write the address as --against 9000"),
        (&["--listen", "9000"], "--listen is a flag of halloo serve; halloo tour --help lists those of tour"),
        (&["--against", "0"], "no server has port 0"),
        (&["--against", "unix:/run/a.sock"], "the tour uses TCP and UDP, no unix socket"),
        (&["--against", "/run/a.sock"], "the tour uses TCP and UDP, no unix socket"),
        (&["--mode", "lin"], "did you mean line? Known values are echo, line, greet"),
        (&["--slow", "a\nb"], "the text has several lines; write one"),
        (&["--slow", r"a\nb"], "the text has several lines; write one"),
        (&["--slow", r"a\xff"], "the line is not valid UTF-8; leave out"),
        (&["--slow", r"a\q"], r"\q is not an escape"),
        (&["--slow", ""], "the line is empty; write one"),
        (&["--save", "-x", "6"], "the path begins like a flag; write ./-x"),
        (&["--serve", "twin"], "--serve runs the server of one case; name it, as in halloo tour 6 --serve twin"),
        (&["--serve", "twin", "1", "2"], "--serve runs the server of one case"),
        (&["--serve", "twin", "1", "--against", "9000"], "--against 9000 contradicts --serve twin"),
    ] {
        let arguments: Vec<&str> = ["tour"].iter().chain(arguments).copied().collect();
        assert_fails(&HALLOO.run(&arguments), 2, &[part]);
    }
}

#[test]
fn a_setting_without_effect_is_a_warning() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let list = &["tour", "--mode", "line", "--slow", "x", "--html", "--save", "missing"];
    let output = run(command_in(folder.path(), list));
    assert_eq!(output.status, 0, "{output:?}");
    for part in [
        "--mode has no effect: no other server is tried; add --against ADDRESS",
        "--slow has no effect: no other server is tried",
        "--html has no effect: nothing is recorded; name a case, as in halloo tour 6",
        "--save has no effect: nothing is recorded",
    ] {
        assert!(output.stderr.contains(part), "{part}: {output:?}");
    }
    let output = run(command_in(folder.path(), &["tour", "6", "--serve", "mio", "--json"]));
    assert!(output.stderr.contains("--json has no effect: with --serve, the server prints only READY"), "{output:?}");
}

#[test]
fn variables_of_the_tour_are_not_those_of_its_servers() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = command_in(folder.path(), &["tour", "6"]);
    command.env("HALLOO_TOUR_JSON", "yes").env("HALLOO_TOUR_MODE", "line").env("HALLOO_TOUR_HTML", "yes");
    let output = run(command);
    assert_eq!((output.status, output.stdout.lines().count()), (0, 1), "{output:?}");
    let warning = "halloo: HALLOO_TOUR_MODE has no effect: no other server is tried; add --against ADDRESS\n";
    assert_eq!(output.stderr, warning);
    assert_eq!(files_in(folder.path()), ["tour-06-halloo.html", "tour-06-twin.html"]);
}
