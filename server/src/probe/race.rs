//! Tries several addresses concurrently until one of them replies.
//!
//! It starts them in the order given: the next one at once after an error, or after 250 ms of silence (RFC 8305,
//! section 5).

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use socket2::Socket;

use crate::process;

/// The longest time from one start to the next (RFC 8305, section 8). The last address has at least half of the time.
const START_INTERVAL: Duration = Duration::from_millis(250);

/// How a race ended.
#[derive(Debug)]
pub(crate) struct Race<T> {
    /// Each address that was tried, with its socket if it was silent, or its error.
    pub(crate) tried: Vec<(SocketAddr, io::Result<Socket>)>,
    /// The first reply, with its address and socket.
    pub(crate) winner: Option<(SocketAddr, Socket, T)>,
    /// How often the request was sent to the first address.
    pub(crate) sent_count: u32,
}

/// How a request is sent again over the same sockets while no reply has come.
#[derive(Clone, Copy)]
pub(crate) struct Resend<'a> {
    pub(crate) interval: Duration,
    pub(crate) count: u32,
    pub(crate) send: &'a dyn Fn(&Socket) -> io::Result<()>,
}

/// Tries the addresses until the deadline. `start` opens a non-blocking socket and connects it; `finish` is called when
/// the socket is ready, and returns the reply, or none if it is still to come.
pub(crate) fn race<T>(
    addresses: &[SocketAddr],
    deadline: Instant,
    readiness: PollFlags,
    resend: Option<Resend<'_>>,
    start: impl Fn(SocketAddr) -> io::Result<Socket>,
    finish: impl Fn(&Socket) -> io::Result<Option<T>>,
) -> io::Result<Race<T>> {
    let interval = start_interval(addresses.len(), time_until(deadline));
    let mut untried = addresses.iter();
    let mut tried: Vec<(SocketAddr, io::Result<Socket>)> = Vec::new();
    let mut next_start = Instant::now();
    let mut sent_count = 1;
    let mut next_resend = resend.map_or(deadline, |resend| next_start + resend.interval);
    loop {
        while all_failed(&tried) || next_start <= Instant::now() {
            let Some(&address) = untried.next() else { break };
            let socket = start(address);
            if socket.is_ok() {
                // Counted from the planned time, not from now, so that each address gets its turn.
                next_start += interval;
            }
            tried.push((address, socket));
        }
        if all_failed(&tried) || time_until(deadline).is_zero() {
            return Ok(Race { tried, winner: None, sent_count });
        }
        if let Some(resend) = resend.filter(|resend| sent_count <= resend.count && next_resend <= Instant::now()) {
            send_again(&mut tried, resend.send);
            sent_count += 1;
            next_resend = if sent_count <= resend.count { next_resend + resend.interval } else { deadline };
            continue;
        }
        let next_start_or_end = if untried.len() == 0 { deadline } else { deadline.min(next_start) };
        let wait_end = next_start_or_end.min(next_resend);
        for index in poll_sockets(&tried, readiness, time_until(wait_end))? {
            let Ok(socket) = &tried[index].1 else { continue };
            match finish(socket) {
                Ok(None) => {}
                Ok(Some(answer)) => {
                    let (address, socket) = tried.remove(index);
                    return Ok(Race { tried, winner: Some((address, socket?, answer)), sent_count });
                }
                Err(error) => {
                    tried[index].1 = Err(error);
                    next_start = next_start.min(Instant::now());
                }
            }
        }
    }
}

/// Sends the request to each address that is silent so far.
fn send_again(tried: &mut [(SocketAddr, io::Result<Socket>)], send: &dyn Fn(&Socket) -> io::Result<()>) {
    for (_, socket) in tried {
        if let Ok(sender) = socket
            && let Err(error) = send(sender)
            && error.kind() != io::ErrorKind::WouldBlock
        {
            *socket = Err(error);
        }
    }
}

fn start_interval(address_count: usize, time_left: Duration) -> Duration {
    let address_count = u32::try_from(address_count.max(1)).unwrap_or(u32::MAX);
    START_INTERVAL.min(time_left / address_count / 2)
}

fn all_failed(tried: &[(SocketAddr, io::Result<Socket>)]) -> bool {
    tried.iter().all(|(_, socket)| socket.is_err())
}

fn time_until(instant: Instant) -> Duration {
    instant.saturating_duration_since(Instant::now())
}

/// Waits until sockets are ready, and returns their indices: none after the timeout or a signal.
fn poll_sockets(
    tried: &[(SocketAddr, io::Result<Socket>)],
    readiness: PollFlags,
    timeout: Duration,
) -> io::Result<Vec<usize>> {
    let sockets = (0..).zip(tried).filter_map(|(index, (_, socket))| Some((index, socket.as_ref().ok()?)));
    let (indices, mut poll_fds): (Vec<usize>, Vec<PollFd<'_>>) =
        sockets.map(|(index, socket)| (index, PollFd::new(socket.as_fd(), readiness))).unzip();
    match poll(&mut poll_fds, process::poll_timeout(timeout)) {
        Ok(_) => {}
        Err(Errno::EINTR) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    }
    let is_ready = |poll_fd: &PollFd<'_>| poll_fd.any().unwrap_or(true);
    Ok(indices.into_iter().zip(&poll_fds).filter(|(_, poll_fd)| is_ready(poll_fd)).map(|(index, _)| index).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::start_interval;

    #[test]
    fn the_last_address_gets_at_least_half_of_the_timeout() {
        let second = Duration::from_secs(1);
        for (address_count, time_left) in [(1, second), (2, second), (3, second / 10), (50, 5 * second)] {
            let last_start = start_interval(address_count, time_left) * (u32::try_from(address_count).unwrap() - 1);
            assert!(last_start <= time_left / 2, "{last_start:?} of {time_left:?} for {address_count}");
        }
        assert_eq!(start_interval(2, second), second / 4);
        assert_eq!(start_interval(2, 60 * second), second / 4);
    }
}
