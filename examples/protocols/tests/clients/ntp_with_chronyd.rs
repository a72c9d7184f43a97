//! `udp_time` with chronyd.

use support::process::shell::shell;

use crate::programs::start_example;

#[test]
#[ignore = "needs chronyd"]
fn chronyd_accepts_the_answer_and_measures_an_offset_below_100_ms() {
    let (_server, at) = start_example(env!("CARGO_BIN_EXE_udp_time"), &["127.0.0.1:0"]);
    let server = format!("server {} port {} iburst maxsamples 1", at.ip(), at.port());
    let output = shell(&format!("chronyd -Q -t 30 -f /dev/null '{server}' 'bindcmdaddress /'"));
    let offset = output.split("System clock wrong by ").nth(1).and_then(|rest| rest.split(' ').next());
    let seconds: f64 = offset.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{output}"));
    assert!(seconds.abs() < 0.1, "{output}");
}
