//! The library as an embedder uses it, with default limits and timeouts.

use std::cell::Cell;
use std::error::Error;
use std::time::Duration;

use halloo::{Connection, Datagram, EventLoop, datagrams, stream};

use super::{ADDRESS, print_ready_line};
use crate::workload::{LINE_RESPONSE, Mode, TCP_RESPONSE, UDP_RESPONSE};

/// For exchanges in flight, after the last one was counted.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves until killed, or until `exchanges` exchanges have been served.
pub(crate) fn run(mode: Mode, exchanges: Option<u64>) -> Result<(), Box<dyn Error>> {
    let remaining = Cell::new(exchanges.unwrap_or(u64::MAX));
    // True for the last one.
    let is_last_exchange = || {
        remaining.set(remaining.get() - 1);
        remaining.get() == 0
    };
    let mut events = EventLoop::new()?;
    let address = match mode {
        Mode::Once => {
            let handler = stream(|connection: &mut Connection<'_>, input: &[u8]| {
                let _ = connection.send(TCP_RESPONSE);
                connection.close();
                if is_last_exchange() {
                    connection.context().drain(DRAIN_TIMEOUT);
                }
                input.len()
            });
            let listener = events.listen(ADDRESS, handler)?;
            events.local_addr(listener)?
        }
        Mode::Lines => {
            let handler = stream(|connection: &mut Connection<'_>, input: &[u8]| {
                let mut consumed = 0;
                for end in memchr::memchr_iter(b'\n', input) {
                    if connection.send(LINE_RESPONSE).is_err() {
                        break; // the rest is passed again when the outbox has room
                    }
                    consumed = end + 1;
                    if is_last_exchange() {
                        connection.context().drain(DRAIN_TIMEOUT);
                    }
                }
                consumed
            });
            let listener = events.listen(ADDRESS, handler)?;
            events.local_addr(listener)?
        }
        Mode::Udp => {
            let handler = datagrams(|datagram: &mut Datagram<'_>, _: &[u8]| {
                datagram.reply(UDP_RESPONSE);
                if is_last_exchange() {
                    datagram.context().drain(DRAIN_TIMEOUT);
                }
            });
            let socket = events.bind(ADDRESS, handler)?;
            events.local_addr(socket)?
        }
    };
    print_ready_line(address)?;
    events.run()?;
    Ok(())
}
