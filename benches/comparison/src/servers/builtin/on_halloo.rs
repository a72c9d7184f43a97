//! The library as an embedder uses it, with default limits and timeouts.

use std::cell::Cell;
use std::error::Error;
use std::time::Duration;

use halloo::{Connection, Datagram, EventLoop, datagrams, stream};

use super::{ADDRESS, line_responses, print_ready_line, response_bytes};
use crate::workload::{LINE_RESPONSE, Mode, TCP_RESPONSE, UDP_RESPONSE};

/// For exchanges in flight, after the last one was counted.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves until killed, or until `exchanges` exchanges have been served.
pub(crate) fn run(mode: Mode, exchanges: Option<u64>) -> Result<(), Box<dyn Error>> {
    let remaining = Cell::new(exchanges.unwrap_or(u64::MAX));
    // True for the last ones.
    let are_last_exchanges = |count: u64| {
        remaining.set(remaining.get().saturating_sub(count));
        remaining.get() == 0
    };
    let mut events = EventLoop::new()?;
    let address = match mode {
        Mode::Once => {
            let handler = stream(|connection: &mut Connection<'_>, input: &[u8]| {
                let _ = connection.send(TCP_RESPONSE);
                connection.close();
                if are_last_exchanges(1) {
                    connection.context().drain(DRAIN_TIMEOUT);
                }
                input.len()
            });
            let listener = events.listen(ADDRESS, handler)?;
            events.local_addr(listener)?
        }
        Mode::Lines => {
            let responses = line_responses();
            let handler = stream(move |connection: &mut Connection<'_>, input: &[u8]| {
                let response_bytes = response_bytes(input);
                let _ = connection.send(&responses[..response_bytes]);
                if are_last_exchanges((response_bytes / LINE_RESPONSE.len()) as u64) {
                    connection.context().drain(DRAIN_TIMEOUT);
                }
                input.len()
            });
            let listener = events.listen(ADDRESS, handler)?;
            events.local_addr(listener)?
        }
        Mode::Udp | Mode::UdpGso => {
            let handler = datagrams(|datagram: &mut Datagram<'_>, _: &[u8]| {
                datagram.reply(UDP_RESPONSE);
                if are_last_exchanges(1) {
                    datagram.context().drain(DRAIN_TIMEOUT);
                }
            });
            let socket = events.bind(ADDRESS, handler)?;
            events.local_addr(socket)?
        }
        Mode::Echo | Mode::Proxy | Mode::FanOut => return Err("the exchanges of bulk are not counted".into()),
    };
    print_ready_line(address)?;
    events.run()?;
    Ok(())
}
