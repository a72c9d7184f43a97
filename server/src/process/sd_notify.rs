//! Notifications to the supervisor: `NOTIFY_SOCKET` of `sd_notify(3)`.
//!
//! A supervisor that is gone or blocked never delays a client.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Arc, Once, Weak};
use std::thread;
use std::time::{Duration, Instant};

use halloo::Handle;
use sd_notify::NotifyState;

use crate::exit::{TRY_AGAIN, cause_and_hint, describe_io_error};
use crate::text::escape;

/// How long `READY=1` waits between two attempts while the supervisor's queue is full.
const READY_RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// The shortest time between two pings: with a shorter one the loop would have no time for its clients.
const PING_INTERVAL_MIN: Duration = Duration::from_millis(1);

/// Sends notifications to the supervisor, if there is one.
#[derive(Clone, Debug)]
pub(crate) struct SdNotifier(Option<Arc<NotifySocket>>);

/// The socket for notifications, and the supervisor's address.
///
/// The socket stays open: sending then needs no free descriptor. Each message looks up the address again: that finds a
/// restarted supervisor. The sd-notify crate only formats the messages: its function for sending blocks while the
/// queue is full.
#[derive(Debug)]
struct NotifySocket {
    /// The value of `NOTIFY_SOCKET`.
    name: OsString,
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
                warn_unusable(&name, &error);
                Self::disabled()
            }
        }
    }

    /// A notifier that sends nothing.
    pub(crate) const fn disabled() -> Self {
        Self(None)
    }

    /// Sends `READY=1`: every socket is open. If the supervisor's queue is full, a thread sends it later.
    pub(crate) fn notify_ready(&self) {
        let Some(notify_socket) = &self.0 else { return };
        match notify_socket.try_send(&NotifyState::Ready) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let notify_socket = Arc::clone(notify_socket);
                let retry = move || notify_socket.retry_ready();
                if let Err(error) = thread::Builder::new().name("notify".to_owned()).spawn(retry) {
                    let cause = cause_and_hint(&error, TRY_AGAIN);
                    log::warn!(
                        "cannot send READY=1 to the supervisor: its queue is full, and no thread can be started to \
                         retry: {cause}"
                    );
                }
            }
            Err(error) => warn_unusable(&notify_socket.name, &error),
            Ok(()) => {}
        }
    }

    /// Sends `STOPPING=1` at the first call; later calls do nothing.
    pub(crate) fn notify_stopping(&self) {
        if let Some(notify_socket) = &self.0 {
            notify_socket.send_stopping.call_once(|| notify_socket.send(&NotifyState::Stopping));
        }
    }

    /// The watchdog that `WATCHDOG_USEC` requests. One loop pings it, and the other loops confirm each ping.
    pub(crate) fn watchdog(&self, other_loops: Vec<Handle>) -> Option<Watchdog> {
        let socket = Arc::clone(self.0.as_ref()?);
        warn_of_invalid_period();
        let period = sd_notify::watchdog_enabled().filter(|period| !period.is_zero())?;
        let interval = (period / 2).max(PING_INTERVAL_MIN);
        Some(Watchdog { socket, interval, next_ping: Instant::now() + interval, other_loops, pending: Weak::new() })
    }
}

impl NotifySocket {
    fn open(name: &OsStr) -> io::Result<Self> {
        let address = parse_address(name)?;
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { name: name.to_owned(), socket, address, send_stopping: Once::new() })
    }

    fn try_send(&self, state: &NotifyState<'_>) -> io::Result<()> {
        self.socket.send_to_addr(state.to_string().as_bytes(), &self.address).map(drop)
    }

    fn send(&self, state: &NotifyState<'_>) {
        if let Err(error) = self.try_send(state) {
            log::debug!("cannot send {state} to the supervisor: {}", describe_io_error(&error));
        }
    }

    /// Tries again until the queue has room: without `READY=1` a supervisor stops the server at its start timeout.
    /// After `STOPPING=1` the message has no meaning.
    fn retry_ready(&self) {
        loop {
            thread::sleep(READY_RETRY_INTERVAL);
            if self.send_stopping.is_completed() {
                return;
            }
            match self.try_send(&NotifyState::Ready) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => {
                    log::debug!("retried READY=1 after a full queue: {outcome:?}");
                    return;
                }
            }
        }
    }
}

/// `name` is the value of `NOTIFY_SOCKET`.
fn warn_unusable(name: &OsStr, error: &io::Error) {
    let name = escape::excerpt(&name.to_string_lossy());
    let cause = cause_and_hint(error, "unset it if there is no supervisor");
    log::warn!("cannot notify the supervisor: NOTIFY_SOCKET={name}: {cause}");
}

fn warn_of_invalid_period() {
    let Some(period) = std::env::var_os("WATCHDOG_USEC").filter(|period| !period.is_empty()) else { return };
    let period = period.to_string_lossy();
    if period.parse::<u64>().is_err() {
        let period = escape::excerpt(&period);
        log::warn!(
            "cannot ping the watchdog: WATCHDOG_USEC={period}: not a number of microseconds; correct it, or unset it"
        );
    }
}

/// A path, or `@` and an abstract name.
fn parse_address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'/', ..] => SocketAddr::from_pathname(name),
        [b'@', abstract_name @ ..] => abstract_address(abstract_name),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a path nor @ and a name")),
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

/// Sends a ping twice in each watchdog period while all loops run.
#[derive(Debug)]
pub(crate) struct Watchdog {
    socket: Arc<NotifySocket>,
    interval: Duration,
    next_ping: Instant,
    other_loops: Vec<Handle>,
    /// The ping that a loop has not confirmed yet.
    pending: Weak<WatchdogPing>,
}

/// A ping to the watchdog. Every other loop has a clone. The last clone to be dropped sends the ping: a loop drops it
/// in its next turn, or because it has ended.
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

    /// Starts a ping if one is due; it is sent when the other loops have confirmed it. Call it between two turns of the
    /// one loop that does not confirm.
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

    use super::{
        Instant, NotifySocket, NotifyState, PING_INTERVAL_MIN, READY_RETRY_INTERVAL, SdNotifier, Watchdog,
        parse_address,
    };

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
    fn only_a_path_and_an_abstract_name_are_addresses() {
        assert!(parse_address(OsStr::new("/run/notify")).is_ok());
        assert_eq!(parse_address(OsStr::new("@halloo")).is_ok(), cfg!(target_os = "linux"));
        for name in ["run/notify", "vsock:2:1234", " ", "/nul\0"] {
            assert!(parse_address(OsStr::new(name)).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_full_queue_delays_no_message_and_ready_is_sent_when_there_is_room() {
        for stops_before in [false, true] {
            let (_folder, receiver, socket) = supervisor();
            let notifier = SdNotifier(Some(Arc::clone(&socket)));
            let fill = || while socket.try_send(&NotifyState::Watchdog).is_ok() {};
            fill();
            let start = Instant::now();
            notifier.notify_ready();
            assert!(start.elapsed() < READY_RETRY_INTERVAL * 9, "the send does not block");
            if stops_before {
                notifier.notify_stopping();
            }
            let deadline = start + Duration::from_secs(20);
            // The thread that tries again has a clone of the socket until it is done.
            let (timeout, mut message, mut is_ready) = (Duration::from_millis(10), [0; 64], false);
            receiver.set_read_timeout(Some(timeout)).unwrap();
            while Arc::strong_count(&socket) > 2 {
                assert!(Instant::now() < deadline);
                is_ready |= receiver.recv(&mut message).is_ok_and(|count| &message[..count] == b"READY=1");
            }
            while let Ok(count) = receiver.recv(&mut message) {
                is_ready |= &message[..count] == b"READY=1";
            }
            assert_eq!(is_ready, !stops_before);
        }
    }

    #[test]
    fn a_full_queue_delays_no_ping() {
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
    fn the_watchdog_message_is_sent_once_every_other_loop_has_turned_or_ended() {
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
        assert_eq!((count_messages(), stalled.stats().jobs), (1, 1), "a stalled loop confirms one ping only");
        drop(stalled);
        watchdog.next_ping = Instant::now();
        watchdog.ping();
        let _ = running.turn(Some(Duration::ZERO)).unwrap();
        assert_eq!(count_messages(), 1, "a loop that has ended need not confirm");
    }

    #[test]
    fn stopping_is_sent_once() {
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
