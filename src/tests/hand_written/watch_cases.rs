//! Single cases of watched descriptors.

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use nix::errno::Errno;

use super::super::HOST;

use crate::context::Context;
use crate::context::connection::Connection;
use crate::context::entries::watch_entry::{Watch, WatchEvent};
use crate::context::handler::StreamHandler;
use crate::error::ErrorKind;
use crate::event_loop::{EventLoop, Turn};
use crate::ids::WatchId;
use crate::limits;
use crate::options::Interest;
use crate::testing::{Fault, Simulation, check};

/// Returns a non-blocking source and its peer.
fn pair() -> (UnixStream, UnixStream) {
    let (source, peer) = UnixStream::pair().expect("two descriptors");
    source.set_nonblocking(true).expect("an option of every socket");
    (source, peer)
}

/// Watches a source whose content does not matter; the callback decides.
fn watch_with(
    events: &mut EventLoop<'static>,
    mut callback: impl FnMut(&mut Context, WatchEvent) -> Watch + 'static,
) -> WatchId {
    let watched = events.watch(pair().0, Interest::ReadWrite, move |context, _, event| callback(context, event));
    watched.expect("no fault is injected")
}

#[test]
fn a_watched_source_is_read_to_its_end_however_its_readiness_is_reported() {
    check(0..300, |simulation| {
        let ((source, mut peer), received) = (pair(), RefCell::new(Vec::new()));
        let mut events = simulation.event_loop();
        let callback = |_: &mut Context, source: &mut UnixStream, event: WatchEvent| {
            assert!(event.is_readable() && !event.is_writable());
            let mut buffer = vec![0; 1 + usize::try_from(simulation.random_below(20)).expect("a length")];
            match source.read(&mut buffer) {
                Ok(count) => received.borrow_mut().extend_from_slice(&buffer[..count]),
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    return Watch::Drained;
                }
            }
            Watch::Again
        };
        let watch = events.watch(source, Interest::Read, callback).expect("no fault is injected");
        for fault in [Fault::LateReadiness, Fault::SpuriousReadiness, Fault::Poll] {
            simulation.inject(fault, 3);
        }
        let mut sent = Vec::new();
        for round in 0..10_u8 {
            let bytes = vec![round; usize::try_from(simulation.random_below(100)).expect("a length")];
            peer.write_all(&bytes).expect("there is room");
            sent.extend(bytes);
            assert!(simulation.set_ready(watch, Interest::ReadWrite));
            let _ = events.turn(Some(Duration::from_millis(1))).expect("no error is the loop's");
        }
        simulation.run_until_idle(&mut events).expect("no error is the loop's");
        assert_eq!(*received.borrow(), sent);
        assert!(events.remove(watch).is_some() && !simulation.set_ready(watch, Interest::Read));
    });
}

#[test]
fn a_watch_added_in_a_callback_is_called_in_a_later_turn() {
    check(0..50, |simulation| {
        let mut events = simulation.event_loop();
        let (added, calls) = (Rc::new(Cell::new(None)), Rc::new(Cell::new(0)));
        let (id, count) = (Rc::clone(&added), Rc::clone(&calls));
        let first = watch_with(&mut events, move |context, _| {
            let count = Rc::clone(&count);
            let second = context.watch(pair().0, Interest::Read, move |_, _, event| {
                count.set(count.get() + 1);
                if count.get() < 3 && event.is_readable() { Watch::Again } else { Watch::Drained }
            });
            id.set(Some(second.expect("no fault is injected")));
            Watch::Drained
        });
        assert!(simulation.set_ready(first, Interest::Read));
        simulation.run_until_idle(&mut events).expect("no error is the loop's");
        assert_eq!(calls.get(), 0, "the new watch is not ready");
        assert!(simulation.set_ready(added.get().expect("it was added"), Interest::Read));
        simulation.run_until_idle(&mut events).expect("no error is the loop's");
        assert_eq!(calls.get(), 3);
    });
}

#[test]
fn an_event_of_a_removed_watch_does_not_reach_the_next_watch_in_its_slot() {
    check(0..50, |simulation| {
        let mut events = simulation.event_loop();
        simulation.inject(Fault::SpuriousReadiness, 1);
        let removed = watch_with(&mut events, |_, _| panic!("the watch is removed"));
        assert!(events.remove(removed).is_some());
        let calls = Rc::new(Cell::new(0));
        let counted = Rc::clone(&calls);
        let next = watch_with(&mut events, move |_, _| {
            counted.set(counted.get() + 1);
            Watch::Drained
        });
        assert_eq!(next.0.slot, removed.0.slot, "the slot is reused");
        simulation.inject(Fault::LateReadiness, 1);
        for _ in 0..20 {
            let _ = events.turn(Some(Duration::ZERO)).expect("no error is the loop's");
        }
        assert_eq!(calls.get(), 0, "all events were of the removed watch");
        simulation.clear_faults();
        assert!(simulation.set_ready(next, Interest::Read));
        simulation.run_until_idle(&mut events).expect("no error is the loop's");
        assert_eq!(calls.get(), 1);
    });
}

/// Keeps its connections open during a drain.
struct Stays;

impl StreamHandler for Stays {
    type Session = ();

    fn on_open(&mut self, _: &mut Connection<'_>) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, _: &mut Connection<'_>, (): &mut (), input: &[u8]) -> usize {
        input.len()
    }

    fn on_drain(&mut self, _: &mut Connection<'_>, (): &mut ()) {}
}

#[test]
fn a_drain_ends_in_time_although_a_watch_is_never_drained() {
    let simulation = Simulation::new(1);
    let mut events = simulation.event_loop();
    let address = SocketAddr::new(HOST, 9);
    events.listen(address, Stays).expect("the address is free");
    let _client = simulation.connect(address).expect("the server listens");
    let watch = watch_with(&mut events, |_, _| Watch::Again);
    assert!(simulation.set_ready(watch, Interest::Read));
    for _ in 0..10 {
        let _ = events.turn(Some(Duration::ZERO)).expect("no error is the loop's");
    }
    assert_eq!((events.stats().connections, events.next_timeout()), (1, Some(Duration::ZERO)));
    events.context().drain(Duration::from_secs(1));
    simulation.advance(Duration::from_secs(1));
    let mut turns = 0;
    while !matches!(events.turn(Some(Duration::ZERO)).expect("no error is the loop's"), Turn::Stopped(_)) {
        turns += 1;
        assert!(turns < u32::from(limits::LATE_TURNS_MAX) / 2, "the watch delays the end of the drain");
    }
}

#[test]
fn a_descriptor_that_the_poll_rejects_leaves_no_state() {
    let simulation = Simulation::new(1);
    let mut events = simulation.event_loop();
    simulation.fail_next(Fault::Register, Errno::ENOSPC as i32, 1);
    let source = Rc::new(pair().0);
    let refused = events.watch(Rc::clone(&source), Interest::Read, |_, _, _| Watch::Drained);
    assert_eq!(refused.expect_err("no room").kind(), ErrorKind::Watch);
    assert!(Rc::strong_count(&source) == 1 && events.context.watches.is_empty());
    let watch = events.watch(source, Interest::Read, |_, _, _| Watch::Drained).expect("there is room");
    assert_eq!(watch.0.slot, 0);
}
