//! Draws the fault of each exchange with one listener, and notes it.
//!
//! There is one draw for each exchange, whatever its fault: the same seed gives the same sequence.

use std::cell::{Cell, OnceCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::cli::fault_rule::{Fault, WHOLE_SHARE};
use crate::faults::fault_control::{CountedRule, FaultControl, FaultTable};
use crate::greeting::worker_counters::WorkerCounters;
use crate::output::event_log::EventLog;
use crate::text::bound_address::{Addresses, BoundSocket};
use crate::text::fault_event::FaultEvent;

/// The faults of one worker.
#[derive(Clone)]
pub(crate) struct WorkerFaults {
    pub(crate) control: Arc<FaultControl>,
    /// The first worker has number 1.
    pub(crate) worker_number: usize,
    pub(crate) event_log: EventLog,
    pub(crate) counters: Arc<WorkerCounters>,
    /// How many more bytes of output all connections of the worker together may hold back.
    pub(crate) held_bytes_left: Rc<Cell<usize>>,
}

impl WorkerFaults {
    /// The faults of a listener, whose address is set when it is bound.
    pub(crate) fn source(&self, socket: Rc<OnceCell<BoundSocket>>) -> FaultSource {
        FaultSource {
            worker: self.clone(),
            socket,
            version: None,
            table: Arc::default(),
            decisions: Rng::with_seed(0),
            times: Rng::with_seed(0),
        }
    }
}

/// The faults of one listener on one worker.
pub(crate) struct FaultSource {
    pub(crate) worker: WorkerFaults,
    socket: Rc<OnceCell<BoundSocket>>,
    /// The change that the following were made for.
    version: Option<u64>,
    table: Arc<FaultTable>,
    decisions: Rng,
    /// Apart from the decisions, so that their sequence does not depend on the faults.
    times: Rng,
}

/// A fault that an exchange meets.
#[derive(Clone, Debug)]
pub(crate) struct DrawnFault {
    pub(crate) fault: Fault,
    rule: Arc<CountedRule>,
}

impl FaultSource {
    /// Draws for one exchange. After a change of the faults, the sequence begins again.
    pub(crate) fn draw(&mut self) -> Option<DrawnFault> {
        self.load_changes();
        if self.table.is_empty() {
            return None;
        }
        self.worker.counters.fault_exchanges.add_one();
        let rule = self.table.find(self.decisions.u32(..WHOLE_SHARE))?;
        Some(DrawnFault { fault: rule.rule.fault, rule: Arc::clone(rule) })
    }

    /// A time within these limits.
    pub(crate) fn draw_time(&mut self, min: Duration, max: Duration) -> Duration {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.times.u64(micros(min)..=micros(max)))
    }

    /// Counts a fault that was carried out, and logs its event.
    pub(crate) fn note(
        &self,
        now: Instant,
        drawn: &DrawnFault,
        delay: Option<Duration>,
        addresses: impl FnOnce() -> Addresses,
    ) {
        let kind = drawn.fault.kind();
        drawn.rule.injected.fetch_add(1, Ordering::Relaxed);
        self.worker.counters.faults(kind).add_one();
        self.worker
            .event_log
            .log_fault(now, || FaultEvent::new(addresses(), kind.as_str(), drawn.rule.rule.to_string(), delay));
    }

    /// Whether clients may meet this very fault.
    pub(crate) fn has_rule_of(&mut self, fault: Fault) -> bool {
        self.load_changes();
        self.table.faults().any(|one| one == fault)
    }

    fn load_changes(&mut self) {
        if self.version != Some(self.worker.control.version()) {
            self.load();
        }
    }

    #[cold]
    fn load(&mut self) {
        let Some(socket) = self.socket.get() else { return };
        let WorkerFaults { control, worker_number, .. } = &self.worker;
        let (version, table, index) = control.table(socket);
        (self.version, self.table) = (Some(version), table);
        // A listener of each worker has a sequence of its own.
        let place = (*worker_number as u64) << 32 | (index as u64) << 1;
        let seeded = |part| Rng::with_seed(Rng::with_seed(place | part).u64(..) ^ u64::from(control.seed()));
        (self.decisions, self.times) = (seeded(0), seeded(1));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::{Cell, OnceCell};
    use std::net::SocketAddr;
    use std::rc::Rc;
    use std::sync::Arc;
    use std::time::Duration;

    use super::{FaultSource, WorkerFaults};
    use crate::cli::flags::serve_options::EventStyle;
    use crate::faults::fault_control::FaultControl;
    use crate::output::event_log::EventLog;
    use crate::output::printer_thread::Printer;
    use crate::text::bound_address::BoundSocket;
    use crate::text::protocol::Protocol;
    use crate::text::served_socket::ServedSocket;

    fn port_80() -> BoundSocket {
        (Protocol::Tcp, SocketAddr::from(([127, 0, 0, 1], 80)).into())
    }

    /// The faults of a worker of a server with one socket.
    pub(crate) fn worker_faults(rules: &str, seed: u32, worker_number: usize, socket: BoundSocket) -> WorkerFaults {
        let settings: Vec<_> = rules.split(';').map(|rule| rule.parse().unwrap()).collect();
        let control = FaultControl::new(&settings, seed, true);
        let wanted = ServedSocket { protocol: socket.0, address: socket.1.clone(), given: None };
        control.start([(Arc::new(wanted), socket)].into_iter()).unwrap();
        WorkerFaults {
            control: Arc::new(control),
            worker_number,
            event_log: EventLog::new(Printer::null(), EventStyle::Off),
            counters: Arc::default(),
            held_bytes_left: Rc::new(Cell::new(1 << 20)),
        }
    }

    fn source(rules: &str, seed: u32, worker_number: usize) -> (WorkerFaults, FaultSource) {
        let faults = worker_faults(rules, seed, worker_number, port_80());
        let source = faults.source(Rc::new(OnceCell::from(port_80())));
        (faults, source)
    }

    fn sequence(source: &mut FaultSource) -> Vec<&'static str> {
        (0..1000).map(|_| source.draw().map_or("-", |drawn| drawn.fault.kind().as_str())).collect()
    }

    #[test]
    fn each_share_is_within_binomial_bounds_over_a_hundred_thousand_draws() {
        const DRAWS: u32 = 100_000;
        let shares = [("half", 0.1), ("reset", 0.25), ("silence", 0.003), ("-", 0.647)];
        for seed in 0..3 {
            let (faults, mut source) = source("half,share=10%;reset=0,share=25%;silence,share=0.3%", seed, 1);
            let mut counts = [0_u32; 4];
            for _ in 0..DRAWS {
                let word = source.draw().map_or("-", |drawn| drawn.fault.kind().as_str());
                counts[shares.iter().position(|(kind, _)| *kind == word).unwrap()] += 1;
            }
            for ((kind, share), count) in shares.into_iter().zip(counts) {
                let (mean, variance) = (f64::from(DRAWS) * share, f64::from(DRAWS) * share * (1.0 - share));
                assert!((f64::from(count) - mean).abs() < 5.0 * variance.sqrt(), "{kind} {count} of {mean}");
            }
            assert_eq!(faults.counters.fault_exchanges.get(), u64::from(DRAWS));
        }
    }

    #[test]
    fn the_same_seed_is_the_same_sequence_also_after_a_change() {
        const RULES: &str = "half,share=30%;delay=1ms..9ms,share=30%";
        let (faults, mut first) = source(RULES, 42, 1);
        let (_, mut second) = source(RULES, 42, 1);
        let expected = sequence(&mut first);
        for draw in &expected {
            // Times do not change the decisions.
            second.draw_time(Duration::ZERO, Duration::from_secs(1));
            assert_eq!(second.draw().map_or("-", |drawn| drawn.fault.kind().as_str()), *draw);
        }
        assert_ne!(sequence(&mut first), expected);
        faults.control.replace(&RULES.replace(';', "\n")).unwrap();
        assert_eq!(sequence(&mut first), expected);
    }

    #[test]
    fn another_seed_and_another_worker_have_other_sequences() {
        let sequence_of = |seed, worker| sequence(&mut source("half,share=50%", seed, worker).1);
        assert_ne!(sequence_of(1, 1), sequence_of(2, 1));
        assert_ne!(sequence_of(1, 1), sequence_of(1, 2));
    }

    #[test]
    fn times_are_drawn_from_the_whole_range() {
        let (_, mut source) = source("half", 1, 1);
        let (min, max) = (Duration::from_millis(50), Duration::from_millis(150));
        let times: Vec<Duration> = (0..1000).map(|_| source.draw_time(min, max)).collect();
        assert!(times.iter().all(|time| (min..=max).contains(time)));
        assert!(times.iter().min().unwrap() < &Duration::from_millis(55));
        assert!(times.iter().max().unwrap() > &Duration::from_millis(145));
        assert_eq!(source.draw_time(min, min), min);
    }
}
