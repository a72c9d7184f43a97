//! Watched descriptors: edges, removal, errors, panics and drain.
//!
//! A callback is called at most once in a turn, and never after the removal of its watch.

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use halloo::{EventLoop, Interest, Turn, Watch, WatchId, stream};
use support::wait::TIMEOUT;

use crate::helpers::loopback::loopback;
use crate::helpers::nonblocking_client::Client;
use crate::helpers::simple_handlers::echo;
use crate::helpers::turn_until::{turn_until, turn_until_idle, turn_until_stopped};

/// Returns two connected non-blocking sockets.
fn pair() -> (UnixStream, UnixStream) {
    let (source, peer) = UnixStream::pair().expect("two descriptors");
    source.set_nonblocking(true).expect("an option of every socket");
    peer.set_nonblocking(true).expect("an option of every socket");
    (source, peer)
}

/// Reads one byte, and asks for another call for the next byte.
fn read_byte(source: &mut impl Read, received: &RefCell<Vec<u8>>) -> Watch {
    let mut byte = [0];
    match source.read(&mut byte) {
        Ok(count) => {
            received.borrow_mut().extend_from_slice(&byte[..count]);
            Watch::Again
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            Watch::Drained
        }
    }
}

#[test]
fn a_source_is_passed_to_its_callback_and_returned_by_its_removal() {
    let ((source, mut peer), received) = (pair(), RefCell::new(Vec::new()));
    let mut events = EventLoop::new().expect("a loop");
    let watch = events.watch(source, Interest::Read, |_, source, _| read_byte(source, &received)).expect("a watch");
    peer.write_all(b"hello").expect("there is room");
    turn_until(&mut events, "the bytes", |_| *received.borrow() == b"hello");
    turn_until_idle(&mut events);
    peer.write_all(b"rest").expect("there is room");
    let mut source: UnixStream =
        events.remove(watch).expect("it was not removed").into_source().expect("the source is a stream");
    let mut rest = [0; 16];
    assert_eq!(source.read(&mut rest).expect("the loop has not read it"), 4);
    turn_until_idle(&mut events);
    assert_eq!(*received.borrow(), b"hello", "a callback came after the removal");
    assert!(events.remove(watch).is_none() && !events.context().remove(watch), "the watch is removed");

    let watch = events.watch(source, Interest::Read, |_, _, _| Watch::Drained).expect("the source has no watch");
    assert!(
        events.remove(watch).expect("it was not removed").into_source::<u8>().is_none(),
        "the source is of another type"
    );
    let timer = events.every(TIMEOUT, |_| None);
    assert!(
        events.remove(timer).expect("it was not removed").into_source::<UnixStream>().is_none(),
        "a timer has no source"
    );
}

#[test]
fn after_again_the_watch_is_called_in_the_next_turn_and_after_drained_not() {
    let ((source, mut peer), received) = (pair(), RefCell::new(Vec::new()));
    let (calls, drains_at) = (Cell::new(0), Cell::new(usize::MAX));
    let mut events = EventLoop::new().expect("a loop");
    let callback = |_: &mut _, source: &mut UnixStream, event: halloo::WatchEvent| {
        assert!(event.is_readable() && !event.is_writable());
        calls.set(calls.get() + 1);
        let answer = read_byte(source, &received);
        if received.borrow().len() < drains_at.get() { answer } else { Watch::Drained }
    };
    events.watch(source, Interest::Read, callback).expect("a watch");
    turn_until_idle(&mut events);
    peer.write_all(b"abc").expect("there is room");
    turn_until(&mut events, "the first byte", |_| calls.get() == 1);
    for call in 2..=4 {
        assert_eq!(events.next_timeout(), Some(Duration::ZERO), "an outer loop must turn it again");
        assert!(matches!(events.turn(Some(TIMEOUT)), Ok(Turn::Progress)), "the poll does not wait");
        assert_eq!(calls.get(), call, "one call in a turn");
    }
    assert_eq!(*received.borrow(), b"abc");
    assert_eq!(events.next_timeout(), None, "the source is drained");

    // Input left after `Drained` waits for the next edge.
    drains_at.set(4);
    peer.write_all(b"de").expect("there is room");
    turn_until(&mut events, "the fourth byte", |_| received.borrow().len() == 4);
    turn_until_idle(&mut events);
    assert_eq!((calls.get(), received.borrow().len()), (5, 4));
    drains_at.set(usize::MAX);
    peer.write_all(b"f").expect("there is room");
    turn_until(&mut events, "the rest", |_| *received.borrow() == b"abcdef");
}

#[test]
fn a_watch_that_is_never_drained_does_not_starve_a_client() {
    let ((source, mut peer), calls) = (pair(), Cell::new(0_u64));
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), stream(echo)).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    let callback = |_: &mut _, _: &mut _, _| {
        calls.set(calls.get() + 1);
        Watch::Again
    };
    events.watch(source, Interest::Read, callback).expect("a watch");
    peer.write_all(b"x").expect("there is room");
    turn_until(&mut events, "a call", |_| calls.get() > 0);
    assert_eq!(client.request(&mut events, b"hello", 5), b"hello");
    let before = (calls.get(), events.stats().turns);
    assert_eq!(client.request(&mut events, b"again", 5), b"again");
    assert_eq!(calls.get() - before.0, events.stats().turns - before.1, "one call in each turn");
}

#[test]
fn a_watch_for_write_reports_room_and_a_closed_reader() {
    let ((source, mut peer), written, broken) = (pair(), Cell::new(0), Cell::new(false));
    let mut events = EventLoop::new().expect("a loop");
    let callback = |_: &mut _, source: &mut UnixStream, event: halloo::WatchEvent| {
        assert!(event.is_writable() && !event.is_readable());
        match source.write(&[0; 4096]) {
            Ok(count) => {
                written.set(written.get() + count);
                Watch::Again
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Watch::Drained,
            Err(error) => {
                broken.set(error.kind() == ErrorKind::BrokenPipe);
                Watch::Drained
            }
        }
    };
    events.watch(source, Interest::Write, callback).expect("a watch");
    turn_until(&mut events, "the first write", |_| written.get() > 0);
    turn_until_idle(&mut events);
    let full = written.get();
    let mut room = vec![0; full];
    turn_until(&mut events, "more room", |_| {
        let _ = peer.read(&mut room);
        written.get() > full
    });
    turn_until_idle(&mut events);
    drop(peer);
    turn_until(&mut events, "the error", |_| broken.get());
}

#[test]
fn eof_makes_a_pipe_readable() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let ended = Cell::new(false);
    let mut events = EventLoop::new().expect("a loop");
    // The single read after each edge does not block.
    let callback = |_: &mut _, reader: &mut std::io::PipeReader, event: halloo::WatchEvent| {
        ended.set(event.is_readable() && reader.read(&mut [0; 16]).expect("EOF") == 0);
        Watch::Drained
    };
    events.watch(reader, Interest::Read, callback).expect("a watch");
    turn_until_idle(&mut events);
    assert!(!ended.get(), "the writer is open");
    drop(writer);
    turn_until(&mut events, "EOF", |_| ended.get());
}

#[test]
fn a_watch_removed_by_a_callback_is_never_called_again_and_dropped_at_the_end_of_the_turn() {
    let ((first, mut first_peer), (second, mut second_peer)) = (pair(), pair());
    let sources = [Rc::new(first), Rc::new(second)];
    let (ids, calls) = (RefCell::new(Vec::<WatchId>::new()), Cell::new(0));
    let mut events = EventLoop::new().expect("a loop");
    for source in &sources {
        let callback = |context: &mut halloo::Context, _: &mut Rc<UnixStream>, event: halloo::WatchEvent| {
            calls.set(calls.get() + 1);
            assert!(ids.borrow().contains(&event.id()));
            for id in ids.borrow().iter() {
                assert!(context.remove(*id) && !context.remove(*id), "each is removed once");
            }
            Watch::Drained
        };
        let id = events.watch(Rc::clone(source), Interest::ReadWrite, callback).expect("a watch");
        ids.borrow_mut().push(id);
    }
    first_peer.write_all(b"x").expect("there is room");
    second_peer.write_all(b"x").expect("there is room");
    turn_until(&mut events, "a call", |_| calls.get() > 0);
    assert_eq!(sources.each_ref().map(Rc::strong_count), [1, 1], "the loop has dropped both sources");
    turn_until_idle(&mut events);
    assert_eq!(calls.get(), 1, "one call, though both were ready in that turn");
    let watch = events.watch(Rc::clone(&sources[0]), Interest::Read, |_, _, _| Watch::Drained);
    assert!(watch.is_ok(), "the descriptor is not registered any more");
}

#[test]
fn a_callback_and_a_job_can_watch_and_get_an_error_at_once() {
    let ((source, mut peer), (removed, _removed_peer)) = (pair(), pair());
    let (received, removed) = (Rc::new(RefCell::new(Vec::new())), Rc::new(removed));
    let mut events = EventLoop::new().expect("a loop");
    let (sources, kept) = (RefCell::new(Some((source, Rc::clone(&removed)))), Rc::clone(&received));
    events.every(Duration::ZERO, move |context| {
        let ((source, removed), kept) = (sources.take()?, Rc::clone(&kept));
        let watch =
            context.watch(removed, Interest::ReadWrite, |_, _, _| panic!("the watch is removed")).expect("a watch");
        assert!(context.remove(watch) && !context.remove(watch), "a new watch can be removed in the same callback");
        let watched = context.watch(source, Interest::Read, move |context, source, _| {
            if kept.borrow().is_empty() {
                let (second, _) = pair();
                let second = context.watch(second, Interest::Read, |context, _, event| {
                    assert!(context.remove(event.id()), "EOF");
                    context.stop();
                    Watch::Drained
                });
                assert!(second.is_ok(), "a watch may add another");
            }
            read_byte(source, &kept)
        });
        assert!(watched.is_ok());
        None
    });
    peer.write_all(b"hello").expect("there is room");
    turn_until_stopped(&mut events);
    assert_eq!((Rc::strong_count(&removed), &received.borrow()[..1]), (1, &b"h"[..]));

    let mut events = EventLoop::new().expect("a loop");
    let (told, kind) = std::sync::mpsc::channel();
    let job = move |context: &mut halloo::Context| {
        let file = std::fs::File::open("/dev/null").expect("a device that is always ready");
        let error = context.watch(file, Interest::Read, |_, _, _| Watch::Drained).err();
        told.send(error.map(|error| error.kind())).expect("the test waits");
    };
    events.handle().post(job).expect("the loop is there");
    turn_until(&mut events, "the job", |events| events.stats().jobs == 1);
    let expected = cfg!(target_os = "linux").then_some(halloo::ErrorKind::Watch);
    assert_eq!(kind.try_recv().expect("the job has run"), expected);
}

#[test]
fn a_panic_of_a_watch_ends_only_that_watch() {
    let ((source, mut peer), (other, mut other_peer)) = (pair(), pair());
    let (source, received) = (Rc::new(source), RefCell::new(Vec::new()));
    let mut events = EventLoop::new().expect("a loop");
    events.catch_panics(true);
    let watch = events
        .watch(Rc::clone(&source), Interest::Read, |_, _, _| panic!("this is the panic of the test"))
        .expect("a watch");
    events.watch(other, Interest::Read, |_, source, _| read_byte(source, &received)).expect("a watch");
    peer.write_all(b"x").expect("there is room");
    other_peer.write_all(b"hello").expect("there is room");
    turn_until(&mut events, "the other's bytes", |_| *received.borrow() == b"hello");
    turn_until(&mut events, "the panic", |events| events.stats().panics == 1);
    assert!(Rc::strong_count(&source) == 1 && events.remove(watch).is_none(), "the watch has ended");
    peer.write_all(b"x").expect("there is room");
    turn_until_idle(&mut events);
    assert_eq!(events.stats().panics, 1);
}

#[test]
fn after_a_panic_that_ends_the_loop_the_source_can_be_taken_back() {
    let (source, mut peer) = pair();
    let mut events = EventLoop::new().expect("a loop");
    let watch = events.watch(source, Interest::Read, |_, _, _| panic!("this is the panic of the test")).expect("one");
    peer.write_all(b"x").expect("there is room");
    let deadline = Instant::now() + TIMEOUT;
    while catch_unwind(AssertUnwindSafe(|| events.turn(Some(Duration::from_millis(2))))).is_ok() {
        assert!(Instant::now() < deadline, "no panic came; {}", events.stats());
    }
    let mut source: UnixStream =
        events.remove(watch).expect("it was not removed").into_source().expect("the source is a stream");
    assert_eq!(source.read(&mut [0; 16]).expect("the byte is unread"), 1);
    let error = events.watch(source, Interest::Read, |_, _, _| Watch::Drained).expect_err("the loop has ended");
    assert_eq!(error.kind(), halloo::ErrorKind::Setup);
}

#[test]
fn watches_are_called_in_a_drain_without_delaying_it_and_sources_outlive_the_loop() {
    let ((source, mut peer), calls) = (pair(), Cell::new(0));
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), stream(echo)).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    assert_eq!(client.request(&mut events, b"hello", 5), b"hello");
    let callback = |_: &mut _, _: &mut _, _| {
        calls.set(calls.get() + 1);
        Watch::Again
    };
    let watch = events.watch(source, Interest::Read, callback).expect("a watch");
    events.context().drain(TIMEOUT);
    turn_until(&mut events, "the drain has begun", |events| events.local_addr(listener).is_err());
    peer.write_all(b"x").expect("there is room");
    turn_until(&mut events, "calls during the drain", |_| calls.get() > 2);
    drop(client);
    let report = turn_until_stopped(&mut events);
    assert!((report.finished, report.forced) == (1, 0) && report.elapsed < TIMEOUT, "{report:?}");
    let before = calls.get();
    assert!(matches!(events.turn(Some(Duration::ZERO)), Ok(Turn::Stopped(_))));
    assert_eq!(calls.get(), before, "a callback came after the stop");
    let source: Option<UnixStream> = events.remove(watch).expect("it was not removed").into_source();
    assert_eq!(source.expect("the source is a stream").read(&mut [0; 16]).expect("the byte is unread"), 1);
}

/// Descriptors that `epoll_ctl(2)` refuses. kqueue(2) accepts them.
#[cfg(target_os = "linux")]
mod refused {
    use super::*;
    use std::error::Error as _;
    use std::fs::File;
    use std::os::fd::OwnedFd;

    #[track_caller]
    fn assert_refused(watched: halloo::Result<WatchId>, texts: &[&str]) {
        let error = watched.expect_err("the watch is refused");
        assert_eq!(error.kind(), halloo::ErrorKind::Watch);
        let cause = error.source().expect("the cause is kept").to_string();
        assert!(texts.iter().all(|text| cause.contains(text)), "{cause}");
        assert_eq!(error.to_string(), format!("cannot watch a descriptor: {cause}"));
    }

    #[test]
    fn regular_files_and_directories_are_errors_with_a_hint() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut events = EventLoop::new().expect("a loop");
        let texts = ["operation not permitted", "is always ready", "without a watch"];
        let file = File::create(folder.path().join("file")).expect("a file");
        assert_refused(events.watch(file, Interest::ReadWrite, |_, _, _| Watch::Drained), &texts);
        let directory = File::open(folder.path()).expect("a directory can be opened");
        assert_refused(events.watch(directory, Interest::Read, |_, _, _| Watch::Drained), &texts);
    }

    #[test]
    fn a_descriptor_has_at_most_one_watch_and_a_duplicate_can_have_another() {
        let ((source, mut peer), calls) = (pair(), Cell::new(0));
        let (source, duplicate) = (Rc::new(source.try_clone().expect("a descriptor")), source);
        let callback = |_: &mut _, _: &mut _, _| {
            calls.set(calls.get() + 1);
            Watch::Drained
        };
        let mut events = EventLoop::new().expect("a loop");
        let watch = events.watch(Rc::clone(&source), Interest::Read, |_, _, _| Watch::Drained).expect("a watch");
        let again = events.watch(Rc::clone(&source), Interest::Read, |_, _, _| Watch::Drained);
        assert_refused(again, &["file exists", "is watched already", "remove that watch first"]);
        assert_eq!(Rc::strong_count(&source), 2, "the refused source is dropped");
        events.watch(duplicate, Interest::Read, callback).expect("another descriptor");
        assert!(events.context().remove(watch));
        events.watch(source, Interest::Read, |_, _, _| Watch::Drained).expect("the first watch was removed");
        peer.write_all(b"x").expect("there is room");
        turn_until(&mut events, "the duplicate's call", |_| calls.get() > 0);
    }

    #[test]
    fn removing_a_watch_with_a_replaced_source_keeps_the_watch_of_the_old_descriptor_number() {
        let ((source, mut peer), (other, mut other_peer)) = (pair(), pair());
        let (replacement, _replacement_peer) = pair();
        let (mut replacement, replaced) = (Some(OwnedFd::from(replacement)), Cell::new(None));
        let received = RefCell::new(Vec::new());
        let mut events = EventLoop::new().expect("a loop");
        let callback = |_: &mut _, source: &mut OwnedFd, _| {
            if let Some(replacement) = replacement.take() {
                replaced.set(Some(std::mem::replace(source, replacement)));
            }
            Watch::Drained
        };
        let watch = events.watch(OwnedFd::from(source), Interest::Read, callback).expect("a watch");
        peer.write_all(b"x").expect("there is room");
        let mut number = None;
        turn_until(&mut events, "the call", |_| {
            number = replaced.take();
            number.is_some()
        });
        // `dup2` puts another open file behind the same descriptor number.
        let mut number = number.expect("the source was replaced");
        nix::unistd::dup2(&other, &mut number).expect("both are open");
        events
            .watch(UnixStream::from(number), Interest::Read, |_, source, _| read_byte(source, &received))
            .expect("no watch has this number");
        assert!(events.remove(watch).is_some());
        other_peer.write_all(b"hello").expect("there is room");
        turn_until(&mut events, "the bytes", |_| *received.borrow() == b"hello");
    }
}
