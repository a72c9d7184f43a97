//! Reads the PROXY header of each datagram, before its handler.
//!
//! A datagram of a trusted sender has to begin with a header of version 2. The reply goes to the sender, without a
//! header.

use std::rc::Rc;

use halloo::{Context, Datagram, DatagramHandler, HandlerId, TimerId, UdpSocketId};

use crate::greeting::worker_counters::HeaderError;
use crate::proxy::header::{Parsed, has_v2_signature, parse_datagram};
use crate::proxy::header_policy::HeaderPolicy;

/// A handler of datagrams behind proxies.
pub(crate) struct ProxiedDatagrams<'h, H> {
    inner: H,
    policy: Rc<HeaderPolicy<'h>>,
}

impl<'h, H: DatagramHandler> ProxiedDatagrams<'h, H> {
    pub(crate) fn new(inner: H, policy: Rc<HeaderPolicy<'h>>) -> Self {
        Self { inner, policy }
    }
}

impl<H: DatagramHandler> DatagramHandler for ProxiedDatagrams<'_, H> {
    fn on_start(&mut self, context: &mut Context, id: HandlerId) {
        self.inner.on_start(context, id);
    }

    fn on_datagram(&mut self, datagram: &mut Datagram<'_>, payload: &[u8]) {
        let sender = datagram.sender_addr();
        let error = if self.policy.trusts(Some(sender)) {
            match parse_datagram(payload) {
                Parsed::Header { client, length } => {
                    self.policy.count_accepted(payload);
                    datagram.set_peer_addr(client.unwrap_or(sender));
                    return self.inner.on_datagram(datagram, &payload[length..]);
                }
                Parsed::NoHeader | Parsed::Incomplete => HeaderError::Missing,
                Parsed::Invalid(error) => error,
            }
        } else if has_v2_signature(payload) {
            HeaderError::Untrusted
        } else {
            return self.inner.on_datagram(datagram, payload);
        };
        let handler = datagram.handler();
        self.policy.count_refused_datagram();
        self.policy.refuse(datagram.context(), handler, Some(sender), error);
    }

    fn on_timer(&mut self, context: &mut Context, timer: TimerId, value: u64) {
        if !self.policy.on_timer(context, timer) {
            self.inner.on_timer(context, timer, value);
        }
    }

    fn on_drain(&mut self, context: &mut Context, socket: UdpSocketId) {
        self.inner.on_drain(context, socket);
    }
}
