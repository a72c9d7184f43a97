//! A test in a process of its own, and its resident memory.

use std::fs::File;
use std::io::Read;
use std::process::Command;

use support::process::child::test_name_of;

/// Set in the process that is measured.
const ALONE: &str = "HALLOO_TEST_ALONE";

/// Runs a test's body in a process of its own, with one allocator arena: glibc keeps more memory with several.
///
/// `body` must be a closure of the test itself: its type name contains the test's name.
pub(crate) fn in_own_process<F: FnOnce()>(body: F) {
    if std::env::var_os(ALONE).is_some() {
        return body();
    }
    let name = test_name_of(&body);
    let own = std::env::current_exe().expect("a running test has a path");
    let mut run = Command::new(own);
    run.args([name, "--exact", "--nocapture"]).env(ALONE, "1").env("MALLOC_ARENA_MAX", "1");
    let run = run.output().expect("the child runs");
    let output = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{output}{}", String::from_utf8_lossy(&run.stderr));
    assert!(output.contains("1 passed"), "no test has the name {name}: {output}");
}

/// Returns the resident memory of the process. It allocates nothing: a block at the end of the heap would keep the
/// allocator from returning the memory before it.
pub(crate) fn resident_kib() -> u64 {
    let mut room = [0; 256];
    let count = File::open("/proc/self/statm").and_then(|mut file| file.read(&mut room)).expect("there is a /proc");
    let statm = std::str::from_utf8(&room[..count]).expect("numbers");
    let pages: u64 =
        statm.split(' ').nth(1).and_then(|field| field.parse().ok()).expect("resident is the second field");
    pages * 4
}
