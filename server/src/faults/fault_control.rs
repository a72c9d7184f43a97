//! The faults of all listeners, which the admin endpoint can replace.
//!
//! A change is made as a whole or not at all.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::cli::fault_rule::{Fault, FaultRule, FaultSetting, WHOLE_SHARE};
use crate::text::bound_address::BoundSocket;
use crate::text::escape;
use crate::text::protocol::Protocol;
use crate::text::served_socket::ServedSocket;

/// The faults of the server; all workers and the admin endpoint share them.
#[derive(Debug)]
pub(crate) struct FaultControl {
    seed: u32,
    /// Whether the mode sends replies.
    sends_replies: bool,
    /// Rises with every change.
    version: AtomicU64,
    plan: Mutex<Plan>,
}

/// The rules, and what they mean for each listener.
#[derive(Debug, Default)]
struct Plan {
    /// Empty until all listeners are open.
    sockets: Vec<Socket>,
    rules: Vec<Arc<CountedRule>>,
    /// In the order of the sockets.
    tables: Vec<Arc<FaultTable>>,
    exchanges: Arc<AtomicU64>,
}

/// A listener, as given and as bound.
#[derive(Debug)]
struct Socket {
    wanted: Arc<ServedSocket>,
    bound: ServedSocket,
}

/// A rule, and how often it was carried out.
#[derive(Debug)]
pub(crate) struct CountedRule {
    pub(crate) rule: FaultRule,
    pub(crate) injected: AtomicU64,
}

/// The rules of one listener.
#[derive(Debug, Default)]
pub(crate) struct FaultTable {
    /// Each with the end of its range of draws. Its range begins where the one before ends.
    rules: Vec<(u32, Arc<CountedRule>)>,
    /// Draws for all listeners since the last change.
    exchanges: Arc<AtomicU64>,
}

impl FaultTable {
    /// Whether no client meets a fault, so that none is drawn.
    pub(crate) const fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The faults of the rules.
    pub(crate) fn faults(&self) -> impl Iterator<Item = Fault> {
        self.rules.iter().map(|(_, counted)| counted.rule.fault)
    }

    /// Counts a draw below [`WHOLE_SHARE`], and returns the rule that it hits.
    pub(crate) fn find(&self, draw: u32) -> Option<&Arc<CountedRule>> {
        self.exchanges.fetch_add(1, Ordering::Relaxed);
        self.rules.iter().find(|(end, _)| draw < *end).map(|(_, rule)| rule)
    }
}

impl FaultControl {
    /// The faults of the command line, which apply after [`start`](Self::start).
    pub(crate) fn new(settings: &[FaultSetting], seed: u32, sends_replies: bool) -> Self {
        // The command line was checked: none stands alone.
        let rules = FaultSetting::rules(settings).unwrap_or_default();
        let plan = Plan { rules: count_rules(rules), ..Plan::default() };
        Self { seed, sends_replies, version: AtomicU64::new(0), plan: Mutex::new(plan) }
    }

    pub(crate) const fn seed(&self) -> u32 {
        self.seed
    }

    /// Sets the listeners, all of which are open. An error names a fault that no client can meet.
    pub(crate) fn start(&self, sockets: impl Iterator<Item = (Arc<ServedSocket>, BoundSocket)>) -> Result<(), String> {
        let mut plan = self.plan();
        plan.sockets = sockets
            .map(|(wanted, (_, address))| Socket { bound: ServedSocket { address, ..(*wanted).clone() }, wanted })
            .collect();
        let rules = plan.rules.clone();
        self.set_rules(&mut plan, rules)
    }

    /// Replaces the rules by those of a text, separated by semicolons or newlines. Returns the new rules in one line.
    pub(crate) fn replace(&self, text: &str) -> Result<String, String> {
        let lines = text.split(['\n', ';']).map(str::trim).filter(|line| !line.is_empty());
        let rules = FaultSetting::rules(&lines.map(str::parse).collect::<Result<Vec<FaultSetting>, String>>()?)?;
        let mut plan = self.plan();
        if plan.sockets.is_empty() {
            return Err("the server is starting; try again".to_owned());
        }
        self.set_rules(&mut plan, count_rules(rules))?;
        Ok(list_rules(&plan.rules))
    }

    fn set_rules(&self, plan: &mut Plan, rules: Vec<Arc<CountedRule>>) -> Result<(), String> {
        let exchanges = Arc::new(AtomicU64::new(0));
        let tables = make_tables(&plan.sockets, &rules, &exchanges, self.sends_replies)?;
        (plan.rules, plan.tables, plan.exchanges) = (rules, tables, exchanges);
        self.version.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// The number of the last change.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The number of the last change, the rules of a listener, and its position among the listeners.
    pub(crate) fn table(&self, socket: &BoundSocket) -> (u64, Arc<FaultTable>, usize) {
        let plan = self.plan();
        let is_it = |open: &Socket| (open.bound.protocol, &open.bound.address) == (socket.0, &socket.1);
        let index = plan.sockets.iter().position(is_it);
        let table = index.and_then(|index| plan.tables.get(index)).cloned().unwrap_or_default();
        (self.version(), table, index.unwrap_or_default())
    }

    /// All rules in one line, or `none`.
    pub(crate) fn list(&self) -> String {
        list_rules(&self.plan().rules)
    }

    /// The rules as JSON, with the numbers since the last change.
    pub(crate) fn json(&self) -> String {
        let plan = self.plan();
        let rules = plan.rules.iter().map(|counted| {
            let CountedRule { rule, injected } = &**counted;
            let (text, injected) = (escape::json(rule.to_string().as_bytes()), injected.load(Ordering::Relaxed));
            format!("\n{{\"fault\":{text},\"injected\":{injected}}}")
        });
        let (rules, exchanges) = (rules.collect::<Vec<_>>().join(","), plan.exchanges.load(Ordering::Relaxed));
        format!("{{\"enabled\":true,\"seed\":{},\"exchanges\":{exchanges},\"faults\":[{rules}\n]}}\n", self.seed)
    }

    /// Locks, also after a panic of another thread: the plan is replaced as a whole.
    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count_rules(rules: Vec<FaultRule>) -> Vec<Arc<CountedRule>> {
    rules.into_iter().map(|rule| Arc::new(CountedRule { rule, injected: AtomicU64::new(0) })).collect()
}

fn list_rules(rules: &[Arc<CountedRule>]) -> String {
    if rules.is_empty() {
        return "none".to_owned();
    }
    rules.iter().map(|counted| counted.rule.to_string()).collect::<Vec<_>>().join("; ")
}

/// The rules of each listener; an error for a rule without effect, and for shares of more than the whole.
fn make_tables(
    sockets: &[Socket],
    rules: &[Arc<CountedRule>],
    exchanges: &Arc<AtomicU64>,
    sends_replies: bool,
) -> Result<Vec<Arc<FaultTable>>, String> {
    for CountedRule { rule, .. } in rules.iter().map(AsRef::as_ref) {
        let kind = rule.fault.kind();
        if kind.needs_reply() && !sends_replies {
            return Err(format!(
                "the fault {rule} has no effect: discard sends no reply; use reset, silence or refuse"
            ));
        }
        if !sockets.iter().any(|Socket { wanted, .. }| kind.fits(wanted.protocol)) {
            let missing = if kind.fits(Protocol::Udp) { "UDP is not" } else { "neither TCP nor a unix socket is" };
            return Err(format!(
                "the fault {rule} has no effect: {missing} served; serve it, too, or leave the fault out"
            ));
        }
        if !sockets.iter().any(|Socket { wanted, bound }| rule.applies_to(wanted, bound)) {
            let listeners = sockets.iter().filter(|Socket { wanted, .. }| kind.fits(wanted.protocol));
            let names: Vec<String> = listeners.map(|Socket { bound, .. }| name_of(bound)).collect();
            let names = names.join(" or ");
            return Err(format!("the fault {rule} has no effect: no listener has that name; write {names}"));
        }
    }
    let make_table = |Socket { wanted, bound }: &Socket| {
        let mut table = FaultTable { rules: Vec::new(), exchanges: Arc::clone(exchanges) };
        let mut sum = 0;
        for counted in rules.iter().filter(|counted| counted.rule.applies_to(wanted, bound)) {
            sum += counted.rule.share;
            if sum > WHOLE_SHARE {
                let socket = name_of(bound);
                return Err(format!("the shares of the faults of {socket} are more than 100%; add share= to each"));
            }
            table.rules.push((sum, Arc::clone(counted)));
        }
        Ok(Arc::new(table))
    };
    sockets.iter().map(make_table).collect()
}

/// The name of a socket for `listener=`.
fn name_of(socket: &ServedSocket) -> String {
    format!("{}:{}", socket.protocol, socket.address)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use super::{FaultControl, WHOLE_SHARE};
    use crate::text::bound_address::BoundSocket;
    use crate::text::protocol::Protocol;
    use crate::text::served_socket::ServedSocket;

    fn bound(protocol: Protocol, port: u16) -> BoundSocket {
        (protocol, SocketAddr::from(([127, 0, 0, 1], port)).into())
    }

    /// The faults of a server with these ports.
    fn start(rules: &str, tcp: &[u16], udp: &[u16], sends_replies: bool) -> Result<FaultControl, String> {
        let settings: Vec<_> = rules.split(';').map(|rule| rule.parse().unwrap()).collect();
        let control = FaultControl::new(&settings, 7, sends_replies);
        let sockets = tcp.iter().map(|port| (Protocol::Tcp, *port));
        let sockets = sockets.chain(udp.iter().map(|port| (Protocol::Udp, *port)));
        let wanted = |protocol| Arc::new(ServedSocket { protocol, ..(*ServedSocket::for_test()).clone() });
        control.start(sockets.map(|(protocol, port)| (wanted(protocol), bound(protocol, port))))?;
        Ok(control)
    }

    /// The text of the rule that a draw hits.
    fn hit(control: &FaultControl, socket: &BoundSocket, draw: u32) -> String {
        let (_, table, _) = control.table(socket);
        table.find(draw).map_or_else(|| "-".to_owned(), |counted| counted.rule.to_string())
    }

    #[test]
    fn the_rules_share_the_draws_in_their_order_and_apply_to_their_listeners() {
        let rules = "half,share=10%;delay=1s,share=20%;silence,share=5%,listener=81;drop,share=50%";
        let control = start(rules, &[80, 81], &[80], true).unwrap();
        let percent = WHOLE_SHARE / 100;
        for (protocol, port, cases) in [
            (Protocol::Tcp, 80, [(0, "half"), (10, "delay"), (29, "delay"), (30, "-"), (99, "-")]),
            (Protocol::Tcp, 81, [(9, "half"), (10, "delay"), (30, "silence"), (34, "silence"), (35, "-")]),
            (Protocol::Udp, 80, [(0, "delay"), (19, "delay"), (20, "drop"), (69, "drop"), (70, "-")]),
        ] {
            for (draw, expected) in cases {
                let hit = hit(&control, &bound(protocol, port), draw * percent);
                assert!(hit.starts_with(expected), "{protocol} {port} {draw}: {hit}");
            }
        }
    }

    #[test]
    fn faults_that_no_client_can_meet_and_shares_above_the_whole_are_refused() {
        for (rules, tcp, udp, sends_replies, parts) in [
            ("drop", &[80][..], &[][..], true, ["drop has no effect", "UDP is not served"]),
            ("half", &[], &[53], true, ["half has no effect", "neither TCP nor a unix socket is served"]),
            ("half,listener=81", &[80], &[], true, ["no listener has that name", "write tcp:127.0.0.1:80"]),
            ("half,listener=53", &[80], &[53], true, ["no listener", "tcp:127.0.0.1:80"]),
            ("half", &[80], &[], false, ["half has no effect", "discard sends no reply"]),
            ("half,share=60%;reset=0,share=41%", &[80], &[], true, ["tcp:127.0.0.1:80", "more than 100%"]),
            ("half;delay=1s", &[80], &[], true, ["more than 100%", "share="]),
        ] {
            let error = start(rules, tcp, udp, sends_replies).unwrap_err();
            assert!(parts.iter().all(|part| error.contains(part)), "{rules}: {error}");
        }
        assert!(start("half;drop", &[80], &[53], true).is_ok());
        assert!(start("half,listener=80;reset=0,listener=81", &[80, 81], &[], true).is_ok());
        assert!(start("silence", &[80], &[], false).is_ok());
    }

    #[test]
    fn a_change_replaces_all_rules_and_a_wrong_line_none() {
        let control = start("half,share=1%", &[80], &[], true).unwrap();
        let (version, ..) = control.table(&bound(Protocol::Tcp, 80));
        for wrong in ["half\nexplode", "drop", "half\nhalf"] {
            assert!(control.replace(wrong).is_err(), "{wrong}");
            assert_eq!((control.version(), control.list()), (version, "half,share=1%".to_owned()));
        }
        hit(&control, &bound(Protocol::Tcp, 80), 0);
        assert!(control.json().contains("\"exchanges\":1,"), "{}", control.json());
        let listed = control.replace("\r\n reset=0,share=1% \n;\nsilence,share=2%\n").unwrap();
        assert_eq!((listed.as_str(), control.list()), ("reset=0,share=1%; silence,share=2%", listed.clone()));
        assert_eq!(control.version(), version + 1);
        assert!(control.json().contains("\"exchanges\":0,"), "{}", control.json());
        for empty in ["", "\n", "none\n"] {
            assert_eq!(control.replace(empty).as_deref(), Ok("none"));
            assert_eq!(hit(&control, &bound(Protocol::Tcp, 80), 0), "-");
        }
    }

    #[test]
    fn before_the_listeners_are_open_nothing_is_changed() {
        let control = FaultControl::new(&[], 7, true);
        assert!(control.replace("half").unwrap_err().contains("starting"));
    }
}
