//! The compiler's messages about types that are not handlers.
//!
//! Each wrong program differs in one line from a right one that compiles.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::SystemTime;

const BEFORE: &str = "
use halloo::framing::{self, Format};
use halloo::{Connection, Datagram, DatagramHandler, Error, EventLoop, StreamHandler, datagrams, stream};

struct Datagrams;

impl DatagramHandler for Datagrams {
    fn on_datagram(&mut self, datagram: &mut Datagram<'_>, payload: &[u8]) {}
}

fn takes_all(_: &mut Connection<'_>, input: &[u8]) -> usize { input.len() }
fn returns_nothing(_: &mut Connection<'_>, input: &[u8]) {}

fn main() -> Result<(), Error> {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let mut events = EventLoop::new()?;
";

const AFTER: &str = "
    Ok(())
}
";

/// The compiler next to the cargo of this build, or `rustc` from PATH.
fn rustc() -> Command {
    let beside_cargo = Path::new(env!("CARGO")).with_file_name(format!("rustc{}", std::env::consts::EXE_SUFFIX));
    Command::new(if beside_cargo.exists() { beside_cargo } else { PathBuf::from("rustc") })
}

/// Compiles a program against a library. The error is the compiler's output.
fn compile(library: &Path, program: &str) -> Result<(), String> {
    let out_dir = tempfile::tempdir().expect("a folder");
    let mut compiler = rustc()
        .args(["--edition=2024", "--emit=metadata", "--cap-lints=allow", "--color=never", "--diagnostic-width=1000"])
        .arg(format!("--extern=halloo={}", library.display()))
        .arg(format!("-Ldependency={}", library.parent().expect("a folder").display()))
        .arg("--out-dir")
        .arg(out_dir.path())
        .arg("-")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("rustc can be started");
    compiler.stdin.take().expect("a pipe").write_all(program.as_bytes()).expect("the compiler reads it");
    let output = compiler.wait_with_output().expect("the compiler ends");
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// The library that this test program is linked with, or one of the same source.
///
/// Cargo has just checked the right one. A newer file has other features at most, so its source is the same. A library
/// of another compiler is skipped.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let program = std::env::current_exe().expect("the path of this program");
        let folder = program.parent().expect("a folder");
        let is_library = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("libhalloo-") && name.ends_with(".rlib")
        };
        let entries = fs::read_dir(folder).expect("the folder of this program");
        let mut libraries: Vec<PathBuf> =
            entries.map(|entry| entry.expect("an entry").path()).filter(is_library).collect();
        let modified =
            |path: &PathBuf| path.metadata().and_then(|data| data.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        libraries.sort_by_key(modified);
        let mut errors = Vec::new();
        for library in libraries.into_iter().rev() {
            match compile(&library, &[BEFORE, AFTER].concat()) {
                Ok(()) => return library,
                Err(error) => errors.push(error),
            }
        }
        panic!("no library in {} compiles the test program: {errors:#?}", folder.display());
    })
}

/// Checks that `right` compiles, and that the message for `wrong` contains all of `words`.
#[track_caller]
fn assert_message(words: &[&str], wrong: &str, right: &str) {
    let compile_line = |line| compile(library(), &[BEFORE, line, AFTER].concat());
    assert_eq!(compile_line(right), Ok(()), "{right}");
    let message = compile_line(wrong).expect_err(wrong);
    for word in words {
        assert!(message.contains(word), "no {word:?} for {wrong}:\n{message}");
    }
}

#[test]
fn the_message_for_a_bare_closure_or_function_names_its_wrapper() {
    let of_stream =
        ["is not a stream handler", "wrap a closure or function: `halloo::stream(|connection, input| ...)`"];
    let of_datagrams =
        ["is not a datagram handler", "wrap a closure or function: `halloo::datagrams(|datagram, payload| ...)`"];
    assert_message(&of_stream, "events.listen(address, |_, _| 0)?;", "events.listen(address, stream(|_, _| 0))?;");
    assert_message(&of_stream, "events.listen(address, takes_all)?;", "events.listen(address, stream(takes_all))?;");
    assert_message(&of_stream, "events.attach(|_, _| 0);", "events.attach(stream(|_, _| 0));");
    assert_message(
        &of_stream,
        "events.context().listen(address, |_, _| 0)?;",
        "events.context().listen(address, stream(|_, _| 0))?;",
    );
    assert_message(&of_datagrams, "events.bind(address, |_, _| {})?;", "events.bind(address, datagrams(|_, _| {}))?;");
}

/// The compiler checks the closure's body before the traits. The documentation of `stream` shows its message.
#[test]
fn a_bare_closure_that_uses_its_arguments_needs_their_types_before_the_message_names_its_wrapper() {
    let wrong = "events.listen(address, |connection, input| connection.try_write(input))?;";
    assert_message(
        &["type annotations needed"],
        wrong,
        "events.listen(address, stream(|connection, input| connection.try_write(input)))?;",
    );
    assert_message(
        &["halloo::stream("],
        "events.listen(address, |connection: &mut Connection<'_>, input: &[u8]| connection.try_write(input))?;",
        "events.listen(address, stream(|connection: &mut Connection<'_>, input: &[u8]| connection.try_write(input)))?;",
    );
}

#[test]
fn the_message_for_a_closure_of_another_number_of_arguments_has_the_right_one() {
    let words = ["expected closure that takes 2 arguments"];
    assert_message(&words, "stream(|connection| 0);", "stream(|connection, input| 0);");
    assert_message(&words, "datagrams(|datagram| {});", "datagrams(|datagram, payload| {});");
    assert_message(&words, "framing::lines(100, |line| {});", "framing::lines(100, |connection, line| {});");
}

#[test]
fn the_message_for_a_closure_with_another_result_has_the_right_type() {
    assert_message(
        &["expected `usize`, found `()`", "remove this semicolon to return this value"],
        "stream(|connection, input| { connection.try_write(input); });",
        "stream(|connection, input| { connection.try_write(input) });",
    );
    assert_message(
        &["expected `returns_nothing` to return `usize`, but it returns `()`"],
        "stream(returns_nothing);",
        "stream(takes_all);",
    );
    assert_message(
        &["expected `()`, found `bool`"],
        "datagrams(|datagram, payload| datagram.reply(payload));",
        "datagrams(|datagram, payload| { datagram.reply(payload); });",
    );
    assert_message(
        &["expected `()`, found `Result<(), SendError>`"],
        "framing::lines(100, |connection, line| connection.send(line));",
        "framing::lines(100, |connection, line| { let _ = connection.send(line); });",
    );
}

#[test]
fn the_message_for_a_closure_of_other_arguments_has_the_right_signature() {
    assert_message(
        &["expected closure signature", "Connection<'b>, &'c [u8])"],
        "stream(|_, input: &str| input.len());",
        "stream(|_, input: &[u8]| input.len());",
    );
    assert_message(
        &["expected closure signature", "Datagram<'b>, &'c [u8])"],
        "datagrams(|_, payload: Vec<u8>| {});",
        "datagrams(|_, payload: &[u8]| {});",
    );
    assert_message(
        &["expected closure signature", "Connection<'b>, &'c [u8])"],
        "framing::lines(100, |_, line: &str| {});",
        "framing::lines(100, |_, line: &[u8]| {});",
    );
}

#[test]
fn the_message_for_a_handler_of_another_kind_names_its_method_or_wrapper() {
    assert_message(
        &["`()` is not a stream handler"],
        "events.listen(address, ())?;",
        "events.listen(address, stream(takes_all))?;",
    );
    assert_message(
        &["`Datagrams` is not a stream handler", "pass a datagram handler to `bind` or `attach_datagrams`"],
        "events.listen(address, Datagrams)?;",
        "events.bind(address, Datagrams)?;",
    );
    assert_message(
        &["`StreamFn<", "is not a datagram handler", "pass a stream handler to `listen` or `attach`"],
        "events.bind(address, stream(takes_all))?;",
        "events.attach(stream(takes_all));",
    );
}

#[test]
fn closures_need_no_annotations() {
    let lines = "
    let mut count = 0;
    stream(|connection, input| { count += input.len(); connection.try_write(input) });
    stream(|_, _| panic!());
    stream(|_, input| input.iter().map(|byte| usize::from(*byte)).sum());
    stream(|connection, _| { connection.close(); Default::default() });
    fn served_by(closure: impl FnMut(&mut Connection<'_>, &[u8]) -> usize) -> impl StreamHandler { stream(closure) }
    served_by(|connection, input| connection.try_write(input));
    let boxed: Box<dyn FnMut(&mut Connection<'_>, &[u8]) -> usize> = Box::new(|connection, input| connection.try_write(input));
    events.listen(address, stream(boxed))?;
    datagrams(|datagram, payload| { datagram.reply(payload); });
    framing::lines(100, |connection, line| { let _ = connection.send(line); });
    framing::frames(Format::Delimiter(0), 100, |connection, _| connection.close());
    ";
    assert_message(&["cannot find function `streams`"], "streams(|_, input| input.len());", lines);
}
