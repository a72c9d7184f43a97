//! The mixed workload: every kind of client at handlers of every kind, on a network where everything goes wrong.
//!
//! One seed is one run. After each turn the [`invariants`] are checked; at the end, each client must
//! have been served in full, or have met its own fault, and so must each server that the loop has called; then the loop
//! drains, in time.

mod framed_echo;
mod handlers;
mod invariants;
mod outbound;
mod outbound_cases;
mod planned_client;
mod sim_servers;
mod single_cases;
mod timer_checks;
mod udp_traffic;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::Duration;

use self::handlers::{Echo, Fuse, Greeter, Grenade, GrenadeWentOff, Journal};
use self::outbound::{Caller, Calls, Proxy, call};
use self::planned_client::{Actor, GREETING, Trade};
use self::sim_servers::{BEHIND, Servers, Target};
use self::timer_checks::{Clocks, wind};
use self::udp_traffic::{ANSWER, EVERYWHERE, UDP};

use crate::context::connection::Connection;
use crate::context::datagram::Datagram;
use crate::context::handler::datagrams;
use crate::event_loop::{EventLoop, Turn};
use crate::framing;
use crate::ids::{ConnectionId, HandlerId};
use crate::options::bind::Bind;
use crate::options::connect::Connect;
use crate::options::listen::Listen;
use crate::testing::{Fault, Simulation};

const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
/// Turns after which everybody who can be served has been: a long echo through an inbox of one byte takes many.
const TURNS_MAX: u32 = 1_000_000;

/// One seed's world.
struct Run {
    simulation: Simulation,
    events: EventLoop<'static>,
    journal: Rc<RefCell<Journal>>,
    actors: Vec<Actor>,
    has_timeouts: bool,
    datagrams: u64,
    answered: u64,
    peers: BTreeSet<SocketAddr>,
    grenades: Rc<()>,
    servers: Servers,
    calls: Rc<RefCell<Calls>>,
    clocks: Rc<RefCell<Clocks>>,
    /// The handlers that connect.
    caller: Rc<Cell<Option<HandlerId>>>,
    grenade: Option<HandlerId>,
    fuse: Fuse,
    /// The same, if timers and failed connections panic in this world.
    short_fuse: Option<Fuse>,
}

impl Run {
    fn new(simulation: &Simulation) -> Self {
        let fuse = Fuse { simulation: simulation.clone(), burnt: Rc::default() };
        let mut run = Self {
            simulation: simulation.clone(),
            events: simulation.event_loop(),
            journal: Rc::default(),
            actors: Vec::new(),
            has_timeouts: simulation.below(4) == 0,
            datagrams: 0,
            answered: 0,
            peers: BTreeSet::new(),
            grenades: Rc::new(()),
            servers: Servers::new(simulation),
            calls: Rc::default(),
            clocks: Rc::default(),
            caller: Rc::default(),
            grenade: None,
            short_fuse: (simulation.below(4) == 0).then(|| fuse.clone()),
            fuse,
        };
        run.events.catch_panics(simulation.below(2) == 0);
        run.set_up();
        run.attach_caller();
        run.spoil();
        run
    }

    fn listen(&self, trade: Trade) -> Listen {
        let mut at = Listen::from(SocketAddr::new(HOST, trade as u16));
        if !self.has_timeouts {
            at = at.idle_timeout(None).write_timeout(None);
        }
        if self.simulation.below(3) == 0 {
            at = at.connections_max(1 + usize::try_from(self.simulation.below(3)).expect("a count"));
        }
        // A greeting fits any outbox, so that a greeter can rely on it.
        let small = |least: u64| usize::try_from(least + self.simulation.below(100)).expect("a length");
        if self.simulation.below(2) == 0 {
            at = at.outbox_bytes_max(small(GREETING.len() as u64)).input_bytes_max(small(1));
        }
        if trade == Trade::Lines { at.input_bytes_max(4096).outbox_bytes_max(1024) } else { at }
    }

    fn set_up(&mut self) {
        let (journal, simulation) = (&self.journal, &self.simulation);
        let echo = self.events.attach(Echo { journal: Rc::clone(journal), simulation: simulation.clone() });
        let greeter = |at_once| Greeter { journal: Rc::clone(journal), simulation: simulation.clone(), echo, at_once };
        let (greet, banner) = (greeter(false), greeter(true));
        let calls = Rc::clone(&self.calls);
        let grenade = Grenade { fuse: self.fuse.clone(), calls, session: Rc::clone(&self.grenades) };
        let grenade = self.events.attach(grenade);
        self.grenade = Some(grenade);
        let [at_greet, at_echo, at_lines, at_banner, at_grenade, at_proxy] = Trade::ALL.map(|trade| self.listen(trade));
        self.events.listen_for(at_grenade, grenade).expect("the address is free");
        let proxy = self.proxy();
        self.events.listen(at_proxy, proxy).expect("the address is free");
        self.events.listen(at_greet, greet).expect("the address is free");
        self.events.listen_for(at_echo, echo).expect("the address is free");
        self.events.listen(at_banner, banner).expect("the address is free");
        let answer = |connection: &mut Connection<'_>, line: &[u8]| {
            connection.send(&[line, b"!\n"].concat()).expect("half an outbox is free");
        };
        self.events.listen(at_lines, framing::lines(100, answer)).expect("the address is free");
        let fuse = (self.simulation.below(2) == 0).then(|| self.fuse.clone());
        let answer = move |datagram: &mut Datagram<'_>, _: &[u8]| {
            datagram.reply(ANSWER);
            if let Some(fuse) = &fuse {
                fuse.burn(8);
            }
        };
        self.events.bind(Bind::from(UDP), datagrams(answer.clone())).expect("the address is free");
        self.events.bind(Bind::from(EVERYWHERE), datagrams(answer)).expect("the address is free");
    }

    fn proxy(&self) -> Proxy {
        let to = Connect::from(BEHIND).idle_timeout(None).write_timeout(None);
        let small = usize::try_from(1 + self.simulation.below(2_000)).expect("a length");
        let to = if self.simulation.below(3) == 0 { to.outbox_bytes_max(small).input_bytes_max(small) } else { to };
        Proxy { journal: Rc::clone(&self.journal), calls: Rc::clone(&self.calls), to, waiting: BTreeMap::new() }
    }

    fn attach_caller(&mut self) {
        let caller = self.events.attach(Caller {
            journal: Rc::clone(&self.journal),
            calls: Rc::clone(&self.calls),
            clocks: Rc::clone(&self.clocks),
            simulation: self.simulation.clone(),
            own: Rc::clone(&self.caller),
            fuse: self.short_fuse.clone(),
        });
        self.caller.set(Some(caller));
    }

    /// Decides what goes wrong.
    fn spoil(&self) {
        for fault in Fault::ALL {
            if self.simulation.below(2) == 0 {
                self.simulation.inject(fault, 2 + self.simulation.below(30));
            }
        }
        if self.simulation.below(4) == 0 {
            let spare = usize::try_from(2 + self.simulation.below(4)).expect("a count");
            self.simulation.set_descriptors_max(8 + spare);
            self.calls.borrow_mut().may_fail = true;
        }
        // A clock that jumps ends lingers and limits early: there nobody is promised anything but order.
        if self.simulation.below(3) > 0 {
            self.simulation.inject(Fault::Clock, 0);
        }
        let has = |fault| self.simulation.world.borrow().faults.has(fault);
        self.calls.borrow_mut().may_fail |= has(Fault::Connect) || has(Fault::Register) || has(Fault::Clock);
    }

    fn turn(&mut self, wait: Duration) -> Turn {
        self.simulation.world.borrow_mut().usage.clear();
        // Where the loop does not catch the panics of handlers, its embedder does, and turns it again.
        let turn = loop {
            match catch_unwind(AssertUnwindSafe(|| self.events.turn(Some(wait)))) {
                Ok(turn) => break turn.expect("no error is the loop's"),
                Err(panic) if panic.is::<GrenadeWentOff>() => {
                    self.simulation.world.borrow_mut().usage.clear();
                    assert_eq!(self.events.next_timeout(), Some(Duration::ZERO), "the rest of the turn is left");
                }
                Err(panic) => resume_unwind(panic),
            }
        };
        self.simulation.world.borrow_mut().say(|| format!("--------- {turn:?}"));
        assert_eq!(
            self.events.stats().panics,
            self.fuse.burnt.get(),
            "somebody else has panicked, and that was caught"
        );
        invariants::hold(self.events.core(), &self.simulation.world.borrow());
        if !matches!(turn, Turn::Stopped(_)) {
            self.calls.borrow().assert_notes_are_told(&self.events.core().tables);
            self.clocks.borrow().assert_none_is_late(&self.events.core().tables);
        }
        turn
    }

    fn step(&mut self) {
        self.servers.act(&self.simulation);
        match self.simulation.below(12) {
            0..3 if self.actors.len() < 12 => self.arrive(),
            3 => self.send_datagram(),
            4 => self.simulation.advance(Duration::from_micros(self.simulation.below(5_000))),
            5 => self.call(),
            6 => {
                let caller = self.caller.get().expect("it is attached");
                wind(&self.clocks, &self.simulation, &mut self.events, caller, self.short_fuse.as_ref());
            }
            7 => self.notify(),
            _ => {
                let index = usize::try_from(self.simulation.below(self.actors.len() as u64)).expect("an index");
                if let Some(actor) = self.actors.get_mut(index) {
                    actor.act();
                }
            }
        }
    }

    fn arrive(&mut self) {
        let trade = Trade::ALL[usize::try_from(self.simulation.below(Trade::ALL.len() as u64)).expect("an index")];
        let client = self.simulation.connect(SocketAddr::new(HOST, trade as u16)).expect("somebody listens");
        let number = u8::try_from(self.actors.len()).expect("a few");
        self.actors.push(Actor::new(&self.simulation, client, trade, number));
    }

    fn call(&mut self) {
        if self.simulation.below(8) > 0 {
            let caller = self.caller.get().expect("it is attached");
            return call(&self.calls, &self.simulation, self.events.context(), caller);
        }
        // One that panics in whatever comes of it.
        let (grenade, context) = (self.grenade.expect("it is attached"), self.events.context());
        let id = context.connect(Target::Answers.address(), grenade);
        context.notify(id, 0);
        context.schedule(grenade, Duration::from_millis(1), 0);
        self.calls.borrow_mut().asked += 1;
    }

    /// Tells something to one that was connected at some time, from here or from elsewhere.
    fn notify(&mut self) {
        let mut calls = self.calls.borrow_mut();
        let index = usize::try_from(self.simulation.below(calls.by_id.len() as u64)).expect("an index");
        let Some(id) = calls.by_id.keys().nth(index).copied() else { return };
        let note = calls.next_note(id, self.events.stats().turns);
        if self.simulation.below(2) == 0 {
            self.events.context().notify(id, note);
        } else {
            self.events.handle().notify(id, note).expect("it runs");
        }
    }

    /// Turns until everybody who is owed something has it.
    fn serve_all(&mut self) {
        for actor in &mut self.actors {
            while actor.act() {}
        }
        self.clocks.borrow().are_ending.set(true);
        for turn in 0..TURNS_MAX {
            let _ = self.turn(Duration::from_millis(100));
            for actor in &mut self.actors {
                actor.read();
            }
            self.servers.act(&self.simulation);
            let is_quiet = self.servers.are_done() && self.calls.borrow().are_over() && self.clocks.borrow().are_over();
            if turn > 20 && is_quiet && self.actors.iter().all(Actor::is_done) && self.datagrams_are_in() {
                return self.fall_asleep();
            }
        }
        assert!(self.calls.borrow().are_over() && self.clocks.borrow().are_over(), "a call or a timer is left");
        for actor in &self.actors {
            assert!(actor.is_done(), "after {TURNS_MAX} turns there is no answer for {actor:?}");
        }
        assert!(self.datagrams_are_in(), "datagrams are left");
    }

    /// With nothing left to do, the loop does not spin.
    fn fall_asleep(&mut self) {
        for _ in 0..1_000 {
            let turn = self.turn(Duration::from_micros(1));
            if turn == Turn::Idle && self.events.next_timeout() != Some(Duration::ZERO) {
                return;
            }
            self.simulation.advance(Duration::from_millis(50));
        }
        panic!("the loop has nothing to do, and no rest");
    }

    /// Checks what has arrived at clients, and at servers that were called. A client of the proxy is owed nothing if the
    /// connection that was made for it has met an error, or could not be made.
    fn check_streams(&self, is_lenient: bool) {
        let (calls, struck) = (self.calls.borrow(), self.servers.struck().collect::<BTreeSet<_>>());
        for actor in &self.actors {
            let made = calls.proxied.get(&actor.address());
            let is_excused =
                calls.unconnected.contains(&actor.address()) || made.is_some_and(|made| struck.contains(made));
            actor.check(is_lenient || actor.trade == Trade::Proxy && is_excused);
        }
        self.servers.check(&calls, is_lenient);
    }

    /// Drains with some clients still there, and ends in time. Who has asked before is answered, if there is time.
    fn drain(&mut self) {
        let first = self.actors.len();
        for _ in 0..self.simulation.below(4) {
            self.arrive();
        }
        for actor in &mut self.actors[first..] {
            while actor.act() {}
        }
        for _ in 0..self.simulation.below(4) {
            self.send_datagram();
        }
        for _ in 0..self.simulation.below(3) {
            self.call();
        }
        let waits = self.events.stats().connections > 0 || first < self.actors.len();
        let before: Vec<ConnectionId> = self.journal.borrow().open.iter().copied().collect();
        let grace = Duration::from_millis(self.simulation.below(4_000));
        let end = self.simulation.elapsed() + grace;
        self.events.context().drain(grace);
        let report = loop {
            self.servers.act(&self.simulation);
            let is_late = self.simulation.elapsed() > end;
            if let Turn::Stopped(report) = self.turn(Duration::from_secs(10)) {
                break report;
            }
            assert!(!is_late, "the drain goes on past its end");
        };
        assert_eq!(self.events.turn(None).expect("it has stopped"), Turn::Stopped(report));
        let in_vain = !waits && grace > Duration::from_secs(2) && report.took > grace / 2;
        assert!(!in_vain, "with nobody there, the drain took {:?} of {grace:?}", report.took);
        if grace > Duration::from_secs(1) {
            self.journal.borrow().assert_heard(&before);
            self.check_datagrams();
            assert!(self.datagrams_are_in(), "datagrams that were waiting are handled in a drain");
        }
        // The loop is gone; what its kernel has taken still goes out.
        for _ in 0..200 {
            self.simulation.world.borrow_mut().flow();
        }
        for actor in self.actors[first..].iter().filter(|actor| actor.trade == Trade::Greet) {
            actor.check(report.took >= grace);
        }
        assert!(self.journal.borrow().open.is_empty(), "whoever was opened is closed");
        let (calls, stats) = (self.calls.borrow(), self.events.stats());
        assert!(calls.are_over(), "whoever was asked for was opened and closed, or has failed");
        assert_eq!((stats.connects, stats.connect_errors), (calls.asked, calls.failed), "and counted");
        assert_eq!(Rc::strong_count(&self.grenades), 2, "every session is dropped, its handler's panics or not");
    }
}

/// One run of a seed.
pub(crate) fn run(simulation: &Simulation) {
    let mut run = Run::new(simulation);
    for _ in 0..20 + simulation.below(60) {
        run.step();
        let wait = Duration::from_micros(run.simulation.below(2_000));
        let _ = run.turn(wait);
    }
    let had_clock_faults = run.simulation.world.borrow().faults.has(Fault::Clock);
    run.simulation.heal();
    run.serve_all();
    run.check_streams(had_clock_faults || run.has_timeouts);
    run.check_datagrams();
    run.drain();
}

/// Seeds in every test run. `HALLOO_SEEDS=9333` runs one alone, `HALLOO_SEEDS=0..1000000` a million.
const SEEDS: std::ops::Range<u64> = 0..20_000;

fn seeds() -> std::ops::Range<u64> {
    let Ok(wanted) = std::env::var("HALLOO_SEEDS") else { return SEEDS };
    let number = |text: &str| text.parse::<u64>().expect("HALLOO_SEEDS is a seed, or first..end");
    match wanted.split_once("..") {
        Some((first, end)) => number(first)..number(end),
        None => number(&wanted)..number(&wanted) + 1,
    }
}

#[test]
fn every_client_is_served_whatever_the_network_does() {
    crate::testing::check(seeds(), run);
}

#[test]
#[ignore = "minutes even in a release build: cargo test --release --lib a_million -- --ignored"]
fn a_million_worlds_serve_every_client() {
    crate::testing::check(0..1_000_000, run);
}
