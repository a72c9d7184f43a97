//! The state of one connection, and its next action.
//!
//! Only [`ConnectionState::next_action`] decides what is next. An action that is not possible now is never lost: every
//! change of the state causes a new call.

use crate::address::PackedAddress;
use crate::close_reason::CloseReason;
use crate::limits;
use crate::options::connection_limits::ConnectionLimits;
use crate::state::buffers::byte_queue::ByteQueue;
use crate::state::buffers::{BufferPool, Buffers};
use crate::state::memory::OutOfMemory;
use crate::state::phase::{
    Action, CloseMode, DrainStep, Expiry, FlushNotice, PeerActivity, Phase, Queued, ReadState, WriteHalf, WriteState,
};
use crate::state::timestamp::Timestamp;

/// The state of one connection.
#[derive(Debug)]
pub(crate) struct ConnectionState {
    /// The last progress: input consumed, output accepted, or new output in an empty outbox. While lingering, its
    /// start.
    pub(crate) last_progress: Timestamp,
    /// When `on_timeout` is to be called.
    pub(crate) timeout: Timestamp,
    pub(crate) buffers: Option<Box<Buffers>>,
    pub(crate) peer: PackedAddress,
    /// The turn to which `budget`, `peer_activity` and `flush_notice` belong.
    turn: u32,
    /// Bytes that may still be read and sent in that turn.
    pub(crate) budget: u32,
    pub(crate) phase: Phase,
    pub(crate) read_state: ReadState,
    pub(crate) write_state: WriteState,
    pub(crate) write_half: WriteHalf,
    pub(crate) peer_activity: PeerActivity,
    pub(crate) flush_notice: FlushNotice,
    pub(crate) queued: Queued,
    pub(crate) paused: bool,
    pub(crate) drain_step: DrainStep,
    /// Whether the socket is registered with the poll. A short connection may end before it has to wait.
    pub(crate) is_registered: bool,
    /// The poll has reported that both directions are closed.
    pub(crate) is_disconnected: bool,
}

impl ConnectionState {
    pub(crate) fn new(peer: PackedAddress, now: Timestamp) -> Self {
        Self {
            last_progress: now,
            timeout: Timestamp::NEVER,
            buffers: None,
            peer,
            turn: 0,
            budget: limits::BYTES_PER_TURN_MAX,
            phase: Phase::Open,
            read_state: ReadState::Readable,
            write_state: WriteState::Writable,
            write_half: WriteHalf::Open,
            peer_activity: PeerActivity::Unknown,
            flush_notice: FlushNotice::None,
            queued: Queued::No,
            paused: false,
            drain_step: DrainStep::None,
            is_registered: false,
            is_disconnected: false,
        }
    }

    /// Sets the connection's budget for a turn, once.
    pub(crate) fn begin_turn(&mut self, turn: u32) {
        if self.turn != turn {
            self.turn = turn;
            // planted: no-budget
            self.budget = limits::BYTES_PER_TURN_MAX;
            self.peer_activity = PeerActivity::Unknown;
            self.flush_notice = match self.flush_notice {
                FlushNotice::None | FlushNotice::Delivered => FlushNotice::None,
                FlushNotice::Due | FlushNotice::DueNextTurn => FlushNotice::Due,
            };
        }
    }

    /// Decides what is next. The limits are looked up only in unusual cases.
    #[inline]
    pub(crate) fn next_action(&self, limits: impl FnOnce() -> ConnectionLimits) -> Action {
        match self.phase {
            Phase::Open if self.has_output_to_send() => Action::Flush,
            // The usual case: nothing is buffered, and only a read may be due.
            Phase::Open if self.has_nothing_due() => match self.read_state {
                ReadState::Readable | ReadState::ReadToEnd => Action::Read,
                ReadState::WouldBlock => Action::Wait,
                ReadState::Eof | ReadState::EofDelivered => self.next_action_open(&limits()),
            },
            Phase::Open => self.next_action_open(&limits()),
            Phase::Flushing(_) if self.outbox_len() == 0 => Action::Linger,
            Phase::Flushing(_) if self.write_state == WriteState::Writable => Action::Flush,
            Phase::Closing(reason, mode) => Action::Close(reason, mode),
            Phase::Lingering(reason, left)
                if left == 0 || matches!(self.read_state, ReadState::Eof | ReadState::EofDelivered) =>
            {
                Action::Close(reason, CloseMode::Close)
            }
            Phase::Lingering(..) if self.read_state == ReadState::WouldBlock => Action::Wait,
            Phase::Lingering(..) if self.budget == 0 => Action::Yield,
            Phase::Lingering(..) => Action::Discard,
            Phase::Connecting(_) | Phase::Flushing(_) | Phase::Closed => Action::Wait,
        }
    }

    fn has_output_to_send(&self) -> bool {
        self.outbox_len() > 0 && self.write_state == WriteState::Writable
    }

    fn has_nothing_due(&self) -> bool {
        self.buffers.as_ref().is_none_or(|buffers| buffers.is_empty())
            && self.budget > 0
            && self.write_half == WriteHalf::Open
            && self.flush_notice == FlushNotice::None
            && self.drain_step == DrainStep::None
            && !(self.paused || self.is_disconnected)
    }

    #[inline(never)]
    fn next_action_open(&self, limits: &ConnectionLimits) -> Action {
        let (inbox_len, outbox_len) = (self.inbox_len(), self.outbox_len());
        let own_output_full = outbox_len >= limits.outbox_bytes_max && self.has_own_output();
        // planted: reads-while-paused
        let may_read = !self.paused && !own_output_full;
        let is_held_up = self.paused || outbox_len > 0;
        let action = if outbox_len > 0 && self.write_state == WriteState::Writable {
            return Action::Flush;
        // planted: shutdown-before-outbox-is-empty
        } else if outbox_len == 0 && self.write_half == WriteHalf::ShutdownPending {
            return Action::ShutdownWrite;
        } else if outbox_len == 0 && self.flush_notice == FlushNotice::Due {
            Action::NotifyFlushed
        } else if outbox_len == 0 && self.flush_notice == FlushNotice::DueNextTurn {
            Action::Yield
        } else if inbox_len > 0 && self.is_inbox_changed() && may_read {
            Action::Deliver
        } else {
            match self.read_state {
                ReadState::Eof if inbox_len == 0 || !is_held_up => Action::NotifyEof,
                // Both sides have sent a FIN, so no more bytes can follow.
                ReadState::EofDelivered
                    if self.write_half == WriteHalf::Shutdown && (inbox_len == 0 || !is_held_up) =>
                {
                    return Action::Close(CloseReason::Eof, CloseMode::Close);
                }
                ReadState::Eof | ReadState::EofDelivered => Action::Wait,
                _ if inbox_len >= limits.input_bytes_max && !is_held_up => Action::CloseOverflow,
                ReadState::Readable | ReadState::ReadToEnd if may_read && inbox_len < limits.input_bytes_max => {
                    if self.awaits_memory() { Action::Wait } else { Action::Read }
                }
                _ => Action::Wait,
            }
        };
        let uses_budget = matches!(action, Action::NotifyFlushed | Action::Deliver | Action::Read);
        match if uses_budget && self.budget == 0 { Action::Yield } else { action } {
            // Waiting requests are answered first, so that a handler that closes in `on_drain` has sent its reply.
            action @ (Action::Wait | Action::Yield) if self.drain_step != DrainStep::None => {
                self.next_action_of_drain(action)
            }
            // No later event would report that the peer is gone.
            Action::Wait if self.is_disconnected => Action::Close(CloseReason::Reset, CloseMode::Close),
            action => action,
        }
    }

    /// Decides when nothing but the drain is left to do now. A paused connection still has work: its handler resumes it.
    #[cold]
    fn next_action_of_drain(&self, action: Action) -> Action {
        let is_sent = self.outbox_len() == 0 && self.write_state == WriteState::Writable;
        let is_read_to_end = match self.read_state {
            ReadState::WouldBlock => matches!(self.drain_step, DrainStep::Stopped(_)),
            ReadState::EofDelivered => true,
            ReadState::Readable | ReadState::ReadToEnd | ReadState::Eof => false,
        };
        match self.drain_step {
            DrainStep::NoticeDue => Action::NotifyDrain,
            _ if action == Action::Wait && self.is_disconnected => Action::Close(CloseReason::Reset, CloseMode::Close),
            _ if action == Action::Wait && is_read_to_end && is_sent && !self.paused => Action::EndDrain,
            DrainStep::StopDue if !matches!(self.read_state, ReadState::Eof | ReadState::EofDelivered) => {
                Action::StopInput
            }
            DrainStep::None | DrainStep::StopDue | DrainStep::Stopped(_) => action,
        }
    }

    /// Whether the peer may have sent unread bytes, or may be sending: a close of the descriptor could then turn our
    /// FIN into an RST.
    pub(crate) fn peer_may_be_sending(&self) -> bool {
        match self.read_state {
            ReadState::Eof | ReadState::EofDelivered => false,
            ReadState::WouldBlock => {
                // A drain has made the kernel drop input, which the peer sends again.
                self.peer_activity == PeerActivity::Unknown
                    || self.inbox_len() > 0
                    || matches!(self.drain_step, DrainStep::Stopped(_))
            }
            ReadState::Readable | ReadState::ReadToEnd => true,
        }
    }

    /// When this connection must be checked if nothing happens before.
    #[inline]
    pub(crate) fn deadline(&self, limits: &ConnectionLimits) -> Timestamp {
        match self.phase {
            // planted: no-connect-timeout
            Phase::Connecting(_) => self.last_progress.after(limits.connect_timeout),
            Phase::Open => self.limit_deadline(limits).0.min(self.timeout),
            Phase::Flushing(_) => self.limit_deadline(limits).0,
            Phase::Lingering(..) => self.last_progress.after(limits::LINGER + limits::TURN_TIME_UNCOUNTED),
            Phase::Closing(..) | Phase::Closed => Timestamp::NEVER,
        }
    }

    /// The result of deadlines that have expired by now.
    pub(crate) fn expiry(&self, limits: &ConnectionLimits, now: Timestamp) -> Expiry {
        let (limit, reason) = self.limit_deadline(limits);
        match self.phase {
            Phase::Connecting(_) if self.deadline(limits) <= now => Expiry::ConnectionLimit(CloseReason::TimedOut),
            Phase::Open | Phase::Flushing(_) if limit <= now => Expiry::ConnectionLimit(reason),
            Phase::Open if self.timeout <= now => Expiry::HandlerTimeout,
            Phase::Lingering(reason, _) if self.deadline(limits) <= now => Expiry::ConnectionLimit(reason),
            _ => Expiry::None,
        }
    }

    /// The limit that applies, and its reason: while output waits, here or in the kernel at the end of a drain, only the
    /// write timeout applies.
    fn limit_deadline(&self, limits: &ConnectionLimits) -> (Timestamp, CloseReason) {
        let (span, reason) = if self.outbox_len() > 0 || self.write_state == WriteState::WouldBlock {
            (limits.write_timeout, CloseReason::WriteStalled)
        } else {
            (limits.idle_timeout, CloseReason::TimedOut)
        };
        let counted_from = self.last_progress.after(limits::TURN_TIME_UNCOUNTED);
        (span.map_or(Timestamp::NEVER, |span| counted_from.after(span)), reason)
    }

    /// Records that the kernel did not accept all output at once.
    pub(crate) fn request_flush_notice(&mut self) {
        self.flush_notice = match self.flush_notice {
            FlushNotice::None | FlushNotice::Due => FlushNotice::Due,
            FlushNotice::Delivered | FlushNotice::DueNextTurn => FlushNotice::DueNextTurn,
        };
    }

    /// Records a read of `count` bytes into a buffer of `room` bytes.
    pub(crate) fn record_read(&mut self, count: usize, room: usize) {
        self.spend_budget(count);
        let short = count < room;
        if short && self.read_state == ReadState::Readable {
            self.read_state = ReadState::WouldBlock;
        }
        let whole = short && count < limits::WHOLE_MESSAGE_BYTES_MAX;
        self.peer_activity = if whole { PeerActivity::Quiet } else { PeerActivity::Unknown };
    }

    /// Records how much of all input the handler has consumed. The rest is delivered again when something changes.
    /// After EOF nothing will change, so the rest counts as new while some of it is consumed.
    pub(crate) fn record_consumed(&mut self, consumed: usize, now: Timestamp) {
        self.set_inbox_changed(self.read_state == ReadState::Eof && consumed > 0);
        if consumed > 0 {
            self.last_progress = now;
            self.set_awaits_memory(false);
        }
    }

    pub(crate) fn spend_budget(&mut self, count: usize) {
        self.budget = self.budget.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// Whether the handler can use the connection, now or once it opens.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Connecting(None))
    }

    pub(crate) fn accepts_output(&self) -> bool {
        self.is_open() && self.write_half == WriteHalf::Open
    }

    /// Whether new output can be sent before all other output.
    pub(crate) fn can_send_now(&self) -> bool {
        self.phase == Phase::Open && self.write_state == WriteState::Writable && self.outbox_len() == 0
    }

    /// Bytes in the outbox.
    pub(crate) fn outbox_len(&self) -> usize {
        self.buffers.as_ref().map_or(0, |buffers| buffers.outbox.len())
    }

    /// Whether the inbox has bytes that were not delivered, or something has changed since the last delivery.
    fn is_inbox_changed(&self) -> bool {
        self.buffers.as_ref().is_some_and(|buffers| buffers.inbox_changed)
    }

    pub(crate) fn set_inbox_changed(&mut self, is_changed: bool) {
        if let Some(buffers) = &mut self.buffers {
            buffers.inbox_changed = is_changed;
        }
    }

    /// Whether reading has stopped because the inbox may not grow now.
    pub(crate) fn awaits_memory(&self) -> bool {
        self.buffers.as_ref().is_some_and(|buffers| buffers.awaits_memory)
    }

    pub(crate) fn set_awaits_memory(&mut self, awaits: bool) {
        if let Some(buffers) = &mut self.buffers {
            buffers.awaits_memory = awaits;
        }
    }

    /// Resets the connection because memory was refused; its output is lost.
    pub(crate) fn close_out_of_memory(&mut self) {
        if !matches!(self.phase, Phase::Closing(..) | Phase::Closed) {
            self.phase = Phase::Closing(CloseReason::OutOfMemory, CloseMode::Reset);
        }
    }

    /// Resets the connection for a reason of its handler. If it is closing, its first reason stays.
    pub(crate) fn reset_for(&mut self, reason: CloseReason) {
        self.phase = match self.phase {
            Phase::Open | Phase::Connecting(_) => Phase::Closing(reason, CloseMode::Reset),
            Phase::Flushing(first) => Phase::Closing(first, CloseMode::Reset),
            other => other,
        };
    }

    /// Whether the connection's own callbacks have written output that is still in the outbox.
    fn has_own_output(&self) -> bool {
        self.buffers.as_ref().is_some_and(|buffers| buffers.own_output)
    }

    /// Bytes in the inbox.
    pub(crate) fn inbox_len(&self) -> usize {
        self.buffers.as_ref().map_or(0, |buffers| buffers.inbox.len())
    }

    /// Takes the inbox out for a callback; [`return_inbox`](Self::return_inbox) puts it back without the consumed
    /// bytes. Meanwhile it counts as memory in use, which the callback must not exceed.
    pub(crate) fn take_inbox(&mut self) -> ByteQueue {
        self.buffers.as_mut().map(|buffers| std::mem::take(&mut buffers.inbox)).unwrap_or_default()
    }

    pub(crate) fn return_inbox(&mut self, inbox: ByteQueue) {
        if let Some(buffers) = &mut self.buffers {
            buffers.inbox = inbox;
        }
    }

    /// Reserves room for `count` more bytes in the inbox.
    pub(crate) fn reserve_inbox(
        &mut self,
        count: usize,
        bytes_max: usize,
        pool: &mut BufferPool,
    ) -> Result<&mut Buffers, OutOfMemory> {
        let buffers = self.buffers_or_take(pool)?;
        pool.reserve(&mut buffers.inbox, count, bytes_max)?;
        Ok(buffers)
    }

    /// Returns its buffers, and takes some from the pool if it has none.
    #[inline]
    pub(crate) fn buffers_or_take(&mut self, pool: &mut BufferPool) -> Result<&mut Box<Buffers>, OutOfMemory> {
        match &mut self.buffers {
            Some(buffers) => Ok(buffers),
            none => Ok(none.insert(pool.take()?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::phase::InputStop;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, SocketAddr};
    use std::time::Duration;

    const LIMITS: ConnectionLimits = ConnectionLimits {
        idle_timeout: Some(Duration::from_secs(60)),
        write_timeout: Some(Duration::from_secs(30)),
        connect_timeout: Duration::from_secs(10),
        input_bytes_max: 4,
        outbox_bytes_max: 4,
    };

    fn peer() -> PackedAddress {
        Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 1))).into()
    }

    fn any_state() -> impl Strategy<Value = ConnectionState> {
        let read_states =
            [ReadState::WouldBlock, ReadState::Readable, ReadState::ReadToEnd, ReadState::Eof, ReadState::EofDelivered];
        let phases = [
            Phase::Connecting(None),
            Phase::Open,
            Phase::Flushing(CloseReason::Local),
            Phase::Lingering(CloseReason::Local, 1),
        ];
        let write_halves = [WriteHalf::Open, WriteHalf::ShutdownPending, WriteHalf::Shutdown];
        let stopped = [InputStop::None, InputStop::Filter, InputStop::Shutdown].map(DrainStep::Stopped);
        let drain_steps = [&[DrainStep::None, DrainStep::NoticeDue, DrainStep::StopDue], &stopped[..]].concat();
        let flush_notices = [FlushNotice::None, FlushNotice::Due, FlushNotice::Delivered, FlushNotice::DueNextTurn];
        let sources = (prop::sample::select(read_states.to_vec()), prop::sample::select(phases.to_vec()));
        let marks = (
            prop::sample::select(flush_notices.to_vec()),
            any::<[bool; 4]>(),
            prop::sample::select(drain_steps),
            prop::sample::select(write_halves.to_vec()),
        );
        (sources, marks, 0usize..5, 0usize..5).prop_map(
            |((read_state, phase), (flush_notice, bits, drain_step, write_half), inbox_len, outbox_len)| {
                let [paused, blocked, changed, unchanged] = bits;
                let mut state = ConnectionState::new(peer(), Timestamp::START);
                let mut buffers = Box::<Buffers>::default();
                buffers.inbox.push(&[0; 4][..inbox_len]);
                buffers.outbox.push(&[0; 4][..outbox_len]);
                buffers.own_output = changed != blocked;
                state.buffers = Some(buffers).filter(|buffers| !buffers.is_empty());
                (state.read_state, state.phase, state.flush_notice, state.paused) =
                    (read_state, phase, flush_notice, paused);
                state.drain_step = drain_step;
                state.write_half = write_half;
                state.write_state = if blocked { WriteState::WouldBlock } else { WriteState::Writable };
                state.set_inbox_changed(changed);
                state.budget = u32::from(!unchanged);
                state.peer_activity = if changed { PeerActivity::Quiet } else { PeerActivity::Unknown };
                state
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn each_action_needs_a_state_that_allows_it(state in any_state()) {
            let (inbox_len, outbox_len) = (state.inbox_len(), state.outbox_len());
            let own_output_full = outbox_len == 4 && state.has_own_output();
            match state.next_action(|| LIMITS) {
                Action::Read => prop_assert!(!state.paused && inbox_len < 4 && !own_output_full && state.budget > 0),
                Action::Deliver => prop_assert!(!state.paused && inbox_len > 0 && !own_output_full && state.budget > 0),
                Action::Flush => prop_assert!(outbox_len > 0 && state.write_state == WriteState::Writable),
                Action::ShutdownWrite => prop_assert!(outbox_len == 0 && state.write_half == WriteHalf::ShutdownPending),
                Action::NotifyFlushed => prop_assert!(outbox_len == 0 && state.flush_notice == FlushNotice::Due),
                Action::CloseOverflow => {
                    prop_assert!(!state.paused && inbox_len == 4 && outbox_len == 0);
                    prop_assert!(!matches!(state.read_state, ReadState::Eof | ReadState::EofDelivered), "no more input can follow");
                }
                Action::NotifyEof => prop_assert!(state.read_state == ReadState::Eof && (inbox_len == 0 || outbox_len == 0 && !state.paused)),
                Action::Linger => prop_assert!(matches!(state.phase, Phase::Flushing(_)) && outbox_len == 0),
                Action::Discard => prop_assert!(matches!(state.phase, Phase::Lingering(..)) && state.budget > 0),
                Action::NotifyDrain => prop_assert!(state.drain_step == DrainStep::NoticeDue),
                Action::StopInput => prop_assert!(state.drain_step == DrainStep::StopDue && state.read_state != ReadState::Eof),
                Action::EndDrain => {
                    let is_read = matches!(state.read_state, ReadState::WouldBlock | ReadState::EofDelivered);
                    let is_stopped = matches!(state.drain_step, DrainStep::StopDue | DrainStep::Stopped(_));
                    prop_assert!(is_read && is_stopped && !state.paused && outbox_len == 0);
                }
                Action::Wait | Action::Yield | Action::Close(..) => {}
            }
        }

        #[test]
        fn the_fast_path_agrees_with_the_full_decision(state in any_state()) {
            if state.phase == Phase::Open {
                prop_assert_eq!(state.next_action(|| LIMITS), state.next_action_open(&LIMITS));
            }
        }

        #[test]
        fn with_unread_input_a_close_lingers(state in any_state()) {
            let is_over = matches!(state.read_state, ReadState::Eof | ReadState::EofDelivered);
            prop_assert!(state.inbox_len() == 0 || is_over || state.peer_may_be_sending());
        }

        /// A connection that waits with unread input waits for its handler or its outbox; both cause a new call.
        #[test]
        fn a_connection_with_unread_input_waits_only_for_its_handler_or_its_outbox(state in any_state()) {
            let is_there = !matches!(state.phase, Phase::Connecting(_));
            if is_there && state.next_action(|| LIMITS) == Action::Wait && matches!(state.read_state, ReadState::Readable | ReadState::ReadToEnd) {
                let full_outbox = state.outbox_len() > 0 && state.write_state == WriteState::WouldBlock;
                prop_assert!(full_outbox || state.paused, "{:?} {:?}", state.phase, state.read_state);
            }
        }
    }

    #[test]
    fn while_output_waits_only_the_write_timeout_runs() {
        let mut state = ConnectionState::new(peer(), Timestamp::START);
        let at = |seconds| Timestamp::START.after(Duration::from_secs(seconds)).after(limits::TURN_TIME_UNCOUNTED);
        assert_eq!((state.deadline(&LIMITS), state.expiry(&LIMITS, at(59))), (at(60), Expiry::None));
        assert_eq!(state.expiry(&LIMITS, at(60)), Expiry::ConnectionLimit(CloseReason::TimedOut));
        state.buffers.get_or_insert_default().outbox.push(b"x");
        assert_eq!(state.expiry(&LIMITS, at(30)), Expiry::ConnectionLimit(CloseReason::WriteStalled));
        state.timeout = at(10);
        assert_eq!((state.deadline(&LIMITS), state.expiry(&LIMITS, at(10))), (at(10), Expiry::HandlerTimeout));
    }

    #[test]
    fn a_second_flush_notice_in_a_turn_waits_for_the_next_turn() {
        let mut state = ConnectionState::new(peer(), Timestamp::START);
        state.read_state = ReadState::WouldBlock;
        state.flush_notice = FlushNotice::Delivered;
        state.request_flush_notice();
        assert_eq!(state.next_action(|| LIMITS), Action::Yield);
        state.begin_turn(1);
        assert_eq!(state.next_action(|| LIMITS), Action::NotifyFlushed);
    }
}
