//! The library as an embedder uses it, with default limits and timeouts.

use std::cell::Cell;
use std::error::Error;
use std::time::Duration;

use halloo::{Connection, Datagram, EventLoop, datagrams, stream};

use super::{ADDRESS, ready};
use crate::workload::{LINE_ANSWER, Mode, TCP_ANSWER, UDP_ANSWER};

/// How long what is under way may take once all exchanges have been served.
const GRACE: Duration = Duration::from_secs(1);

/// Serves until killed, or until as many exchanges as told have been served.
pub(crate) fn run(mode: Mode, exchanges: Option<u64>) -> Result<(), Box<dyn Error>> {
    let left = Cell::new(exchanges.unwrap_or(u64::MAX));
    // True with the last one.
    let served = || {
        left.set(left.get() - 1);
        left.get() == 0
    };
    let mut events = EventLoop::new()?;
    let address = match mode {
        Mode::Once => {
            let greeter = stream(|connection: &mut Connection<'_>, input: &[u8]| {
                let _ = connection.send(TCP_ANSWER);
                connection.close();
                if served() {
                    connection.context().drain(GRACE);
                }
                input.len()
            });
            let listener = events.listen(ADDRESS, greeter)?;
            events.local_addr(listener)?
        }
        Mode::Lines => {
            let greeter = stream(|connection: &mut Connection<'_>, input: &[u8]| {
                let mut used = 0;
                for end in memchr::memchr_iter(b'\n', input) {
                    if connection.send(LINE_ANSWER).is_err() {
                        break; // the rest is shown again once there is room
                    }
                    used = end + 1;
                    if served() {
                        connection.context().drain(GRACE);
                    }
                }
                used
            });
            let listener = events.listen(ADDRESS, greeter)?;
            events.local_addr(listener)?
        }
        Mode::Udp => {
            let greeter = datagrams(|datagram: &mut Datagram<'_>, _: &[u8]| {
                datagram.reply(UDP_ANSWER);
                if served() {
                    datagram.context().drain(GRACE);
                }
            });
            let socket = events.bind(ADDRESS, greeter)?;
            events.local_addr(socket)?
        }
    };
    ready(address)?;
    events.run()?;
    Ok(())
}
