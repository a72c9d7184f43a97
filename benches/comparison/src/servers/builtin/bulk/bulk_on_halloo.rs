//! Echo, proxy and fan-out on the library, with default limits and timeouts.

use std::error::Error;
use std::net::SocketAddr;

use halloo::{CloseReason, Connection, ConnectionId, EventLoop, SharedBytes, StreamHandler, stream};

use super::{ADDRESS, print_ready_line, required};
use crate::byte_pattern::pattern_at;
use crate::workload::{DELIVERY_BYTES, Mode};

#[expect(dead_code, reason = "the handler of the example is measured, not its program")]
#[path = "../../../../../../examples/tcp_proxy.rs"]
mod tcp_proxy;

/// Serves until killed.
pub(super) fn run(mode: Mode, target: Option<SocketAddr>) -> Result<(), Box<dyn Error>> {
    let mut events = EventLoop::new()?;
    let listener = match mode {
        Mode::Proxy => events.listen(ADDRESS, tcp_proxy::Proxy { target: required(target)? })?,
        Mode::FanOut => {
            let delivery = SharedBytes::from(pattern_at(0)[..DELIVERY_BYTES].to_vec());
            events.listen(ADDRESS, FanOut { members: Vec::new(), delivery })?
        }
        // As in the example `echo`.
        _ => {
            let handler = stream(|connection: &mut Connection<'_>, input: &[u8]| connection.try_write(input));
            events.listen(ADDRESS, handler)?
        }
    };
    print_ready_line(events.local_addr(listener)?)?;
    events.run()?;
    Ok(())
}

/// Sends the delivery to every connection, for each byte from any of them.
struct FanOut {
    members: Vec<ConnectionId>,
    delivery: SharedBytes,
}

impl StreamHandler for FanOut {
    type Session = ();

    fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<()> {
        self.members.push(connection.id());
        Some(())
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, (): &mut (), input: &[u8]) -> usize {
        for _ in input {
            for id in &self.members {
                if let Some(mut member) = connection.context().connection(*id)
                    && member.send_shared(&self.delivery).is_err()
                {
                    // It still has to read the last one.
                    member.abort();
                }
            }
        }
        input.len()
    }

    fn on_close(&mut self, connection: &mut Connection<'_>, (): (), _: CloseReason) {
        let id = connection.id();
        self.members.retain(|member| *member != id);
    }
}
