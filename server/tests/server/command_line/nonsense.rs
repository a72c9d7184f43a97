//! Invalid command lines, and the error message of each.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use support::process::child::run;
use support::process::server::assert_fails;

use crate::HALLOO;

/// Fails unless each command line exits with status 2 and a message that contains all parts.
#[track_caller]
fn assert_usage_errors(cases: &[(&[&str], &[&str])]) {
    for (arguments, parts) in cases {
        let output = HALLOO.run(arguments);
        println!("{arguments:?}: {}", output.stderr);
        assert_fails(&output, 2, parts);
    }
}

#[test]
fn an_unknown_flag_gets_only_the_nearest_flag_as_a_hint() {
    assert_usage_errors(&[
        (&["--tpc", "9000"], &["unknown flag --tpc; did you mean --tcp?"]),
        (&["--lisen", "9000"], &["--lisen; did you mean --listen?"]),
        (&["--LISTEN=9000"], &["--LISTEN; did you mean --listen?"]),
        (&["--max_connections_per_source", "3"], &["did you mean --max-connections-per-source?"]),
        (&["--idle", "3s"], &["--idle; did you mean --idle-timeout?"]),
        (&["-listen", "9000"], &["unknown flag -listen; did you mean --listen?"]),
        (&["\u{2013}listen", "9000"], &["did you mean --listen? It is written with two hyphens (-)"]),
        (&["serve", "--udp-raet", "3"], &["--udp-raet; did you mean --udp-rate?"]),
        (&["probe", "localhost", "--expct", "x"], &["--expct; did you mean --expect?"]),
        (&["probe", "localhost", "--cuont=3"], &["--cuont; did you mean --count?"]),
        (&["--reset"], &["unknown flag --reset; halloo --help lists all flags"]),
        (&["-x"], &["unknown flag -x; halloo --help lists all flags"]),
        (&["-vx"], &["unknown flag -x in -vx; halloo --help lists all flags"]),
        (&["-q=1"], &["unknown flag -= in -q=1"]),
        (&["-v3"], &["unknown flag -3 in -v3"]),
        (&["--", "--tcp", "--udp"], &["--tcp is not a flag after --"]),
        (&["probe", "--", ":9000", "--tcp"], &["--tcp is not a flag after --; leave out the --"]),
        (&["probe", "--", ":9000", "--timeout"], &["--timeout is not a flag after --; leave out the --"]),
        (&["help", "probe", "--tcp"], &["unexpected argument --tcp", "halloo help takes one command"]),
        (&["help", "--tcp"], &["unexpected argument --tcp", "halloo help takes one command"]),
        (&["--", "--listen", "9000"], &["--listen is not a flag after --; leave out the --"]),
        (&["probe", "localhost", "--reset"], &["unknown flag --reset; halloo probe --help lists all flags"]),
        (&["probe", "localhost", "-v"], &["-v is a flag of halloo serve; halloo probe --help lists those of probe"]),
        (&["--expect", "x"], &["--expect is a flag of halloo probe; halloo --help lists those of serve"]),
        (&["probe", "--listen", "9000"], &["--listen is a flag of halloo serve; halloo probe --help"]),
        (&["probe", "localhost", "--mode", "echo"], &["--mode is a flag of halloo serve; halloo probe --help"]),
    ]);
    for (arguments, part) in [(&["--reset"][..], "mean"), (&["--port", "9000"], "--udp-rate")] {
        let output = HALLOO.run(arguments);
        assert!(!output.stderr.contains(part), "{output:?}");
    }
}

#[test]
fn a_flag_of_other_programs_is_answered_with_the_one_for_it() {
    assert_usage_errors(&[
        (&["--port", "9000"], &["unknown flag --port", "as --listen 9000"]),
        (&["-p", "9000"], &["unknown flag -p", "as --listen 9000"]),
        (&["-p9000"], &["unknown flag -p", "as --listen 9000"]),
        (&["--host", "0.0.0.0"], &["unknown flag --host", "--listen"]),
        (&["--bind", "0.0.0.0:9000"], &["unknown flag --bind", "--listen"]),
        (&["--address=0.0.0.0:9000"], &["unknown flag --address", "--listen"]),
        (&["probe", "--port", "9000", "localhost"], &["unknown flag --port", "halloo probe localhost:9000"]),
    ]);
}

#[test]
fn an_unknown_command_is_answered_with_the_command_or_flag_for_it() {
    assert_usage_errors(&[
        (&["porbe", "localhost"], &["unknown command porbe; did you mean probe?"]),
        (&["server"], &["unknown command server; did you mean serve?"]),
        (&["start"], &["unknown command start", "serve, probe, view, tour, generate", "--listen ADDRESS"]),
        (&["9000"], &["unknown command 9000", "--listen 9000", "halloo probe 9000"]),
        (
            &["localhost", "9000"],
            &["unknown command localhost", "--listen localhost:9000", "halloo probe localhost:9000"],
        ),
        (&["--", "9000"], &["unknown command 9000", "--listen 9000,"]),
        (&["listen", "9000"], &["unknown command listen; did you mean --listen?"]),
        (&["version"], &["unknown command version; did you mean --version?"]),
        (&["::1"], &["unknown command ::1", "--listen ::1", "halloo probe ::1"]),
        (&["unix:/run/a.sock"], &["unknown command", "--unix /run/a.sock", "halloo probe unix:/run/a.sock"]),
        (&["/run/a.sock"], &["unknown command", "--unix /run/a.sock", "halloo probe unix:/run/a.sock"]),
        (&["http://localhost:9000/"], &["unknown command http://localhost:9000/", "--listen ADDRESS"]),
        (&["serve", "9000"], &["unexpected argument 9000", "--listen 9000"]),
        (&["-v", "9000"], &["unexpected argument 9000", "--listen 9000"]),
        (&["-v", "80"], &["unexpected argument 80", "--listen 80"]),
        (&["-v", "probe", "localhost"], &["there is a flag before the command", "write halloo probe"]),
        (&["--tcp", "9000", "serve"], &["there is a flag before the command", "write halloo serve"]),
        (&["probe", "localhost", "9000"], &["unexpected argument 9000; put a colon", "halloo probe localhost:9000"]),
        (
            &["probe", "--tcp", "127.0.0.1", "80"],
            &["as in halloo probe 127.0.0.1:80; a second server is written localhost:80"],
        ),
        (
            &["probe", "--proxy", "192.0.2.7", "localhost"],
            &[
                "unexpected argument 192.0.2.7; write --proxy=192.0.2.7 for the client",
                "or --proxy after the addresses",
            ],
        ),
        (&["probe", "--proxy", "192.0.2.1", "23070"], &["unexpected argument 192.0.2.1; write --proxy=192.0.2.1 for"]),
        (
            &["help", "serve", "probe"],
            &["unexpected argument probe; halloo help takes one command: serve, probe, view, tour, generate"],
        ),
        (&["help", "porbe"], &["unknown command porbe; did you mean probe?"]),
        (&["@halloo"], &["unknown command @halloo", "--unix @halloo", "halloo probe unix:@halloo"]),
        (
            &["--listen", "127.0.0.1", "8888"],
            &["unexpected argument 8888; put a colon before the port", "write --listen 127.0.0.1:8888"],
        ),
        (&["--udp=::1", "9000"], &["unexpected argument 9000; put a colon before the port", "write --udp [::1]:9000"]),
        (&["serve", "localhost", "9000"], &["unexpected argument localhost", "--listen localhost:9000"]),
        (&["--listen", "localhost:1", "9000"], &["unexpected argument 9000; to serve there write --listen 9000"]),
        (&["probe"], &["<ADDRESS>", "halloo probe localhost:8888"]),
        (&["probe", "--tcp"], &["<ADDRESS>", "halloo probe localhost:8888"]),
        (&[""], &["unknown command ''"]),
    ]);
}

#[test]
fn the_next_flag_is_not_taken_as_a_missing_value() {
    assert_usage_errors(&[
        (&["--tcp"], &["a value is required for --tcp", "--tcp 9000"]),
        (&["--tcp", "--udp"], &["a value is required for --tcp, but --udp is a flag", "--tcp 9000"]),
        (&["--tcp", "9000", "--mode"], &["a value is required for --mode", "greet, banner, line, echo, discard"]),
        (&["--mode="], &["a value is required for --mode", "greet, banner, line, echo, discard"]),
        (
            &["--greeting", "--mode", "echo"],
            &["a value is required for --greeting, but --mode is a flag", "--greeting=--mode"],
        ),
        (&["--greeting", "-v"], &["a value is required for --greeting, but -v is a flag", "--greeting=-v"]),
        (&["--idle-timeout", "--udp-rate=3"], &["a value is required for --idle-timeout, but --udp-rate=3 is a flag"]),
        (
            &["probe", "localhost", "--send", "--tcp"],
            &["a value is required for --send, but --tcp is a flag", "--send=--tcp"],
        ),
        (&["probe", "localhost", "--send"], &["a value is required for --send"]),
        (&["probe", "localhost", "--proxy="], &["invalid value '' for --proxy: not an IP address"]),
        (&["probe", "localhost", "--expect", ""], &["invalid value '' for --expect", "leave the flag out"]),
        (&["--memory-max"], &["a value is required for --memory-max; write --memory-max 64MiB"]),
        (&["--unix-mode"], &["a value is required for --unix-mode; write --unix-mode 660"]),
        (&["--unix", ""], &["a value is required for --unix", "--unix /run/halloo.sock"]),
        (&["--user", ""], &["a value is required for --user; write --user halloo, or leave the flag out"]),
        (&["--ready-file", ""], &["a value is required for --ready-file; write --ready-file /run/halloo/ready, or"]),
        (&["--greeting-file", ""], &["write --greeting-file greeting.txt, or leave the flag out"]),
        (&["--record", ""], &["write --record run.json, or leave the flag out"]),
        (&["view", "--findings", ""], &["a value is required for <FILE>; write run.json"]),
        (&["--greeting", ""], &["--greeting", "empty", "leave the flag out"]),
        (&["--listen", ""], &["--listen", "the address is empty"]),
        (&["--verbose=2"], &["--verbose takes no value; leave out =2, or write -vv for two"]),
        (&["--verbose", "2"], &["--verbose takes no value; leave out 2, or write -vv for two"]),
        (&["serve", "-q", "true"], &["-q takes no value; leave out true, or write -qq for two"]),
        (&["probe", "localhost", "--tcp", "true"], &["--tcp takes no value; leave out true"]),
        (&["--quiet=false"], &["--quiet takes no value; leave out =false, or write -qq for two"]),
        (&["probe", "localhost", "--tcp=true"], &["--tcp takes no value", "leave out =true"]),
        (&["--mode", "echo", "--mode", "line"], &["--mode is given twice; leave one of the two out"]),
    ]);
}

#[test]
fn an_invalid_value_is_answered_with_the_valid_ones() {
    assert_usage_errors(&[
        (&["--mode", "wave"], &["invalid value 'wave' for --mode", "greet, banner, line, echo, discard"]),
        (&["--mode", "ehco"], &["invalid value 'ehco' for --mode; did you mean echo?"]),
        (&["--events", "JSON"], &["invalid value 'JSON' for --events; did you mean json?"]),
        (&["--workers", "-1"], &["'-1' for --workers: write a whole number from 1 to 1024"]),
        (&["--tcp", "-1"], &["invalid value '-1' for --tcp", "127.0.0.1:9000"]),
        (&["--unix", "-s"], &["invalid value '-s' for --unix", "./-s"]),
        (&["--unix-mode", "-1"], &["invalid value '-1' for --unix-mode", "in octal, such as 660"]),
        (&["--mode", "-x"], &["invalid value '-x' for --mode; known values are"]),
        (&["--events", "-x"], &["invalid value '-x' for --events; known values are"]),
        (&["--workers", "-x"], &["'-x' for --workers: write a whole number from 1 to 1024"]),
        (&["--workers", "1.5"], &["'1.5' for --workers: write a whole number from 1 to 1024"]),
        (&["--memory-max", "64"], &["'64' for --memory-max", "KiB, MiB or GiB, such as 64MiB"]),
        (&["--memory-max", "64M"], &["'64M' for --memory-max", "KiB, MiB or GiB, such as 64MiB"]),
        (&["--memory-max", "1.5GiB"], &["'1.5GiB' for --memory-max", "KiB, MiB or GiB, such as 64MiB"]),
        (&["--memory-max", "99999999999999999999GiB"], &["for --memory-max: more than this machine can"]),
        (&["--memory-max", "-1MiB"], &["'-1MiB' for --memory-max", "KiB, MiB or GiB, such as 64MiB"]),
        (&["--memory-max", "1023KiB"], &["'1023KiB' for --memory-max: too small; write at least 1MiB for each worker"]),
        (&["--max-connections", "1k"], &["'1k' for --max-connections: write a whole number from 1 up"]),
        (&["--max-connections", "0"], &["'0' for --max-connections: write a whole number from 1 up"]),
        (&["--max-greetings", "99999999999999999999999"], &["for --max-greetings: too large", "write at most"]),
        (&["--udp-rate", "5000000000"], &["for --udp-rate: write a whole number from 0 to 4294967295"]),
        (&["--drain-delay", "1m30"], &["the unit is missing; write 1m30s"]),
        (&["--idle-timeout", "5"], &["'5' for --idle-timeout: the unit is missing; write 5s or 5ms"]),
        (&["--idle-timeout", "soon"], &["'soon' for --idle-timeout: not a time; write 500ms, 10s, 2m or 0"]),
        (&["--greeting", "Hello, {name}!"], &["for --greeting: the placeholder {name} is unknown", "{hostname}"]),
        (&["--tcp-greeting", "Hello, {peer!"], &["for --tcp-greeting: there is a { without its }", "{{"]),
        (&["--max-connections-per-source", "4294967296"], &["write a whole number from"]),
        (&["--workers", "1025"], &["write a whole number from 1 to 1024"]),
        (&["--drain-timeout", "-1s"], &["'-1s' for --drain-timeout: not a time"]),
        (
            &["--drain-timeout", "5 parsec"],
            &["for --drain-timeout: parsec is not a unit of time; write 500ms, 10s, 2m or 0"],
        ),
        (&["--drain-timeout", "1000d"], &["for --drain-timeout: out of range, at most 366d"]),
        (&["--drain-timeout", "1M"], &["M is not a unit of time; write 500ms", "units are ms, s, m, h and d"]),
        (&["--idle-timeout", "1month"], &["month is not a unit of time", "units are ms, s, m, h and d"]),
        (&["--idle-timeout", "5S"], &["S is not a unit of time", "units are ms, s, m, h and d"]),
        (&["--idle-timeout", "none"], &["'none' for --idle-timeout: not a time; write 500ms, 10s, 2m or 0"]),
        (&["--exit-when-idle", "soon"], &["'soon' for --exit-when-idle: not a time; write 500ms, 10s or 2m"]),
        (&["--exit-when-idle", "0"], &["'0' for --exit-when-idle: must be more than zero", "leave the flag out"]),
        (&["probe", "localhost", "--timeout", "0"], &["'0' for --timeout: must be more than zero"]),
        (&["probe", "localhost", "--count", "x"], &["'x' for --count: write a whole number from 0 up"]),
        (&["probe", "localhost", "--count", "-1"], &["'-1' for --count: write a whole number from 0 up"]),
        (&["probe", "localhost", "--interval", "5"], &["'5' for --interval: the unit is missing; write 5s or 5ms"]),
        (&["probe", "localhost", "--wait", "0"], &["'0' for --wait: must be more than zero", "leave the flag out"]),
        (&["probe", "localhost", "--wait-gone", "soon"], &["'soon' for --wait-gone: not a time; write 500ms"]),
        (&["probe", "localhost", "--retries", "101"], &["'101' for --retries: write a whole number from 0 to 100"]),
        (&["probe", "localhost", "--proxy=me"], &["'me' for --proxy: not an IP address; write 192.0.2.7"]),
        (&["probe", "localhost", "--proxy=fe80::1%lo"], &["'fe80::1%lo' for --proxy: not an IP address"]),
    ]);
}

#[test]
fn an_invalid_address_is_answered_with_the_valid_form() {
    assert_usage_errors(&[
        (&["--listen", "9000-9003"], &["port ranges are not supported", "--listen", "comma"]),
        (&["probe", "9000-9003"], &["port ranges are not supported; name one port, as in localhost:9000"]),
        (&["probe", "[::1]:9000-9003"], &["port ranges are not supported; name one port"]),
        (&["probe", "none"], &["none is not an address; write 9000,", "[::1]:9000 or name:9000"]),
        (&["--listen", "localhost:9000-9003"], &["port ranges are not supported"]),
        (&["--listen", "127.0.0.1/8"], &["127.0.0.1/8 is neither an IP address nor a host name", "127.0.0.1:9000"]),
        (&["--listen", "localhost,"], &["for --listen: the address is empty", "comma"]),
        (&["--listen", "127.0.0.1:9000:tcp"], &["too many colons"]),
        (&["--listen", "localhost:99999"], &["99999 is not a port; write 0, for any free port, to 65535"]),
        (&["--tcp", "[::1"], &["the closing ] is missing", "[::1]:9000"]),
        (&["--listen", "::1:9000"], &["ambiguous address; write [::1]:9000"]),
        (&["--listen", "http://localhost:9000/"], &["leave out http://"]),
        (&["probe", "a:1,b:2"], &["'a:1,b:2' for <ADDRESS>: separate targets by spaces, as in halloo probe a:1 b:2"]),
        (&["probe", "localhost:0"], &["no server has port 0"]),
        (&["probe", "99999"], &["99999 is not a port; write 1 to 65535"]),
        (
            &["probe", "localhost 9000"],
            &["the address contains a space; put a colon before a port, as in localhost:9000"],
        ),
        (&["--listen", "localhost:http"], &["http is not a port number"]),
        (&["--listen", "localhost 9000"], &["the address contains a space; put a colon before a port"]),
        (&["--tcp", "unix:/run/a.sock"], &["serve a path with --unix /run/a.sock"]),
        (&["--tcp", "/run/a.sock"], &["serve a path with --unix /run/a.sock"]),
        (&["probe", "/run/a.sock"], &["write unix:/run/a.sock"]),
        (&["probe", "./a.sock"], &["write unix:./a.sock"]),
        (&["probe", "unix=/run/a.sock"], &["write unix:/run/a.sock"]),
        (&["probe", "tcp=127.0.0.1:9000"], &["leave out tcp=: write 127.0.0.1:9000"]),
        (&["--udp", "udp=[::1]:9000"], &["leave out udp=: write [::1]:9000"]),
        (&["--listen", "9000 9001"], &["the address contains a space", "a comma between addresses"]),
        (&["--unix", "@"], &["the name is missing after @; write one, such as @halloo"]),
        (&["--listen", "*:9000"], &["for every address of this machine write 0.0.0.0 or [::]"]),
        (&["probe", "*:9000"], &["name one, as in localhost:9000"]),
        (&["probe", "http://localhost:9000/"], &["leave out http://"]),
        (&["probe", "unix:"], &["the path is missing"]),
        (&["--listen", "unix:///run/a.sock"], &["serve a path with --unix /run/a.sock"]),
        (&["--listen", "@a"], &["serve a path with --unix @a"]),
        (&["--unix", "9000"], &["for --unix", "an address, not a path; write --tcp 9000, or ./9000"]),
        (&["--unix", "localhost:9000"], &["an address, not a path; write --tcp localhost:9000"]),
        (&["--unix", "unix:/run/a.sock"], &["leave out unix: and write /run/a.sock"]),
        (&["--unix", "unix=/run/a.sock"], &["leave out unix= and write /run/a.sock"]),
        (&["--unix", "@"], &["for --unix", "the name is missing after @"]),
        (&["--unix-mode", "rw-rw-rw-"], &["for --unix-mode", "in octal, such as 660"]),
        (&["--unix-mode", "888"], &["for --unix-mode", "in octal, such as 660"]),
        (&["--unix-mode", "1777"], &["for --unix-mode", "at most 777"]),
        (&["probe", ""], &["the address is empty"]),
    ]);
}

#[test]
fn a_long_value_is_truncated_but_the_reason_and_the_hint_are_not() {
    let text = |word: &str| word.repeat(20_000 / word.len() + 1);
    for (arguments, parts) in [
        (vec!["--greeting".to_owned(), text("x")], &["--greeting", "at most 16384 bytes", "shorten it"][..]),
        (vec![format!("--listen={}", text("x"))], &["--listen", "neither an IP", "name:9000"]),
        (
            vec![format!("--listen={}", text("x y "))],
            &["--listen", "the address contains a space", "a comma between addresses"],
        ),
        (vec![format!("--listen=a:{}", text("x"))], &["--listen", "not a port number", "name:9000"]),
        (vec![format!("--listen={}://a", text("x"))], &["--listen", "leave out", "name:9000"]),
        (vec![format!("--listen=::1:{}", text("9"))], &["--listen", "too many colons", "name:9000"]),
        (vec![format!("--listen=1:2:3:4:5:6:7:8%{}", text("9"))], &["--listen", "too many colons", "name:9000"]),
        (vec![format!("--greeting={{{}}}", text("x"))], &["--greeting", "is unknown", "{hostname}"]),
        (vec![format!("--greeting=\\u{{{}}}", text("f"))], &["--greeting", "is not a character", "escapes are"]),
        (vec![format!("--mode={}", text("x"))], &["--mode", "greet, banner, line, echo, discard"]),
        (vec![format!("--workers={}", text("9"))], &["--workers", "whole number from 1 to 1024"]),
        (vec![format!("--idle-timeout={}", text("9"))], &["--idle-timeout", "write 500ms, 10s, 2m or 0"]),
        (vec![format!("--idle-timeout=1{}", text("x"))], &["--idle-timeout", "write 500ms, 10s, 2m or 0"]),
        (vec![format!("--{}", text("x"))], &["unknown flag", "halloo --help"]),
        (vec![text("x")], &["unknown command", "serve, probe, view, tour, generate"]),
        (vec!["serve".to_owned(), text("x")], &["unexpected argument", "halloo --help"]),
        (
            vec!["--mode=echo".to_owned(), format!("--greeting={}", text("x").split_at(9_000).0)],
            &["--greeting", "leave one"],
        ),
        (vec!["--tcp".to_owned(), format!("--mode={}", text("x"))], &["--tcp", "is a flag", "--tcp 9000"]),
    ] {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let output = HALLOO.run(&arguments);
        println!("{}", output.stderr);
        assert_fails(&output, 2, parts);
        assert!(output.stderr.len() < 500, "{}", output.stderr);
    }
}

#[test]
fn an_argument_that_is_not_utf_8_is_printed_escaped_with_its_flag() {
    for (argument, parts) in [
        (&b"--listen=\xff:1"[..], &["--listen", r"\xff:1", "not valid UTF-8"][..]),
        (b"--tcp=\xff:1", &["--tcp", r"\xff:1", "not valid UTF-8"]),
        (b"\xfe", &[r"\xfe", "not valid UTF-8"]),
        (b"--gr\xffeting=a", &["unknown flag", "did you mean --greeting?"]),
        (b"--\xff", &["the argument is not valid UTF-8", r"--\xff"]),
    ] {
        let mut command = HALLOO.command(&[]);
        command.arg(OsStr::from_bytes(argument));
        assert_fails(&run(command), 2, parts);
    }
    let mut command = HALLOO.command(&["probe"]);
    command.arg(OsStr::from_bytes(b"\xff:1"));
    assert_fails(&run(command), 2, &["for <ADDRESS>: not valid UTF-8", "name:9000"]);
    let mut command = HALLOO.command(&["--listen"]);
    command.arg(OsStr::from_bytes(b"\xff:1"));
    assert_fails(&run(command), 2, &["--listen", r"\xff:1", "not valid UTF-8"]);
}

#[test]
fn an_invalid_variable_is_named_with_the_valid_values() {
    for (variable, value, arguments, parts) in [
        ("HALLOO_MODE", &b"wave"[..], &[][..], &["invalid value 'wave' of HALLOO_MODE", "greet, banner"][..]),
        ("HALLOO_MODE", b"echo", &["--mode=wave"], &["invalid value 'wave' for --mode"]),
        ("HALLOO_MODE", b"ehco", &[], &["of HALLOO_MODE; did you mean echo?"]),
        ("HALLOO_MODE", b"\xff", &[], &["HALLOO_MODE", r"\xff", "not valid UTF-8"]),
        ("HALLOO_LISTEN", b"\xff:1", &[], &["HALLOO_LISTEN", r"\xff:1", "not valid UTF-8"]),
        ("HALLOO_LISTEN", b"\"9000\"", &[], &["of HALLOO_LISTEN: leave out the quotes"]),
        ("HALLOO_WORKERS", b"'4'", &[], &["of HALLOO_WORKERS: leave out the quotes"]),
        ("HALLOO_GREETING", b"{x}", &[], &["of HALLOO_GREETING", "{x} is unknown"]),
        ("HALLOO_WORKERS", b"many", &["serve"], &["'many' of HALLOO_WORKERS: write a whole number from 1 to 1024"]),
        ("HALLOO_UDP", b"false", &[], &["'false' of HALLOO_UDP: false is not an address"]),
        ("HALLOO_UDP", b"none", &[], &["none is not an address", "or unset HALLOO_UDP"]),
        ("HALLOO_EXIT_WHEN_IDLE", b"0", &[], &["must be more than zero", "or unset HALLOO_EXIT_WHEN_IDLE"]),
        ("HALLOO_UNIX", b",", &[], &["a value is required of HALLOO_UNIX", "or unset HALLOO_UNIX"]),
        ("HALLOO_PROBE_TIMEOUT", b"0", &["probe", "1"], &["of HALLOO_PROBE_TIMEOUT", "or unset HALLOO_PROBE_TIMEOUT"]),
        ("HALLOO_LISTEN", b"9000-9003", &[], &["of HALLOO_LISTEN: port ranges are not supported; separate addresses"]),
        ("HALLOO_VERBOSE", b"300", &[], &["'300' of HALLOO_VERBOSE: not a number up to 255"]),
        ("HALLOO_VERBOSE", b"loud", &[], &["'loud' of HALLOO_VERBOSE", "true or false"]),
        ("HALLOO_PROBE_TCP", b"maybe", &["probe", "1"], &["'maybe' of HALLOO_PROBE_TCP", "true or false"]),
        ("HALLOO_PROBE_COUNT", b"x", &["probe", "1"], &["'x' of HALLOO_PROBE_COUNT", "from 0 up"]),
        ("HALLOO_PROBE_WAIT", b"0", &["probe", "1"], &["'0' of HALLOO_PROBE_WAIT", "or unset HALLOO_PROBE_WAIT"]),
        ("HALLOO_PROBE_PROXY", b"me", &["probe", "1"], &["'me' of HALLOO_PROBE_PROXY: not an IP address"]),
        ("HALLOO_PROBE_SEND", b"\xff", &["probe", "1"], &["HALLOO_PROBE_SEND", r"\xff", "not valid UTF-8"]),
    ] {
        let mut command = HALLOO.command(arguments);
        command.env(variable, OsStr::from_bytes(value));
        assert_fails(&run(command), 2, parts);
    }
}

#[test]
fn a_path_need_not_be_utf_8_and_another_variable_that_is_not_is_named() {
    let mut command = HALLOO.command(&[]);
    command.env("HALLOO_UNIX", OsStr::from_bytes(b"/nope/\xff")).env("HALLOO_GREETING", OsStr::from_bytes(b"\xff"));
    assert_fails(&run(command), 2, &["the value of HALLOO_GREETING is not valid UTF-8"]);
}

#[test]
fn a_question_too_long_for_a_datagram_names_its_flag_or_variable() {
    let long = "x".repeat(70_000);
    assert_fails(
        &HALLOO.run(&["probe", "1", "--send", &long]),
        2,
        &["--send is too long: it has 70000 bytes", "use --tcp only"],
    );
    let mut command = HALLOO.command(&["probe", "1"]);
    command.env("HALLOO_PROBE_SEND", long);
    assert_fails(&run(command), 2, &["HALLOO_PROBE_SEND is too long: it has 70000 bytes", "use --tcp only"]);
}
