//! What is told to the supervisor that started halloo, if there is one and it asks: `NOTIFY_SOCKET` of `sd_notify(3)`.
//!
//! Beside the flow: the crew says when all sockets are open, whoever begins the end says so, and the watchdog is fed
//! while every worker's loop turns. It promises that a supervisor that is gone, stuck or nonsense never holds up a client
//! and costs a log line for debugging at most. Where nobody asks, nothing is said and nobody wakes for it.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Arc, Once, Weak};
use std::time::{Duration, Instant};

use halloo::Handle;
use sd_notify::NotifyState;

/// How long the first word may wait for a supervisor that is busy.
const READY_PATIENCE: Duration = Duration::from_secs(1);

/// However short the period, the loop has time for its clients.
const FEEDING_TIME_MIN: Duration = Duration::from_millis(1);

/// The way to the supervisor, where there is one.
#[derive(Clone, Debug)]
pub(crate) struct Supervisor(Option<Arc<Wire>>);

/// An open socket, so that full descriptor tables silence nobody, and an address to be looked up again for each word,
/// so that a supervisor that starts anew is found.
///
/// The words are the crate's, the sending is not: its own blocks for as long as the queue is full.
#[derive(Debug)]
struct Wire {
    socket: UnixDatagram,
    address: SocketAddr,
    farewell: Once,
}

impl Supervisor {
    /// The one that the environment names.
    pub(crate) fn from_environment() -> Self {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Self::none();
        };
        match Wire::to(&name) {
            Ok(wire) => Self(Some(Arc::new(wire))),
            Err(error) => {
                log::debug!("NOTIFY_SOCKET is of no use: {error}");
                Self::none()
            }
        }
    }

    /// Nobody to tell.
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    /// Every socket is open.
    pub(crate) fn ready(&self) {
        if let Some(wire) = &self.0 {
            wire.say(&NotifyState::Ready);
            // From now on there are clients to be served.
            if let Err(error) = wire.socket.set_nonblocking(true) {
                log::debug!("cannot make the way to the supervisor non-blocking: {error}");
            }
        }
    }

    /// The end begins. Said once, however often it is asked for.
    pub(crate) fn stopping(&self) {
        if let Some(wire) = &self.0 {
            wire.farewell.call_once(|| wire.say(&NotifyState::Stopping));
        }
    }

    /// The watchdog that the environment asks for, to be fed by one loop and to ask these others.
    pub(crate) fn watchdog(&self, others: &[Handle]) -> Option<Watchdog> {
        let wire = Arc::clone(self.0.as_ref()?);
        let period = sd_notify::watchdog_enabled().filter(|period| !period.is_zero())?;
        let every = (period / 2).max(FEEDING_TIME_MIN);
        Some(Watchdog { wire, every, due: Instant::now() + every, others: others.to_vec(), asked: Weak::new() })
    }
}

impl Wire {
    fn to(name: &OsStr) -> io::Result<Self> {
        let address = address(name)?;
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(READY_PATIENCE))?;
        Ok(Self { socket, address, farewell: Once::new() })
    }

    fn say(&self, word: &NotifyState<'_>) {
        let text = word.to_string();
        // Only the first word can be interrupted by a signal: the others do not wait.
        while let Err(error) = self.socket.send_to_addr(text.as_bytes(), &self.address) {
            if error.kind() != io::ErrorKind::Interrupted {
                log::debug!("the supervisor does not hear {word}: {error}");
                break;
            }
        }
    }
}

/// A path, or `@` and a name outside the file system.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'/', ..] => SocketAddr::from_pathname(name),
        [b'@', name @ ..] => abstract_address(name),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is neither a path nor @ and a name")),
    }
}

#[cfg(target_os = "linux")]
fn abstract_address(name: &[u8]) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn abstract_address(_name: &[u8]) -> io::Result<SocketAddr> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Tells the supervisor twice in each period that all loops turn; where one stops to, the supervisor acts.
#[derive(Debug)]
pub(crate) struct Watchdog {
    wire: Arc<Wire>,
    every: Duration,
    due: Instant,
    others: Vec<Handle>,
    /// The word that is on its way, if somebody has not answered yet.
    asked: Weak<Word>,
}

/// A word to the watchdog. It goes from hand to hand, and is said when the last loop that turns, or has ended, lets go
/// of it.
#[derive(Debug)]
struct Word(Arc<Wire>);

impl Drop for Word {
    fn drop(&mut self) {
        self.0.say(&NotifyState::Watchdog);
    }
}

impl Watchdog {
    /// How long the loop may wait before the next word.
    pub(crate) fn wait(&self) -> Duration {
        self.due.saturating_duration_since(Instant::now())
    }

    /// Says the word, if it is due, as soon as the other loops have shown that they turn. To be called by the thread of
    /// the one loop that is not asked, between two of its turns.
    pub(crate) fn feed(&mut self) {
        let now = Instant::now();
        if now < self.due {
            return;
        }
        self.due = now + self.every;
        if self.asked.strong_count() == 0 {
            let word = Arc::new(Word(Arc::clone(&self.wire)));
            self.asked = Arc::downgrade(&word);
            for other in &self.others {
                let word = Arc::clone(&word);
                // A loop that has ended lets go of it at once.
                let _ = other.post(move |_| drop(word));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::net::UnixDatagram;
    use std::sync::{Arc, Weak};
    use std::time::Duration;

    use halloo::{EventLoop, Handle};

    use super::{FEEDING_TIME_MIN, Instant, Supervisor, Watchdog, Wire, address};

    fn watchdog(wire: Arc<Wire>, others: Vec<Handle>) -> Watchdog {
        Watchdog { wire, every: FEEDING_TIME_MIN, due: Instant::now(), others, asked: Weak::new() }
    }

    #[test]
    fn a_path_and_an_abstract_name_are_addresses_and_nothing_else() {
        assert!(address(OsStr::new("/run/notify")).is_ok());
        assert_eq!(address(OsStr::new("@halloo")).is_ok(), cfg!(target_os = "linux"));
        for name in ["run/notify", "vsock:2:1234", " ", "/nul\0"] {
            assert!(address(OsStr::new(name)).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_full_queue_delays_the_first_word_a_little_and_the_others_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let deaf = UnixDatagram::bind(&path).unwrap();
        let wire = Arc::new(Wire::to(path.as_os_str()).unwrap());
        let supervisor = Supervisor(Some(Arc::clone(&wire)));
        supervisor.ready();
        let mut watchdog = watchdog(wire, Vec::new());
        let end = Instant::now() + FEEDING_TIME_MIN * 5_000;
        // Far more words than a queue holds; one that blocks would never come back.
        for _ in 0..2_000 {
            assert!(Instant::now() < end);
            watchdog.due = Instant::now();
            watchdog.feed();
            assert!(watchdog.wait() <= FEEDING_TIME_MIN);
        }
        supervisor.stopping();
        let mut word = [0; 64];
        let count = deaf.recv(&mut word).unwrap();
        assert_eq!(&word[..count], b"READY=1");
    }

    #[test]
    fn the_word_is_said_once_every_other_loop_has_turned_or_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let hears = UnixDatagram::bind(&path).unwrap();
        hears.set_nonblocking(true).unwrap();
        let words = || std::iter::from_fn(|| hears.recv(&mut [0; 64]).ok()).count();
        let [mut turns, mut stands] = [EventLoop::new().unwrap(), EventLoop::new().unwrap()];
        let wire = Arc::new(Wire::to(path.as_os_str()).unwrap());
        let mut watchdog = watchdog(wire, vec![turns.handle(), stands.handle()]);
        for _ in 0..3 {
            watchdog.due = Instant::now();
            watchdog.feed();
            let _ = turns.turn(Some(Duration::ZERO)).unwrap();
            assert_eq!(words(), 0, "one stands still");
        }
        let _ = stands.turn(Some(Duration::ZERO)).unwrap();
        assert_eq!((words(), stands.stats().jobs), (1, 1), "however long it stood, it was asked once");
        drop(stands);
        watchdog.due = Instant::now();
        watchdog.feed();
        let _ = turns.turn(Some(Duration::ZERO)).unwrap();
        assert_eq!(words(), 1, "one that has ended is not waited for");
    }

    #[test]
    fn the_end_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let hears = UnixDatagram::bind(&path).unwrap();
        hears.set_nonblocking(true).unwrap();
        let supervisor = Supervisor(Some(Arc::new(Wire::to(path.as_os_str()).unwrap())));
        supervisor.stopping();
        supervisor.clone().stopping();
        let mut word = [0; 64];
        let count = hears.recv(&mut word).unwrap();
        assert_eq!(&word[..count], b"STOPPING=1");
        assert!(hears.recv(&mut word).is_err());
    }
}
