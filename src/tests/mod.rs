//! The simulated workload: every kind of client, handler and fault at once.
//!
//! One seed is one run. After each turn the [`invariants`] are checked. At the end each client has been served in full,
//! or has met a fault of its own, and the loop drains in time.

mod framed_echo;
mod hand_written;
mod handlers;
mod invariants;
mod outbound_handlers;
mod planned_client;
mod removals;
mod sim_servers;
mod timer_checks;
mod udp_traffic;
mod watches;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use self::handlers::{CallbackLog, EchoHandler, GreetHandler, PanicInjector, PanickingHandler};
use self::outbound_handlers::{OutboundHandler, OutboundLog, ProxyHandler, open_outbound};
use self::planned_client::{PlannedClient, Service};
use self::removals::{Removals, stream_handlers};
use self::sim_servers::{PROXY_TARGET, SimServers, Target};
use self::timer_checks::{TimerChecks, change_timers};
use self::udp_traffic::{TransientSocket, UDP, UDP_REPLY, UDP_WILDCARD};

use crate::close_reason::CloseReason;
use crate::context::connection::Connection;
use crate::context::datagram::Datagram;
use crate::context::handler_impls::datagrams;
use crate::event_loop::{EventLoop, Turn};
use crate::framing;
use crate::ids::{ConnectionId, HandlerId};
use crate::limits;
use crate::options::bind::Bind;
use crate::options::connect::Connect;
use crate::testing::{Fault, Simulation};

const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
/// Turns after which every client that can be served was served: a long echo through an inbox of one byte takes many.
const TURNS_MAX: u32 = 1_000_000;

/// The most descriptors that a listener has in reserve.
const RESERVE_MAX: u32 = 2;

/// One seed's world.
struct Workload {
    simulation: Simulation,
    events: EventLoop<'static>,
    callback_log: Rc<RefCell<CallbackLog>>,
    clients: Vec<PlannedClient>,
    has_timeouts: bool,
    datagrams: u64,
    replies: u64,
    peers: BTreeSet<SocketAddr>,
    transient_socket: Rc<RefCell<TransientSocket>>,
    panicking_sessions: Rc<()>,
    servers: SimServers,
    outbound_log: Rc<RefCell<OutboundLog>>,
    timer_checks: Rc<RefCell<TimerChecks>>,
    /// The handlers that connect.
    outbound_handler: Rc<Cell<Option<HandlerId>>>,
    panicking_handler: Option<HandlerId>,
    panic_injector: PanicInjector,
    /// The same, if timers, failed connections and destructors panic in this world.
    timer_panic_injector: Option<PanicInjector>,
    removals: Removals,
    watches: watches::Watches,
    journal_checks: invariants::JournalChecks,
}

impl Workload {
    fn new(simulation: &Simulation) -> Self {
        let panic_injector = PanicInjector { simulation: simulation.clone(), injected: Rc::default() };
        let timer_panic_injector = (simulation.random_below(4) == 0).then(|| panic_injector.clone());
        let outbound_log = Rc::default();
        let mut events = simulation.event_loop();
        let mut run = Self {
            simulation: simulation.clone(),
            journal_checks: invariants::JournalChecks::new(&mut events),
            events,
            callback_log: Rc::default(),
            clients: Vec::new(),
            has_timeouts: simulation.random_below(4) == 0,
            datagrams: 0,
            replies: 0,
            peers: BTreeSet::new(),
            transient_socket: Rc::default(),
            panicking_sessions: Rc::new(()),
            servers: SimServers::new(simulation),
            removals: Removals::new(simulation, &outbound_log, timer_panic_injector.clone()),
            outbound_log,
            timer_checks: Rc::default(),
            watches: watches::Watches::new(timer_panic_injector.clone()),
            outbound_handler: Rc::default(),
            panicking_handler: None,
            timer_panic_injector,
            panic_injector,
        };
        run.events.catch_panics(true);
        if simulation.random_below(4) == 0 {
            let bytes = usize::try_from(simulation.random_below(100_000)).expect("a length");
            run.events.context.buffer_pool.set_bytes_max(bytes);
        }
        run.attach_handlers();
        run.attach_outbound_handler();
        run.removals.others = stream_handlers(&run.events.context);
        run.inject_faults();
        run
    }

    fn attach_handlers(&mut self) {
        let (callback_log, simulation) = (&self.callback_log, &self.simulation);
        let echo =
            self.events.attach(EchoHandler { callback_log: Rc::clone(callback_log), simulation: simulation.clone() });
        let greeter = |greets_on_open| GreetHandler {
            callback_log: Rc::clone(callback_log),
            simulation: simulation.clone(),
            echo,
            greets_on_open,
        };
        let (greet, banner) = (greeter(false), greeter(true));
        let outbound_log = Rc::clone(&self.outbound_log);
        let panicking_handler = PanickingHandler {
            panic_injector: self.panic_injector.clone(),
            outbound_log,
            session: Rc::clone(&self.panicking_sessions),
        };
        let panicking_handler = self.events.attach(panicking_handler);
        self.panicking_handler = Some(panicking_handler);
        let [at_greet, at_echo, at_lines, at_banner, at_panic, at_proxy] =
            Service::ALL.map(|service| service.listen(&self.simulation, self.has_timeouts));
        self.events.listen_for(at_panic, panicking_handler).expect("the address is free");
        let proxy = self.proxy();
        self.events.listen(at_proxy, proxy).expect("the address is free");
        self.events.listen(at_greet, greet).expect("the address is free");
        self.events.listen_for(at_echo, echo).expect("the address is free");
        self.events.listen(at_banner, banner).expect("the address is free");
        let answer = |connection: &mut Connection<'_>, line: &[u8]| {
            connection.send(&[line, b"!\n"].concat()).expect("half an outbox is free");
        };
        self.events.listen(at_lines, framing::lines(100, answer)).expect("the address is free");
        let panic_injector = (self.simulation.random_below(2) == 0).then(|| self.panic_injector.clone());
        let answer = move |datagram: &mut Datagram<'_>, _: &[u8]| {
            datagram.reply(UDP_REPLY);
            if let Some(panic_injector) = &panic_injector {
                panic_injector.maybe_panic(8);
            }
        };
        self.events.bind(Bind::from(UDP), datagrams(answer.clone())).expect("the address is free");
        self.events.bind(Bind::from(UDP_WILDCARD).broadcast(true), datagrams(answer)).expect("the address is free");
    }

    fn proxy(&self) -> ProxyHandler {
        let to = Connect::from(PROXY_TARGET).idle_timeout(None).write_timeout(None);
        let small = usize::try_from(1 + self.simulation.random_below(2_000)).expect("a length");
        let to =
            if self.simulation.random_below(3) == 0 { to.outbox_bytes_max(small).input_bytes_max(small) } else { to };
        ProxyHandler { callback_log: Rc::clone(&self.callback_log), outbound_log: Rc::clone(&self.outbound_log), to }
    }

    fn attach_outbound_handler(&mut self) {
        let outbound_handler = self.events.attach(OutboundHandler {
            callback_log: Rc::clone(&self.callback_log),
            outbound_log: Rc::clone(&self.outbound_log),
            timer_checks: Rc::clone(&self.timer_checks),
            simulation: self.simulation.clone(),
            own_id: Rc::clone(&self.outbound_handler),
            panic_injector: self.timer_panic_injector.clone(),
        });
        self.outbound_handler.set(Some(outbound_handler));
    }

    /// Decides what goes wrong.
    fn inject_faults(&self) {
        for fault in Fault::ALL {
            if self.simulation.random_below(2) == 0 {
                self.simulation.inject(fault, 2 + self.simulation.random_below(30));
            }
        }
        if self.simulation.random_below(4) == 0 {
            let extra_fds = usize::try_from(2 + self.simulation.random_below(4)).expect("a count");
            let reserved = self.events.context.listeners.iter().map(|(_, entry)| entry.reserve.len()).sum::<usize>();
            self.simulation.set_descriptors_max(9 + extra_fds + reserved);
            self.outbound_log.borrow_mut().may_fail = true;
        }
        // A clock that jumps ends lingers and limits early: there a client is promised nothing but order.
        for fault in [Fault::Clock, Fault::Pause] {
            if self.simulation.random_below(3) > 0 {
                self.simulation.inject(fault, 0);
            }
        }
        let has = |fault| self.simulation.world.borrow().faults.has(fault);
        if has(Fault::Pause) {
            // SIGCONT interrupts a poll (signal(7)).
            self.simulation.inject(Fault::Poll, 2);
        }
        let may_fail = [Fault::Connect, Fault::Register, Fault::Clock, Fault::Pause].into_iter().any(has);
        self.outbound_log.borrow_mut().may_fail |= may_fail;
    }

    fn turn(&mut self, wait: Duration) -> Turn {
        self.simulation.world.borrow_mut().call_counts.clear();
        let turn = self.events.turn(Some(wait)).expect("no error is the loop's");
        assert_eq!(
            self.events.stats().panics,
            self.panic_injector.injected.get(),
            "a callback without a planned panic has panicked"
        );
        invariants::check(&self.events, &self.simulation.world.borrow());
        let calls = std::mem::take(&mut self.simulation.world.borrow_mut().calls);
        self.journal_checks.journal_has_every_call(&self.events, calls);
        if !matches!(turn, Turn::Stopped(_)) {
            self.outbound_log.borrow().assert_notes_are_delivered(&self.events.context);
            self.timer_checks.borrow().assert_none_is_late(&self.events.context);
            self.removals.assert_handlers_are_counted(&self.events.context);
            self.watches.assert_none_is_forgotten(&self.events.context);
        }
        turn
    }

    fn random_step(&mut self) {
        self.servers.step(&self.simulation);
        match self.simulation.random_below(15) {
            0..3 if self.clients.len() < 12 => self.add_client(),
            3 if self.simulation.random_below(3) == 0 => self.change_transient_socket(),
            3 => self.send_datagram(),
            4 => self.simulation.advance(Duration::from_micros(self.simulation.random_below(5_000))),
            5 => self.open_outbound(),
            6 => {
                let outbound_handler = self.outbound_handler.get().expect("it is attached");
                change_timers(
                    &self.timer_checks,
                    &self.simulation,
                    &mut self.events,
                    outbound_handler,
                    self.timer_panic_injector.as_ref(),
                );
            }
            7 => self.notify(),
            8 | 9 => self.removals.step(&mut self.events),
            10 => self.watches.step(&self.simulation, &mut self.events),
            _ => {
                let index = usize::try_from(self.simulation.random_below(self.clients.len() as u64)).expect("an index");
                if let Some(client) = self.clients.get_mut(index) {
                    client.step();
                }
            }
        }
    }

    fn add_client(&mut self) {
        let service =
            Service::ALL[usize::try_from(self.simulation.random_below(Service::ALL.len() as u64)).expect("an index")];
        let client = self.simulation.connect(SocketAddr::new(HOST, service as u16)).expect("the service listens");
        let number = u8::try_from(self.clients.len()).expect("a few");
        self.clients.push(PlannedClient::new(&self.simulation, client, service, number));
    }

    fn open_outbound(&mut self) {
        if self.simulation.random_below(8) > 0 {
            let outbound_handler = self.outbound_handler.get().expect("it is attached");
            return open_outbound(&self.outbound_log, &self.simulation, self.events.context(), outbound_handler);
        }
        // One that panics in whatever comes of it.
        let (panicking_handler, context) = (self.panicking_handler.expect("it is attached"), self.events.context());
        let id = context.connect(Target::Answers.address(), panicking_handler);
        context.notify(id, 0);
        context.schedule(panicking_handler, Duration::from_millis(1), 0);
        self.outbound_log.borrow_mut().requested += 1;
    }

    /// Turns until every client has all that it is owed.
    fn run_until_served(&mut self) {
        for client in &mut self.clients {
            while client.step() {}
        }
        self.timer_checks.borrow().stop_requested.set(true);
        self.watches.stop_requested.set(true);
        self.removals.remove_all(&mut self.events);
        for turn in 0..TURNS_MAX {
            let _ = self.turn(Duration::from_millis(100));
            for client in &mut self.clients {
                client.read();
            }
            self.servers.step(&self.simulation);
            let is_quiet = self.servers.are_finished()
                && self.outbound_log.borrow().are_finished()
                && self.timer_checks.borrow().are_finished()
                && self.removals.are_finished()
                && self.watches.are_finished();
            if turn > 20 && is_quiet && self.clients.iter().all(PlannedClient::is_finished) && self.datagrams_are_in() {
                return self.run_until_idle();
            }
        }
        assert!(
            self.outbound_log.borrow().are_finished() && self.timer_checks.borrow().are_finished(),
            "a call or a timer is left"
        );
        for client in &self.clients {
            assert!(client.is_finished(), "after {TURNS_MAX} turns there is no answer for {client:?}");
        }
        assert!(self.removals.are_finished(), "handlers are left that nothing uses");
        assert!(self.watches.are_finished(), "a watch that is ready was not called");
        assert!(self.datagrams_are_in(), "datagrams are left");
    }

    /// With nothing left to do, the loop does not spin.
    fn run_until_idle(&mut self) {
        for _ in 0..1_000 {
            let turn = self.turn(Duration::from_micros(1));
            if turn == Turn::Idle && self.events.next_timeout() != Some(Duration::ZERO) {
                return;
            }
            self.simulation.advance(Duration::from_millis(50));
        }
        panic!("the loop has nothing to do, and no rest");
    }

    /// Checks what has arrived at clients, and at servers that were called. A client of the proxy is owed nothing if
    /// the connection that was made for it has met an error, or could not be made.
    fn check_streams(&self, is_lenient: bool) {
        let (outbound_log, faulted) = (self.outbound_log.borrow(), self.servers.faulted().collect::<BTreeSet<_>>());
        for client in &self.clients {
            let proxied = outbound_log.proxied.get(&client.address());
            let is_excused = outbound_log.failed_proxied.contains(&client.address())
                || proxied.is_some_and(|proxied| faulted.contains(proxied));
            client.check(is_lenient || client.service == Service::Proxy && is_excused);
        }
        self.servers.check(&outbound_log, is_lenient);
    }

    /// Drains while some clients are still connected, and ends in time. Requests before the drain are answered if there is time.
    fn drain(&mut self) {
        let first = self.clients.len();
        for _ in 0..self.simulation.random_below(10) {
            self.add_client();
        }
        // The clients of an echo send during the drain.
        for client in self.clients[first..].iter_mut().filter(|client| client.service != Service::Echo) {
            while client.step() {}
        }
        for _ in 0..self.simulation.random_below(4) {
            self.send_datagram();
        }
        for _ in 0..self.simulation.random_below(3) {
            self.open_outbound();
        }
        let waits = self.events.stats().connections > 0 || first < self.clients.len();
        let before: Vec<ConnectionId> = self.callback_log.borrow().open.iter().copied().collect();
        let grace = Duration::from_millis(self.simulation.random_below(4_000));
        let end = self.simulation.elapsed() + grace;
        self.events.context().drain(grace);
        let mut late_turns = 0;
        let report = loop {
            self.servers.step(&self.simulation);
            self.clients[first..].iter_mut().for_each(|client| _ = client.step());
            late_turns += u32::from(self.simulation.elapsed() > end);
            if let Turn::Stopped(report) = self.turn(Duration::from_secs(10)) {
                break report;
            }
            assert!(late_turns <= u32::from(limits::LATE_TURNS_MAX), "the drain goes on past its end");
        };
        assert_eq!(self.events.turn(None).expect("it has stopped"), Turn::Stopped(report));
        let may_take_long = waits || self.transient_socket.borrow().is_kept() || grace <= Duration::from_secs(2);
        assert!(may_take_long || report.elapsed <= grace / 2, "with nothing left, the drain took {report:?}");
        if grace > Duration::from_secs(1) {
            self.callback_log.borrow().assert_notified(&before);
            self.check_datagrams();
            assert!(self.datagrams_are_in(), "datagrams that were waiting are handled in a drain");
            self.transient_socket.borrow().assert_drained();
        }
        self.watches.take_back(&mut self.events);
        // The loop is gone; what its kernel has taken still goes out.
        for _ in 0..200 {
            self.simulation.world.borrow_mut().advance_network();
        }
        for client in self.clients[first..].iter().filter(|client| client.service == Service::Greet) {
            client.check(report.elapsed >= grace);
        }
        self.clients.iter().for_each(PlannedClient::check_ended_echo);
        assert!(self.callback_log.borrow().open.is_empty(), "a connection that was opened is closed");
        self.journal_checks.check_end();
        let (outbound_log, stats) = (self.outbound_log.borrow(), self.events.stats());
        assert!(outbound_log.are_finished(), "each requested connection was opened and closed, or has failed");
        assert_eq!(
            (stats.connects, stats.connect_errors),
            (outbound_log.requested, outbound_log.failed),
            "and counted"
        );
        assert_eq!(
            Rc::strong_count(&self.panicking_sessions),
            2,
            "every session is dropped, its handler's panics or not"
        );
    }
}

/// One run of a seed.
pub(crate) fn run(simulation: &Simulation) {
    let mut run = Workload::new(simulation);
    for _ in 0..20 + simulation.random_below(60) {
        run.random_step();
        let wait = Duration::from_micros(run.simulation.random_below(2_000));
        let _ = run.turn(wait);
    }
    let is_late = [Fault::Clock, Fault::Pause].iter().any(|fault| run.simulation.world.borrow().faults.has(*fault));
    run.simulation.clear_faults();
    run.run_until_served();
    let had_resets = run.events.stats().closed(CloseReason::OutOfMemory) > 0;
    run.check_streams(is_late || run.has_timeouts || had_resets);
    run.check_datagrams();
    run.drain();
}

#[test]
fn every_client_is_served_whatever_the_network_does() {
    // `.ci/run` continues here, with a release build.
    crate::testing::check(0..2_500, run);
}

#[test]
#[ignore = "minutes even in a release build: cargo test --release --lib a_million -- --ignored"]
fn a_million_worlds_serve_every_client() {
    crate::testing::check(0..1_000_000, run);
}
