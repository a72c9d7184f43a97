//! Handles, and jobs posted from other threads.

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use halloo::{Context, EventLoop, Handle, LoopStopped, stream};
use support::wait::TIMEOUT;

use crate::helpers::loopback::loopback;
use crate::helpers::nonblocking_client::{Client, StreamEnd};
use crate::helpers::recording_handler::{CallLog, RecordingHandler};
use crate::helpers::simple_handlers::{GREETING, greet};
use crate::helpers::turn_until::{turn_until, turn_until_idle, turn_until_stopped};

#[test]
fn a_handle_wakes_a_loop_that_waits() {
    let mut events = EventLoop::new().expect("a loop");
    let handle = events.handle();
    let other = thread::spawn(move || {
        let start = Instant::now();
        for _ in 0..50 {
            let (run, was_run) = channel();
            handle.post(move |_| run.send(()).expect("the thread waits")).expect("the loop runs");
            was_run.recv_timeout(TIMEOUT).expect("the loop wakes");
        }
        handle.stop().expect("the loop runs");
        start.elapsed()
    });
    events.run().expect("the poll works");
    let elapsed = other.join().expect("it does not panic");
    assert!(elapsed < TIMEOUT, "50 round trips took {elapsed:?}");
    assert_eq!(events.stats().jobs, 51);
}

#[test]
fn jobs_run_on_the_loops_thread_in_the_order_they_were_posted() {
    let ran = Arc::new(Mutex::new(Vec::new()));
    let mut events = EventLoop::new().expect("a loop");
    let handle = events.handle();
    let other = thread::spawn({
        let ran = Arc::clone(&ran);
        move || {
            for number in 0..1_000 {
                let ran = Arc::clone(&ran);
                let job = move |_: &mut Context| ran.lock().expect("no panic").push((number, thread::current().id()));
                handle.post(job).expect("the loop runs");
            }
        }
    });
    turn_until(&mut events, "all have run", |events| events.stats().jobs == 1_000);
    other.join().expect("it does not panic");
    let expected: Vec<_> = (0..1_000).map(|number| (number, thread::current().id())).collect();
    assert_eq!(*ran.lock().expect("no panic"), expected);
}

#[test]
fn a_job_reaches_a_connection() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), RecordingHandler::new(&log)).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    turn_until(&mut events, "the client is accepted", |_| log.ids().len() == 1);
    let (handle, id) = (events.handle(), log.ids()[0]);
    let job = move |context: &mut Context| {
        let mut connection = context.connection(id).expect("the connection is open");
        connection.send(b"from elsewhere").expect("the outbox is empty");
        connection.close();
    };
    thread::spawn(move || handle.post(job)).join().expect("no panic").expect("the loop runs");
    assert_eq!(client.read_to_end(&mut events), (&b"from elsewhere"[..], StreamEnd::Eof));
}

#[test]
fn a_job_that_posts_itself_again_does_not_starve_connections() {
    fn repost(handle: &Handle) {
        let next = handle.clone();
        // After the loop has stopped, `post` fails and the chain ends.
        let _ = handle.post(move |_| repost(&next));
    }
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), stream(greet)).expect("a listener");
    repost(&events.handle());
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    assert_eq!(client.request(&mut events, b"Hello, TCP Server!", GREETING.len()), GREETING);
    assert_eq!(events.next_timeout(), Some(Duration::ZERO), "a job waits");
    let before = events.stats().jobs;
    let _ = events.turn(None).expect("the poll works");
    assert_eq!(events.stats().jobs, before + 1);
    events.context().stop();
    turn_until_stopped(&mut events);
}

#[test]
fn a_job_that_was_not_run_is_dropped_when_the_loop_ends() {
    let shared = Arc::new(());
    let mut events = EventLoop::new().expect("a loop");
    let handle = events.handle();
    let (inner, clone) = (handle.clone(), Arc::clone(&shared));
    handle
        .post(move |context| {
            inner.post(move |_| panic!("it must not run: {clone:?}")).expect("it runs still");
            context.stop();
        })
        .expect("the loop runs");
    turn_until_stopped(&mut events);
    assert_eq!((Arc::strong_count(&shared), events.stats().jobs), (1, 1));
    assert_eq!(handle.post(|_| {}), Err(LoopStopped));
}

#[test]
fn a_job_that_was_not_run_is_dropped_with_the_loop() {
    let shared = Arc::new(());
    let events = EventLoop::new().expect("a loop");
    let (handle, clone) = (events.handle(), Arc::clone(&shared));
    handle.post(move |_| panic!("it must not run: {clone:?}")).expect("the loop is there");
    assert_eq!(Arc::strong_count(&shared), 2);
    drop(events);
    assert_eq!(Arc::strong_count(&shared), 1);
    assert_eq!(
        (handle.stop(), handle.drain(Duration::ZERO), handle.post(|_| {})),
        (Err(LoopStopped), Err(LoopStopped), Err(LoopStopped))
    );
}

#[test]
fn a_handle_can_be_sent_shared_and_cloned() {
    fn check(_: &(impl Clone + Send + Sync + std::fmt::Debug + 'static)) {}
    let events = EventLoop::new().expect("a loop");
    check(&events.handle());
}

/// A blocking client of std alone.
fn ask(address: SocketAddr, question: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).expect("the listener is there");
    stream.set_read_timeout(Some(TIMEOUT)).expect("an option of every stream");
    stream.write_all(question).expect("there is room");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer and its end");
    answer
}

#[test]
fn run_serves_clients_of_other_threads_until_one_of_them_drains_the_loop() {
    fn serve(addresses: &Sender<(SocketAddr, Handle)>) -> (u64, u64) {
        let mut greeted = 0;
        let mut events = EventLoop::new().expect("a loop");
        let handler = stream(|connection, input| {
            greeted += 1;
            greet(connection, input)
        });
        let listener = events.listen(loopback(), handler).expect("a listener");
        addresses
            .send((events.local_addr(listener).expect("the listener is open"), events.handle()))
            .expect("the test waits for it");
        let finished = events.run().expect("the poll works").finished;
        drop(events);
        (greeted, finished)
    }
    let (address_sender, address_receiver) = channel();
    let server = thread::spawn(move || serve(&address_sender));
    let (address, handle) = address_receiver.recv_timeout(TIMEOUT).expect("it listens");
    let clients: Vec<_> = (0..8)
        .map(|_| thread::spawn(move || (0..20).map(|_| ask(address, b"Hello, TCP Server!")).collect::<Vec<_>>()))
        .collect();
    for client in clients {
        assert_eq!(client.join().expect("no panic"), vec![GREETING.to_vec(); 20]);
    }
    handle.drain(TIMEOUT).expect("the loop runs");
    assert_eq!(server.join().expect("no panic").0, 160);
    assert_eq!(handle.stop(), Err(LoopStopped));
}

#[test]
fn a_loop_with_nothing_to_watch_waits_for_its_handle() {
    let mut events = EventLoop::new().expect("a loop");
    turn_until_idle(&mut events);
    let handle = events.handle();
    let other = thread::spawn(move || handle.drain(Duration::ZERO));
    let report = events.run().expect("the poll works");
    other.join().expect("no panic").expect("it ran");
    assert_eq!((report.finished, report.forced), (0, 0));
}

#[test]
fn a_loop_that_has_ended_opens_nothing() {
    let mut events = EventLoop::new().expect("a loop");
    events.context().stop();
    events.run().expect("the poll works");
    let listen_error = events.listen(loopback(), stream(greet)).expect_err("the loop has ended");
    let bind_error = events.bind(loopback(), halloo::datagrams(|_, _| {})).expect_err("the loop has ended");
    for error in [listen_error, bind_error] {
        assert_eq!(error.kind(), halloo::ErrorKind::Setup);
        assert!(error.to_string().contains("has ended"), "{error}");
    }
}

#[test]
fn calls_of_a_handle_fail_while_the_loop_is_being_dropped() {
    struct PostsOnDrop<'a>(halloo::Handle, &'a Cell<Option<bool>>);
    impl Drop for PostsOnDrop<'_> {
        fn drop(&mut self) {
            self.1.set(Some(self.0.stop().is_ok()));
        }
    }
    let was_accepted = Cell::new(None);
    let mut events = EventLoop::new().expect("a loop");
    let held = PostsOnDrop(events.handle(), &was_accepted);
    let handler = stream(move |_, input| {
        let _held = &held;
        input.len()
    });
    events.listen(loopback(), handler).expect("a listener");
    drop(events);
    assert_eq!(was_accepted.get(), Some(false));
}
