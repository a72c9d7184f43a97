//! Notifications to the supervisor: `NOTIFY_SOCKET` of `sd_notify(3)`.
//!
//! A supervisor that is gone or blocked never delays a client.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Arc, Once, Weak};
use std::time::{Duration, Instant};

use halloo::Handle;
use sd_notify::NotifyState;

/// How long `READY=1` may wait for a supervisor that is busy.
const READY_SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// However short the watchdog period, the loop has time for its clients.
const PING_INTERVAL_MIN: Duration = Duration::from_millis(1);

/// Sends notifications to the supervisor, if there is one.
#[derive(Clone, Debug)]
pub(crate) struct SdNotifier(Option<Arc<NotifySocket>>);

/// A socket that stays open, so that it works without a free descriptor, and the address, which is looked up for each
/// message, so that a restarted supervisor is found.
///
/// The crate writes the messages and does not send them: its own function blocks for as long as the queue is full.
#[derive(Debug)]
struct NotifySocket {
    socket: UnixDatagram,
    address: SocketAddr,
    send_stopping: Once,
}

impl SdNotifier {
    /// A notifier for the socket in `NOTIFY_SOCKET`; a disabled one if there is none.
    pub(crate) fn from_env() -> Self {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Self::disabled();
        };
        match NotifySocket::open(&name) {
            Ok(socket) => Self(Some(Arc::new(socket))),
            Err(error) => {
                log::debug!("NOTIFY_SOCKET is of no use: {error}");
                Self::disabled()
            }
        }
    }

    /// A notifier that sends nothing.
    pub(crate) const fn disabled() -> Self {
        Self(None)
    }

    /// Sends `READY=1`: every socket is open.
    pub(crate) fn notify_ready(&self) {
        if let Some(notify_socket) = &self.0 {
            notify_socket.send(&NotifyState::Ready);
            // From now on there are clients to be served.
            if let Err(error) = notify_socket.socket.set_nonblocking(true) {
                log::debug!("cannot make the way to the supervisor non-blocking: {error}");
            }
        }
    }

    /// Sends `STOPPING=1`, once, however often it is called.
    pub(crate) fn notify_stopping(&self) {
        if let Some(notify_socket) = &self.0 {
            notify_socket.send_stopping.call_once(|| notify_socket.send(&NotifyState::Stopping));
        }
    }

    /// The watchdog that `WATCHDOG_USEC` asks for; one loop pings it, and the other loops have to confirm each ping.
    pub(crate) fn watchdog(&self, other_loops: &[Handle]) -> Option<Watchdog> {
        let socket = Arc::clone(self.0.as_ref()?);
        let period = sd_notify::watchdog_enabled().filter(|period| !period.is_zero())?;
        let interval = (period / 2).max(PING_INTERVAL_MIN);
        Some(Watchdog {
            socket,
            interval,
            next_ping: Instant::now() + interval,
            other_loops: other_loops.to_vec(),
            pending: Weak::new(),
        })
    }
}

impl NotifySocket {
    fn open(name: &OsStr) -> io::Result<Self> {
        let address = parse_address(name)?;
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(READY_SEND_TIMEOUT))?;
        Ok(Self { socket, address, send_stopping: Once::new() })
    }

    fn send(&self, state: &NotifyState<'_>) {
        let message = state.to_string();
        // Only `READY=1` can be interrupted by a signal: the later messages do not wait.
        while let Err(error) = self.socket.send_to_addr(message.as_bytes(), &self.address) {
            if error.kind() != io::ErrorKind::Interrupted {
                log::debug!("the supervisor does not hear {state}: {error}");
                break;
            }
        }
    }
}

/// A path, or `@` and a name outside the file system.
fn parse_address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'/', ..] => SocketAddr::from_pathname(name),
        [b'@', abstract_name @ ..] => abstract_address(abstract_name),
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

/// Sends a ping twice in each watchdog period while all loops turn.
#[derive(Debug)]
pub(crate) struct Watchdog {
    socket: Arc<NotifySocket>,
    interval: Duration,
    next_ping: Instant,
    other_loops: Vec<Handle>,
    /// The ping that is on its way, if a loop has not confirmed it yet.
    pending: Weak<WatchdogPing>,
}

/// A ping to the watchdog. Every loop holds a clone, and it is sent when the last clone is dropped: by a loop that
/// turns, or because the loop has ended.
#[derive(Debug)]
struct WatchdogPing(Arc<NotifySocket>);

impl Drop for WatchdogPing {
    fn drop(&mut self) {
        self.0.send(&NotifyState::Watchdog);
    }
}

impl Watchdog {
    /// How long the loop may wait before the next ping.
    pub(crate) fn time_until_ping(&self) -> Duration {
        self.next_ping.saturating_duration_since(Instant::now())
    }

    /// Starts a ping if it is due; it is sent when the other loops have confirmed it. To be called between two turns of
    /// the one loop that does not have to confirm.
    pub(crate) fn ping(&mut self) {
        let now = Instant::now();
        if now < self.next_ping {
            return;
        }
        self.next_ping = now + self.interval;
        if self.pending.strong_count() == 0 {
            let ping = Arc::new(WatchdogPing(Arc::clone(&self.socket)));
            self.pending = Arc::downgrade(&ping);
            for handle in &self.other_loops {
                let ping = Arc::clone(&ping);
                // A loop that has ended drops the ping at once.
                let _ = handle.post(move |_| drop(ping));
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
    use tempfile::TempDir;

    use super::{Instant, NotifySocket, PING_INTERVAL_MIN, SdNotifier, Watchdog, parse_address};

    /// The folder of the supervisor's socket, that socket, and one that sends to it.
    fn supervisor() -> (TempDir, UnixDatagram, Arc<NotifySocket>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let receiver = UnixDatagram::bind(&path).unwrap();
        (folder, receiver, Arc::new(NotifySocket::open(path.as_os_str()).unwrap()))
    }

    fn watchdog(socket: Arc<NotifySocket>, other_loops: Vec<Handle>) -> Watchdog {
        Watchdog { socket, interval: PING_INTERVAL_MIN, next_ping: Instant::now(), other_loops, pending: Weak::new() }
    }

    #[test]
    fn a_path_and_an_abstract_name_are_addresses_and_nothing_else() {
        assert!(parse_address(OsStr::new("/run/notify")).is_ok());
        assert_eq!(parse_address(OsStr::new("@halloo")).is_ok(), cfg!(target_os = "linux"));
        for name in ["run/notify", "vsock:2:1234", " ", "/nul\0"] {
            assert!(parse_address(OsStr::new(name)).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_full_queue_delays_the_first_word_a_little_and_the_others_not_at_all() {
        let (_folder, receiver, socket) = supervisor();
        let notifier = SdNotifier(Some(Arc::clone(&socket)));
        notifier.notify_ready();
        let mut watchdog = watchdog(socket, Vec::new());
        let deadline = Instant::now() + PING_INTERVAL_MIN * 5_000;
        // Far more messages than a queue holds; a send that blocks would never return.
        for _ in 0..2_000 {
            assert!(Instant::now() < deadline);
            watchdog.next_ping = Instant::now();
            watchdog.ping();
            assert!(watchdog.time_until_ping() <= PING_INTERVAL_MIN);
        }
        notifier.notify_stopping();
        let mut message = [0; 64];
        let count = receiver.recv(&mut message).unwrap();
        assert_eq!(&message[..count], b"READY=1");
    }

    #[test]
    fn the_word_is_said_once_every_other_loop_has_turned_or_ended() {
        let (_folder, receiver, socket) = supervisor();
        receiver.set_nonblocking(true).unwrap();
        let count_messages = || std::iter::from_fn(|| receiver.recv(&mut [0; 64]).ok()).count();
        let [mut running, mut stalled] = [EventLoop::new().unwrap(), EventLoop::new().unwrap()];
        let mut watchdog = watchdog(socket, vec![running.handle(), stalled.handle()]);
        for _ in 0..3 {
            watchdog.next_ping = Instant::now();
            watchdog.ping();
            let _ = running.turn(Some(Duration::ZERO)).unwrap();
            assert_eq!(count_messages(), 0, "one loop is stalled");
        }
        let _ = stalled.turn(Some(Duration::ZERO)).unwrap();
        assert_eq!(
            (count_messages(), stalled.stats().jobs),
            (1, 1),
            "it confirms one ping, however long it was stalled"
        );
        drop(stalled);
        watchdog.next_ping = Instant::now();
        watchdog.ping();
        let _ = running.turn(Some(Duration::ZERO)).unwrap();
        assert_eq!(count_messages(), 1, "a loop that has ended has nothing to confirm");
    }

    #[test]
    fn the_end_is_told_once() {
        let (_folder, receiver, socket) = supervisor();
        receiver.set_nonblocking(true).unwrap();
        let notifier = SdNotifier(Some(socket));
        notifier.notify_stopping();
        notifier.clone().notify_stopping();
        let mut message = [0; 64];
        let count = receiver.recv(&mut message).unwrap();
        assert_eq!(&message[..count], b"STOPPING=1");
        assert!(receiver.recv(&mut message).is_err());
    }
}
