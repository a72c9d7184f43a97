//! The notes of a UDP socket about a send, for the journal.
//!
//! Each function returns at once while nothing is noted.

use std::io;

use crate::ids::SlotKey;
use crate::observe::entry::EntryKind;
use crate::observe::journal::Journal;
use crate::state::udp_send_queue::{Transmit, UdpSendQueue};

/// The journal and the socket that sends.
pub(crate) struct SendNotes<'a> {
    journal: &'a mut Journal,
    key: SlotKey,
    generation: u64,
}

impl<'a> SendNotes<'a> {
    pub(crate) fn new(journal: &'a mut Journal, socket: u32, generation: u64) -> Self {
        Self { journal, key: SlotKey::UdpSocket(socket), generation }
    }

    /// Whether anything is noted.
    #[inline]
    pub(crate) fn are_wanted(&self) -> bool {
        self.journal.has_all()
    }

    /// Notes a call that offered messages to the kernel, which accepted some from the front, with these transmits.
    #[cfg(target_os = "linux")]
    #[inline]
    pub(crate) fn note_batch(
        &mut self,
        accepted: usize,
        offered: usize,
        transmits: &[Transmit],
        send_queue: &UdpSendQueue,
    ) {
        if self.are_wanted() {
            self.note_batch_now(accepted, offered, transmits, send_queue);
        }
    }

    #[cfg(target_os = "linux")]
    #[cold]
    #[inline(never)]
    fn note_batch_now(&mut self, accepted: usize, offered: usize, transmits: &[Transmit], send_queue: &UdpSendQueue) {
        let Self { journal, key, generation } = self;
        journal.note(EntryKind::SendBatch, *key, *generation, [accepted as u64, offered as u64]);
        for datagram in transmits.iter().copied().flat_map(Transmit::datagrams) {
            self.note_datagram(&datagram, None, send_queue);
        }
    }

    /// Notes a call for one datagram.
    pub(crate) fn note_single(&mut self, sent: &io::Result<()>) {
        let accepted = u64::from(sent.is_ok());
        self.journal.note_result(EntryKind::SendBatch, self.key, self.generation, [accepted, 1], sent);
    }

    /// Notes a call that failed.
    #[cfg(target_os = "linux")]
    #[cold]
    pub(crate) fn note_failed_call(&mut self, offered: usize, error: &io::Error) {
        self.journal.note_error(EntryKind::SendBatch, self.key, self.generation, [0, offered as u64], error);
    }

    /// Notes a datagram that was sent, or was lost.
    #[cold]
    pub(crate) fn note_datagram(&mut self, transmit: &Transmit, error: Option<&io::Error>, send_queue: &UdpSendQueue) {
        let Self { journal, key, generation } = self;
        let payload = send_queue.payload(transmit);
        match error {
            None => journal.note_datagram(EntryKind::DatagramOut, *key, *generation, payload, 0, transmit.to),
            Some(error) => journal.note_lost_datagram(*key, *generation, payload.len(), transmit.to, error),
        }
    }
}
