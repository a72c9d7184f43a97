//! Messages from other threads to a loop.
//!
//! One wake-up is enough for all messages posted before the loop takes them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::context::Context;
use crate::error::LoopStopped;
use crate::ids::ConnectionId;
use crate::limits;
use crate::state::memory::shrink_queue;

/// A job for the loop's thread.
pub(crate) type Job = Box<dyn FnOnce(&mut Context) + Send>;

/// A message of a handle.
pub(crate) enum Message {
    Job(Job),
    /// Notifies a connection of a value.
    Notify(ConnectionId, u64),
}

/// The sending side, used by handles.
#[derive(Clone)]
pub(crate) struct MailboxSender {
    shared: Arc<Shared>,
}

struct Shared {
    posted: Mutex<Posted>,
    /// There are posted messages, and the loop has been woken or will be at once. Changed only under the lock.
    has_posted: AtomicBool,
    wake: Box<dyn Fn() + Send + Sync>,
}

/// One table, which is freed as a whole. Separate blocks would lie between blocks that the allocator keeps.
#[derive(Default)]
struct Posted {
    messages: VecDeque<Message>,
    /// The loop has ended.
    is_closed: bool,
}

impl Shared {
    /// No code of an embedder runs while it is locked, so the data of a poisoned lock is complete.
    fn lock(&self) -> MutexGuard<'_, Posted> {
        self.posted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MailboxSender {
    pub(crate) fn post(&self, message: Message) -> Result<(), LoopStopped> {
        let mut posted = self.shared.lock();
        if posted.is_closed {
            return Err(LoopStopped);
        }
        let is_first = posted.messages.is_empty();
        posted.messages.push_back(message);
        if is_first {
            self.shared.has_posted.store(true, Ordering::Release);
        }
        drop(posted);
        if is_first {
            (self.shared.wake)();
        }
        Ok(())
    }
}

/// The receiving side, owned by the loop.
pub(crate) struct Mailbox {
    pub(crate) sender: MailboxSender,
    /// Messages that the loop has taken and not yet handled.
    pub(crate) taken: VecDeque<Message>,
}

impl Mailbox {
    pub(crate) fn new(wake: Box<dyn Fn() + Send + Sync>) -> Self {
        let shared = Shared { posted: Mutex::default(), has_posted: AtomicBool::new(false), wake };
        Self {
            sender: MailboxSender { shared: Arc::new(shared) },
            taken: VecDeque::with_capacity(limits::MESSAGES_PER_TURN_MAX),
        }
    }

    pub(crate) fn has_messages(&self) -> bool {
        !self.taken.is_empty() || self.sender.shared.has_posted.load(Ordering::Acquire)
    }

    /// Takes all posted messages, unless some are left; returns how many the turn may handle.
    ///
    /// The two queues change places, so a post waits only for that. A post to the empty queue wakes the loop.
    pub(crate) fn take(&mut self) -> usize {
        if self.taken.is_empty() && self.has_messages() {
            let shared = &self.sender.shared;
            let mut posted = shared.lock();
            std::mem::swap(&mut self.taken, &mut posted.messages);
            shared.has_posted.store(false, Ordering::Relaxed);
        }
        self.taken.len().min(limits::MESSAGES_PER_TURN_MAX)
    }

    /// Releases the memory of a burst that is over; returns false while there are messages.
    pub(crate) fn shrink(&mut self) -> bool {
        if self.has_messages() {
            return false;
        }
        shrink_queue(&mut self.taken, limits::MESSAGES_PER_TURN_MAX);
        shrink_queue(&mut self.sender.shared.lock().messages, limits::MESSAGES_PER_TURN_MAX);
        true
    }

    /// Refuses later posts. Earlier messages can still be [popped](Self::pop).
    pub(crate) fn close(&mut self) {
        self.sender.shared.lock().is_closed = true;
    }

    /// Returns the next message that was not handled.
    pub(crate) fn pop(&mut self) -> Option<Message> {
        self.taken.pop_front().or_else(|| self.sender.shared.lock().messages.pop_front())
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        self.close();
        while self.pop().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::context::handle::Handle;

    #[test]
    fn many_posts_wake_the_loop_once_until_it_takes_them() {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&wakes);
        let mut mailbox = Mailbox::new(Box::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        }));
        let handle = Handle::new(&mailbox);
        assert!(!mailbox.has_messages());
        for _ in 0..10 {
            handle.stop().expect("it is open");
        }
        assert_eq!((wakes.load(Ordering::Relaxed), mailbox.has_messages()), (1, true));
        assert_eq!((mailbox.take(), mailbox.has_messages()), (10, true));
        handle.stop().expect("it is open");
        assert_eq!(
            (wakes.load(Ordering::Relaxed), mailbox.take()),
            (2, 10),
            "the messages that were not handled are still there"
        );
        mailbox.taken.clear();
        assert_eq!((mailbox.take(), mailbox.has_messages()), (1, true));
    }

    #[test]
    fn a_turn_takes_a_bounded_number_of_messages_and_the_rest_needs_no_second_wake_up() {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&wakes);
        let mut mailbox = Mailbox::new(Box::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        }));
        let handle = Handle::new(&mailbox);
        for _ in 0..=limits::MESSAGES_PER_TURN_MAX {
            handle.stop().expect("it is open");
        }
        assert_eq!(mailbox.take(), limits::MESSAGES_PER_TURN_MAX);
        mailbox.taken.drain(..limits::MESSAGES_PER_TURN_MAX);
        assert!(mailbox.has_messages(), "the turn does not wait");
        assert_eq!((mailbox.take(), wakes.load(Ordering::Relaxed)), (1, 1));
        mailbox.taken.clear();
        assert!(!mailbox.has_messages());
    }

    #[test]
    fn the_memory_of_a_burst_is_released_when_all_messages_are_handled() {
        let mut mailbox = Mailbox::new(Box::new(|| {}));
        let handle = Handle::new(&mailbox);
        let room = |mailbox: &Mailbox| mailbox.taken.capacity() + mailbox.sender.shared.lock().messages.capacity();
        for _ in 0..2 {
            (0..100_000).for_each(|_| handle.stop().expect("it is open"));
            mailbox.taken.clear();
            mailbox.take();
        }
        assert!(!mailbox.shrink() && room(&mailbox) >= 200_000);
        mailbox.taken.clear();
        assert!(mailbox.shrink() && room(&mailbox) <= 2 * limits::MESSAGES_PER_TURN_MAX, "{}", room(&mailbox));
    }

    #[test]
    fn a_message_posted_while_the_loop_takes_messages_is_not_lost() {
        const ROUNDS: usize = 10_000;
        let mut mailbox = Mailbox::new(Box::new(|| {}));
        let handle = Handle::new(&mailbox);
        let handled = Arc::new(AtomicUsize::new(0));
        let handled_by_loop = Arc::clone(&handled);
        let poster = thread::spawn(move || {
            for round in 1..=ROUNDS {
                // The second is posted while the loop takes the first.
                handle.stop().expect("it is open");
                handle.stop().expect("it is open");
                while handled_by_loop.load(Ordering::Relaxed) < 2 * round {
                    thread::yield_now();
                }
            }
        });
        let mut last_message = Instant::now();
        while handled.load(Ordering::Relaxed) < 2 * ROUNDS {
            if mailbox.take() > 0 {
                last_message = Instant::now();
            } else {
                assert!(last_message.elapsed() < Duration::from_secs(10), "stuck after {handled:?} messages");
                thread::yield_now();
            }
            handled.fetch_add(mailbox.taken.drain(..).count(), Ordering::Relaxed);
        }
        poster.join().expect("no panic");
    }

    #[test]
    fn a_job_that_calls_a_handle_when_it_is_dropped_does_not_lock_up() {
        struct CallsHandleOnDrop(Handle);
        impl Drop for CallsHandleOnDrop {
            fn drop(&mut self) {
                assert_eq!(self.0.stop(), Err(LoopStopped));
            }
        }
        let mut mailbox = Mailbox::new(Box::new(|| {}));
        let handle = Handle::new(&mailbox);
        let job_state = CallsHandleOnDrop(handle.clone());
        handle.post(move |_| drop(job_state)).expect("it is open");
        mailbox.close();
        assert_eq!(handle.stop(), Err(LoopStopped));
        drop(mailbox.pop().expect("it was posted before the close"));
        assert!(mailbox.pop().is_none(), "a post after the close is refused");
    }
}
