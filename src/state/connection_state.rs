//! The state of one connection, and what is to be done next about it.
//!
//! Pure: it knows no socket, no handler and no clock. Callbacks mark it, the stations act on it, and
//! [`State::next`] is the one place that says what follows from it. A step that cannot be taken now (a full outbox, a
//! pause, a spent budget) is never forgotten: whatever changes the state asks `next` again.

use crate::address::Peer;
use crate::close_reason::CloseReason;
use crate::limits;
use crate::options::connection_limits::Bounds;
use crate::state::buffers::{Buffers, ByteQueue};
use crate::state::phase::{Due, Ending, Input, Notice, Output, Phase, Queued, Rest, Sending, Step, Tail};
use crate::state::timestamp::Moment;

/// One connection, as the tables know it.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) serial: u64,
    /// When something last moved: input consumed, output taken, or output begun. While lingering, when that began.
    pub(crate) progress: Moment,
    pub(crate) buffers: Option<Box<Buffers>>,
    pub(crate) peer: Peer,
    /// The entry of its kind in the tables: handler, bounds, the listener's address.
    pub(crate) origin: u32,
    /// The session's key with the handler, or [`NO_SESSION`].
    pub(crate) session: u32,
    /// The turn that `budget`, `tail` and `notice` speak of.
    turn: u32,
    /// Bytes that may still be read and sent in that turn.
    pub(crate) budget: u32,
    pub(crate) phase: Phase,
    pub(crate) input: Input,
    pub(crate) output: Output,
    pub(crate) sending: Sending,
    pub(crate) rest: Rest,
    pub(crate) tail: Tail,
    pub(crate) notice: Notice,
    pub(crate) queued: Queued,
    pub(crate) paused: bool,
    pub(crate) owes_drain: bool,
    /// The poll has told that the connection is dead in both directions.
    pub(crate) is_broken: bool,
}

/// The session key of a connection whose handler keeps none: refused, or not yet accepted.
pub(crate) const NO_SESSION: u32 = u32::MAX;

/// The session key of an outbound connection that is not open yet.
pub(crate) const UNOPENED: u32 = u32::MAX - 1;

impl State {
    pub(crate) fn new(serial: u64, peer: Peer, origin: u32, now: Moment) -> Self {
        Self {
            serial,
            progress: now,
            buffers: None,
            peer,
            origin,
            session: NO_SESSION,
            turn: 0,
            budget: limits::BYTES_PER_TURN_MAX,
            phase: Phase::Open,
            input: Input::Ready,
            output: Output::Ready,
            sending: Sending::Open,
            rest: Rest::Seen,
            tail: Tail::Unknown,
            notice: Notice::None,
            queued: Queued::No,
            paused: false,
            owes_drain: false,
            is_broken: false,
        }
    }

    /// Gives the connection its budget of the turn, once.
    pub(crate) fn begin_turn(&mut self, turn: u32) {
        if self.turn != turn {
            self.turn = turn;
            // planted: no-budget
            self.budget = limits::BYTES_PER_TURN_MAX;
            self.tail = Tail::Unknown;
            self.notice = match self.notice {
                Notice::None | Notice::Told => Notice::None,
                Notice::Owed | Notice::OwedAgain => Notice::Owed,
            };
        }
    }

    pub(crate) fn next(&self, bounds: &Bounds) -> Step {
        match self.phase {
            Phase::Open => self.next_open(bounds),
            Phase::Closing(_) if self.pending() == 0 => Step::Shut,
            Phase::Closing(_) if self.output == Output::Ready => Step::Flush,
            Phase::Condemned(reason, ending) => Step::Drop(reason, ending),
            Phase::Lingering(reason, left) if left == 0 || matches!(self.input, Input::Ended | Input::Told) => {
                Step::Drop(reason, Ending::Close)
            }
            Phase::Lingering(..) if self.input == Input::Waiting => Step::Wait,
            Phase::Lingering(..) if self.budget == 0 => Step::Later,
            Phase::Lingering(..) => Step::Discard,
            Phase::Opening(_) | Phase::Closing(_) | Phase::Gone => Step::Wait,
        }
    }

    fn next_open(&self, bounds: &Bounds) -> Step {
        let (kept, pending) = (self.kept(), self.pending());
        let answers_wait = pending >= bounds.outbox_bytes_max && self.answers();
        // planted: reads-while-paused
        let reading = !self.paused && !answers_wait;
        let held_up = self.paused || pending > 0;
        let step = if pending > 0 && self.output == Output::Ready {
            return Step::Flush;
        // planted: shutdown-before-outbox-is-empty
        } else if pending == 0 && self.sending == Sending::Finishing {
            return Step::Finish;
        } else if pending == 0 && self.notice == Notice::Owed {
            Step::Flushed
        } else if pending == 0 && self.notice == Notice::OwedAgain {
            Step::Later
        } else if kept > 0 && self.rest == Rest::Fresh && reading {
            Step::Show
        } else {
            match self.input {
                Input::Ended if kept == 0 || !held_up => Step::End,
                // Both sides have ended, and nobody can say any more.
                Input::Told if self.sending == Sending::Finished && (kept == 0 || !held_up) => {
                    return Step::Drop(CloseReason::Eof, Ending::Close);
                }
                Input::Ended | Input::Told => Step::Wait,
                _ if kept >= bounds.input_bytes_max && !held_up => Step::Overflow,
                Input::Ready | Input::Deep if reading && kept < bounds.input_bytes_max => Step::Read,
                _ => Step::Wait,
            }
        };
        let spends = matches!(step, Step::Flushed | Step::Show | Step::Read);
        match if spends && self.budget == 0 { Step::Later } else { step } {
            // Who has asked is answered first, so that a handler that closes on a drain closes behind the answer.
            Step::Wait | Step::Later if self.owes_drain => Step::Drain,
            // Nothing would ever tell again that the peer is gone.
            Step::Wait if self.is_broken => Step::Drop(CloseReason::Reset, Ending::Close),
            step => step,
        }
    }

    /// Whether the peer may have sent, or be sending, what nobody has read: closing the descriptor now could turn our
    /// end of stream into a reset.
    pub(crate) fn may_be_sending(&self) -> bool {
        match self.input {
            Input::Ended | Input::Told => false,
            Input::Waiting => self.tail == Tail::Unknown || self.kept() > 0,
            Input::Ready | Input::Deep => true,
        }
    }

    /// When this connection must be looked at, if nothing happens before and the handler's own timeout is at `timer`.
    pub(crate) fn deadline(&self, bounds: &Bounds, timer: Moment) -> Moment {
        match self.phase {
            // planted: no-connect-timeout
            Phase::Opening(_) => self.progress.after(bounds.connect_timeout),
            Phase::Open => self.limit(bounds).0.min(timer),
            Phase::Closing(_) => self.limit(bounds).0,
            Phase::Lingering(..) => self.progress.after(limits::LINGER),
            Phase::Condemned(..) | Phase::Gone => Moment::NEVER,
        }
    }

    /// What has come due by now.
    pub(crate) fn due(&self, bounds: &Bounds, timer: Moment, now: Moment) -> Due {
        let (limit, reason) = self.limit(bounds);
        match self.phase {
            Phase::Opening(_) if self.deadline(bounds, timer) <= now => Due::End(CloseReason::TimedOut),
            Phase::Open | Phase::Closing(_) if limit <= now => Due::End(reason),
            Phase::Open if timer <= now => Due::Timer,
            Phase::Lingering(reason, _) if self.deadline(bounds, timer) <= now => Due::End(reason),
            _ => Due::Nothing,
        }
    }

    /// The limit that runs, and what it means: while output waits only the write timeout does.
    fn limit(&self, bounds: &Bounds) -> (Moment, CloseReason) {
        let (span, reason) = if self.pending() > 0 {
            (bounds.write_timeout, CloseReason::WriteStalled)
        } else {
            (bounds.idle_timeout, CloseReason::TimedOut)
        };
        (span.map_or(Moment::NEVER, |span| self.progress.after(span)), reason)
    }

    /// Notes that the handler's output did not all go out at once.
    pub(crate) fn owe_flushed(&mut self) {
        self.notice = match self.notice {
            Notice::None | Notice::Owed => Notice::Owed,
            Notice::Told | Notice::OwedAgain => Notice::OwedAgain,
        };
    }

    /// Takes note of a read of `count` bytes into room for `room`.
    pub(crate) fn received(&mut self, count: usize, room: usize) {
        self.spend(count);
        let short = count < room;
        if short && self.input == Input::Ready {
            self.input = Input::Waiting;
        }
        let whole = short && count < limits::WHOLE_MESSAGE_BYTES_MAX;
        self.tail = if whole { Tail::Quiet } else { Tail::Unknown };
    }

    pub(crate) fn spend(&mut self, count: usize) {
        self.budget = self.budget.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// Whether it is there to its handler, or will be.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Opening(None))
    }

    pub(crate) fn takes_output(&self) -> bool {
        self.is_open() && self.sending == Sending::Open
    }

    /// Bytes in the outbox.
    pub(crate) fn pending(&self) -> usize {
        self.buffers.as_ref().map_or(0, |buffers| buffers.outbox.len())
    }

    /// Whether what is in the outbox was written by the connection's own callbacks.
    fn answers(&self) -> bool {
        self.buffers.as_ref().is_some_and(|buffers| buffers.answers)
    }

    /// Bytes in the inbox.
    pub(crate) fn kept(&self) -> usize {
        self.buffers.as_ref().map_or(0, |buffers| buffers.inbox.len())
    }

    /// Takes the inbox out for a callback; it comes back with what was not consumed.
    pub(crate) fn take_inbox(&mut self) -> ByteQueue {
        self.buffers.as_mut().map(|buffers| std::mem::take(&mut buffers.inbox)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, SocketAddr};
    use std::time::Duration;

    const BOUNDS: Bounds = Bounds {
        idle_timeout: Some(Duration::from_secs(60)),
        write_timeout: Some(Duration::from_secs(30)),
        connect_timeout: Duration::from_secs(10),
        input_bytes_max: 4,
        outbox_bytes_max: 4,
    };

    fn peer() -> Peer {
        Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 1))).into()
    }

    fn any_state() -> impl Strategy<Value = State> {
        let inputs = [Input::Waiting, Input::Ready, Input::Deep, Input::Ended, Input::Told];
        let phases = [
            Phase::Opening(None),
            Phase::Open,
            Phase::Closing(CloseReason::Local),
            Phase::Lingering(CloseReason::Local, 1),
        ];
        let sending = [Sending::Open, Sending::Finishing, Sending::Finished];
        let notices = [Notice::None, Notice::Owed, Notice::Told, Notice::OwedAgain];
        let sources = (prop::sample::select(inputs.to_vec()), prop::sample::select(phases.to_vec()));
        let marks =
            (prop::sample::select(notices.to_vec()), any::<[bool; 5]>(), prop::sample::select(sending.to_vec()));
        (sources, marks, 0usize..5, 0usize..5).prop_map(|((input, phase), (notice, bits, sending), kept, pending)| {
            let [paused, owes_drain, blocked, fresh, spent] = bits;
            let mut state = State::new(1, peer(), 0, Moment::START);
            let mut buffers = Box::<Buffers>::default();
            buffers.inbox.push(&[0; 4][..kept]);
            buffers.outbox.push(&[0; 4][..pending]);
            buffers.answers = fresh != blocked;
            state.buffers = Some(buffers);
            (state.input, state.phase, state.notice, state.paused) = (input, phase, notice, paused);
            state.owes_drain = owes_drain;
            state.sending = sending;
            state.output = if blocked { Output::Blocked } else { Output::Ready };
            state.rest = if fresh { Rest::Fresh } else { Rest::Seen };
            state.budget = u32::from(!spent);
            state.tail = if fresh { Tail::Quiet } else { Tail::Unknown };
            state
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn a_step_is_taken_only_where_it_may_be(state in any_state()) {
            let (kept, pending) = (state.kept(), state.pending());
            let answers_wait = pending == 4 && state.answers();
            match state.next(&BOUNDS) {
                Step::Read => prop_assert!(!state.paused && kept < 4 && !answers_wait && state.budget > 0),
                Step::Show => prop_assert!(!state.paused && kept > 0 && !answers_wait && state.budget > 0),
                Step::Flush => prop_assert!(pending > 0 && state.output == Output::Ready),
                Step::Finish => prop_assert!(pending == 0 && state.sending == Sending::Finishing),
                Step::Flushed => prop_assert!(pending == 0 && state.notice == Notice::Owed),
                Step::Overflow => {
                    prop_assert!(!state.paused && kept == 4 && pending == 0);
                    prop_assert!(!matches!(state.input, Input::Ended | Input::Told), "no more can come");
                }
                Step::End => prop_assert!(state.input == Input::Ended && (kept == 0 || pending == 0 && !state.paused)),
                Step::Shut => prop_assert!(matches!(state.phase, Phase::Closing(_)) && pending == 0),
                Step::Discard => prop_assert!(matches!(state.phase, Phase::Lingering(..)) && state.budget > 0),
                Step::Drain => prop_assert!(state.owes_drain),
                Step::Wait | Step::Later | Step::Drop(..) => {}
            }
        }

        #[test]
        fn input_left_over_means_that_a_close_must_linger(state in any_state()) {
            let is_over = matches!(state.input, Input::Ended | Input::Told);
            prop_assert!(state.kept() == 0 || is_over || state.may_be_sending());
        }

        /// Who waits with bytes to read is held up by its handler or its outbox, both of which ask again.
        #[test]
        fn nobody_waits_who_could_go_on(state in any_state()) {
            let is_there = !matches!(state.phase, Phase::Opening(_));
            if is_there && state.next(&BOUNDS) == Step::Wait && matches!(state.input, Input::Ready | Input::Deep) {
                let full_outbox = state.pending() > 0 && state.output == Output::Blocked;
                prop_assert!(full_outbox || state.paused, "{:?} {:?}", state.phase, state.input);
            }
        }
    }

    #[test]
    fn while_output_waits_only_the_write_timeout_runs() {
        let mut state = State::new(1, peer(), 0, Moment::START);
        let at = |seconds| Moment::START.after(Duration::from_secs(seconds));
        let never = Moment::NEVER;
        assert_eq!((state.deadline(&BOUNDS, never), state.due(&BOUNDS, never, at(59))), (at(60), Due::Nothing));
        assert_eq!(state.due(&BOUNDS, never, at(60)), Due::End(CloseReason::TimedOut));
        state.buffers.get_or_insert_default().outbox.push(b"x");
        assert_eq!(state.due(&BOUNDS, never, at(30)), Due::End(CloseReason::WriteStalled));
        assert_eq!((state.deadline(&BOUNDS, at(10)), state.due(&BOUNDS, at(10), at(10))), (at(10), Due::Timer));
    }

    #[test]
    fn an_entry_of_the_tables_is_small() {
        assert!(size_of::<State>() <= 80, "{} bytes", size_of::<State>());
    }

    #[test]
    fn a_second_notice_in_a_turn_waits_for_the_next() {
        let mut state = State::new(1, peer(), 0, Moment::START);
        state.input = Input::Waiting;
        state.notice = Notice::Told;
        state.owe_flushed();
        assert_eq!(state.next(&BOUNDS), Step::Later);
        state.begin_turn(1);
        assert_eq!(state.next(&BOUNDS), Step::Flushed);
    }
}
