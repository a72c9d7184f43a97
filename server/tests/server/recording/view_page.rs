//! `halloo view --html` and `--record run.html`: the page, and its file.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Stdio;
use std::time::Duration;

use halloo::observe::Detail;
use support::network::streams::GREETING;
use support::network::tcp::request;
use support::process::child::{ProcessOutput, run};
use support::process::server::assert_fails;
use support::wait::wait_until;

use crate::HALLOO;
use crate::recording::recording_reader::RecordingPath;
use crate::recording::view_findings::recording;

/// A path beside the recording, as an argument.
fn beside(path: &RecordingPath, name: &str) -> String {
    path.path().with_file_name(name).to_str().expect("a plain path").to_owned()
}

/// A recording in a file, with one finding.
fn saved() -> RecordingPath {
    let path = RecordingPath::new();
    recording(Duration::from_secs(2)).save(path.path()).expect("a new file");
    path
}

fn view(path: &RecordingPath, arguments: &[&str]) -> ProcessOutput {
    HALLOO.run(&[&["view", &path.text()], arguments].concat())
}

/// The title of a page has no folders.
fn name_of(path: &RecordingPath) -> String {
    path.path().file_name().expect("a file").to_str().expect("UTF-8").to_owned()
}

#[track_caller]
fn assert_is_page(text: &str, title: &str) {
    assert!(text.starts_with("<!doctype html>") && text.trim_end().ends_with("</html>"), "{} bytes", text.len());
    assert!(text.contains(&format!("\"title\":\"{title}\"")), "its title is not {title}");
}

fn read(page: &str) -> String {
    fs::read_to_string(page).expect("a page")
}

#[test]
fn a_page_is_written_and_the_exit_status_counts_findings_only_with_their_flag() {
    let path = saved();
    let page = beside(&path, "out.html");
    let summary = format!("page written to {page}: findings=1 entries=5 lost=0 loops=1\n");
    let output = view(&path, &["--html", &page]);
    assert_eq!((output.status, &output.stdout, output.stderr.as_str()), (0, &summary, ""));
    assert_is_page(&read(&page), &name_of(&path));
    let both = view(&path, &["--html", &page, "--findings"]);
    assert_eq!((both.status, both.stdout.lines().count()), (5, 2), "{both:?}");
    assert!(both.stdout.contains("slow-callback: ") && both.stdout.ends_with(&summary), "{both:?}");
    let mut with_variable = HALLOO.command(&["view", &path.text()]);
    with_variable.env("HALLOO_VIEW_HTML", &page);
    assert_eq!(run(with_variable).stdout, summary);
    let mut names = path.files();
    names.sort();
    assert_eq!(names, ["out.html", "run.json"]);
}

#[test]
fn a_page_for_standard_output_is_all_that_is_printed() {
    let path = saved();
    let output = view(&path, &["--html", "-"]);
    assert_eq!((output.status, output.stderr.as_str()), (0, ""));
    assert_is_page(&output.stdout, &name_of(&path));
    let mut command = HALLOO.command(&["view", "-", "--html", "-"]);
    command.stdin(Stdio::from(fs::File::open(path.path()).expect("a file")));
    assert_is_page(&run(command).stdout, "standard input");
    // The variable of --findings loses against the flag.
    let mut command = HALLOO.command(&["view", &path.text(), "--html", "-"]);
    command.env("HALLOO_VIEW_FINDINGS", "yes");
    let output = run(command);
    assert!(output.stderr.contains("HALLOO_VIEW_FINDINGS=yes has no effect beside --html -"), "{}", output.stderr);
    assert_is_page(&output.stdout, &name_of(&path));
}

#[test]
fn a_page_never_replaces_its_recording() {
    let path = saved();
    let before = read(&path.text());
    let link = beside(&path, "link.html");
    symlink(path.path(), &link).expect("a new link");
    for page in [path.text(), beside(&path, "./run.json"), link] {
        assert_fails(&view(&path, &["--html", &page]), 2, &["the page would replace the recording ", "--html OUT"]);
    }
    let mut command = HALLOO.command(&["view", "-"]);
    command.env("HALLOO_VIEW_HTML", path.text()).stdin(Stdio::from(fs::File::open(path.path()).expect("a file")));
    assert_fails(&run(command), 2, &["would replace the recording ", "another file with HALLOO_VIEW_HTML=OUT"]);
    assert_eq!(read(&path.text()), before);
}

#[test]
fn a_page_that_cannot_be_written_is_exit_status_3_before_the_recording_is_read() {
    let path = RecordingPath::new();
    fs::write(path.path(), "no recording").expect("a new file");
    let pipe = beside(&path, "pipe");
    nix::unistd::mkfifo(pipe.as_str(), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    for (page, part) in [
        ("/nope/run.html".to_owned(), "there is no folder /nope; create it, or choose another file with --html OUT"),
        (beside(&path, ""), "it is a folder; name a file in it with --html OUT"),
        (pipe, "it is a pipe, which blocks without a reader; choose another file with --html OUT"),
        ("/proc/run.html".to_owned(), "cannot write the page to /proc/run.html: "),
    ] {
        assert_fails(&view(&path, &["--html", &page]), 3, &["cannot write the page to ", part]);
    }
}

#[test]
fn a_page_that_fails_leaves_the_one_before() {
    let path = saved();
    let page = beside(&path, "out.html");
    fs::write(&page, "the page before").expect("a new file");
    // A block, of 512 or 1024 bytes: a file system with as much room.
    let limited = ["sh", "-c", "ulimit -f 1; exec \"$0\" \"$@\""];
    let output = run(HALLOO.command_under(&limited, &["view", &path.text(), "--html", &page]));
    assert_fails(&output, 1, &["cannot write the page to ", "file too large; "]);
    assert_eq!((read(&page).as_str(), path.files().len()), ("the page before", 2));
    let full = view(&path, &["--html", "/dev/full"]);
    assert_fails(&full, 1, &["cannot write the page to /dev/full: no space left on device; free space"]);
}

#[test]
fn only_the_owner_reads_a_page_with_payload() {
    let path = RecordingPath::new();
    let mut with_payload = recording(Duration::from_millis(1));
    let part = &mut with_payload.loops[0];
    part.payload = b"secret".to_vec();
    part.details = vec![(3, Detail::Payload { start: 0, len: 6 })];
    with_payload.save(path.path()).expect("a new file");
    let page = beside(&path, "out.html");
    assert_eq!(view(&path, &["--html", &page]).status, 0);
    assert_eq!(fs::metadata(page).expect("a page").permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_server_records_a_page_at_sigusr2_and_at_the_end() {
    for name in ["run.html", "run.HTM"] {
        let path = RecordingPath::new();
        let page = beside(&path, name);
        let mut server = HALLOO.start(&["--listen", "127.0.0.1:0", "--record", &page, "--workers", "2"]);
        assert_eq!(request(server.tcp()), GREETING);
        server.signal("USR2");
        let line = server.stderr.wait_for_line("recording written to ");
        assert!(line.contains(&format!(" written to {page}: entries=")) && line.contains(" lost=0"), "{line}");
        assert_is_page(&read(&page), name);
        fs::remove_file(&page).expect("it was written");
        server.signal("USR2");
        wait_until("the next recording", || server.stderr.count_lines_with("recording again") == 1);
        server.assert_exits_on_sigterm();
        let text = read(&page);
        assert_is_page(&text, name);
        assert!(text.contains("\"worker 1\"") && text.contains("\"worker 2\""), "a worker is missing");
        assert_eq!(path.files(), [name]);
    }
}
