//! Watches of the workload: none is forgotten, none is called twice.
//!
//! The simulation does not use the descriptors: all watches share one file.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::rc::Rc;

use super::handlers::PanicInjector;

use crate::context::Context;
use crate::context::entries::source::SourceState;
use crate::context::entries::watch_entry::{Watch, WatchEvent};
use crate::event_loop::EventLoop;
use crate::event_loop::callbacks::removal::Removed;
use crate::ids::{SlotKey, WatchId, to_slot};
use crate::options::Interest;
use crate::testing::Simulation;

/// The watches of a loop, including those that have ended.
pub(super) struct Watches {
    source: Rc<File>,
    states: Rc<RefCell<Vec<Rc<WatchState>>>>,
    /// From now on every callback returns `Drained`, and no watch is removed.
    pub(super) stop_requested: Rc<Cell<bool>>,
    panic_injector: Option<PanicInjector>,
}

#[derive(Default)]
struct WatchState {
    id: Cell<Option<WatchId>>,
    /// Its callback has returned `Again`, or an edge came without a call yet.
    is_owed: Cell<bool>,
    is_over: Cell<bool>,
}

impl Watches {
    pub(super) fn new(panic_injector: Option<PanicInjector>) -> Self {
        let source = Rc::new(File::open("/dev/null").expect("every unix has /dev/null"));
        Self { source, states: Rc::default(), stop_requested: Rc::default(), panic_injector }
    }

    /// Adds a watch, removes one, or makes one ready.
    pub(super) fn step(&self, simulation: &Simulation, events: &mut EventLoop<'static>) {
        let chosen = choose(&self.states, simulation);
        match (simulation.random_below(4), chosen) {
            (0, _) | (_, None) => self.add(simulation, events),
            (1, Some(watch)) => {
                let id = watch.id.get().expect("the watch was added");
                let removed = events.remove(id).and_then(Removed::into_source::<Rc<File>>);
                assert_eq!(removed.is_none(), watch.is_over.replace(true), "remove returns the source once");
            }
            (_, Some(watch)) => {
                let is_watched =
                    simulation.set_ready(watch.id.get().expect("the watch was added"), Interest::ReadWrite);
                assert_eq!(is_watched, !watch.is_over.get());
                watch.is_owed.set(true);
            }
        }
    }

    fn add(&self, simulation: &Simulation, events: &mut EventLoop<'static>) {
        let watch = Rc::<WatchState>::default();
        let interest = [Interest::Read, Interest::Write, Interest::ReadWrite];
        let interest = interest[usize::try_from(simulation.random_below(3)).expect("an index")];
        let callback = self.callback(&watch, interest, simulation);
        // As a callback does, or between two turns.
        let added = if simulation.random_below(2) == 0 {
            events.watch(Rc::clone(&self.source), interest, callback)
        } else {
            events.context().watch(Rc::clone(&self.source), interest, callback)
        };
        if let Ok(id) = added {
            watch.id.set(Some(id));
            self.states.borrow_mut().push(watch);
        }
    }

    /// Returns a closure that checks its call, and then answers, removes a watch or panics.
    fn callback(
        &self,
        watch: &Rc<WatchState>,
        interest: Interest,
        simulation: &Simulation,
    ) -> impl FnMut(&mut Context, &mut Rc<File>, WatchEvent) -> Watch + 'static {
        let (watch, watches, simulation) = (Rc::clone(watch), Rc::clone(&self.states), simulation.clone());
        let (stop_requested, panic_injector) = (Rc::clone(&self.stop_requested), self.panic_injector.clone());
        let last_turn = Cell::new(None);
        move |context, _, event| {
            assert!(
                !watch.is_over.get() && watch.id.get() == Some(event.id()),
                "a callback comes only for a watch that has not ended"
            );
            assert_ne!(last_turn.replace(Some(context.turn)), Some(context.turn), "one call in a turn");
            assert!(event.is_readable() || event.is_writable(), "the event is readable or writable");
            assert!(!event.is_readable() || interest.reads());
            assert!(!event.is_writable() || interest.writes());
            watch.is_owed.set(false);
            if stop_requested.get() {
                return Watch::Drained;
            }
            match (simulation.random_below(6), &panic_injector) {
                (0, Some(panic_injector)) => {
                    watch.is_over.set(true);
                    panic_injector.maybe_panic(1);
                }
                (1, _) => {
                    if let Some(other) = choose(&watches, &simulation) {
                        let was_there = context.remove(other.id.get().expect("the watch was added"));
                        assert_eq!(was_there, !other.is_over.replace(true), "a watch stays until its removal");
                    }
                }
                (2..4, _) => {
                    watch.is_owed.set(true);
                    return Watch::Again;
                }
                _ => {}
            }
            Watch::Drained
        }
    }

    /// Whether no watch waits for its callback.
    pub(super) fn are_finished(&self) -> bool {
        self.states.borrow().iter().all(|watch| watch.is_over.get() || !watch.is_owed.get())
    }

    /// After a turn the loop has exactly the open watches, and forgets none.
    pub(super) fn assert_none_is_forgotten(&self, context: &Context) {
        let open = self.states.borrow().iter().filter(|watch| !watch.is_over.get()).count();
        assert_eq!((context.watches.len(), Rc::strong_count(&self.source) - 1), (open, open), "one source for each");
        for (slot, entry) in &context.watches {
            assert!(entry.is_open, "a watch outlives the turn of its removal");
            let is_ready = context.ready_sources.contains(&SlotKey::Watch(to_slot(slot)));
            assert_eq!(is_ready, entry.source.state == SourceState::Ready, "a ready watch is on the queue");
        }
    }

    /// Takes back the sources of a loop that has stopped.
    pub(super) fn take_back(&self, events: &mut EventLoop<'static>) {
        for watch in self.states.borrow().iter().filter(|watch| !watch.is_over.get()) {
            let removed = events.remove(watch.id.get().expect("the watch was added"));
            let source = removed.and_then(Removed::into_source::<Rc<File>>);
            assert!(source.is_some(), "the source of a watch stays after the stop");
        }
        assert_eq!(Rc::strong_count(&self.source), 1);
    }
}

fn choose(watches: &RefCell<Vec<Rc<WatchState>>>, simulation: &Simulation) -> Option<Rc<WatchState>> {
    let watches = watches.borrow();
    let index = simulation.random_below(watches.len() as u64);
    watches.get(usize::try_from(index).expect("an index")).cloned()
}
