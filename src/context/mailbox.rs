//! Messages from other threads to a loop.
//!
//! One wake-up suffices for all messages posted before the loop receives the first.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::context::Context;
use crate::error::LoopStopped;
use crate::ids::ConnectionId;

pub(crate) type Job = Box<dyn FnOnce(&mut Context) + Send>;

/// What a handle asks for.
pub(crate) enum Message {
    Job(Job),
    /// To tell a connection a value.
    Notify(ConnectionId, u64),
}

/// What handles and their loop share.
pub(crate) struct Mailbox {
    /// `None` once the loop has ended.
    messages: Mutex<Option<VecDeque<Message>>>,
    /// How many there are, so that a turn without any takes no lock.
    message_count: AtomicUsize,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Mailbox {
    pub(crate) fn new(wake: Box<dyn Fn() + Send + Sync>) -> Arc<Self> {
        Arc::new(Self { messages: Mutex::new(Some(VecDeque::new())), message_count: AtomicUsize::new(0), wake })
    }

    pub(crate) fn post(&self, message: Message) -> Result<(), LoopStopped> {
        let mut lock = self.lock();
        let messages = lock.as_mut().ok_or(LoopStopped)?;
        messages.push_back(message);
        self.message_count.store(messages.len(), Ordering::Release);
        let first = messages.len() == 1;
        drop(lock);
        if first {
            (self.wake)();
        }
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.message_count.load(Ordering::Acquire)
    }

    pub(crate) fn receive(&self) -> Option<Message> {
        let mut lock = self.lock();
        let messages = lock.as_mut()?;
        let message = messages.pop_front();
        self.message_count.store(messages.len(), Ordering::Release);
        message
    }

    pub(crate) fn close(&self) {
        self.message_count.store(0, Ordering::Release);
        let messages = self.lock().take();
        // Dropped here, after the lock: what a job holds may itself call a handle when it goes.
        drop(messages);
    }

    /// The lock is never held over foreign code, so a poisoned one guards a whole queue.
    fn lock(&self) -> MutexGuard<'_, Option<VecDeque<Message>>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::handle::Handle;

    #[test]
    fn many_posts_wake_the_loop_once_until_it_has_looked() {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&wakes);
        let mailbox = Mailbox::new(Box::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        }));
        let handle = Handle::new(&mailbox);
        for _ in 0..10 {
            handle.stop().expect("it is open");
        }
        assert_eq!((wakes.load(Ordering::Relaxed), mailbox.len()), (1, 10));
        while mailbox.receive().is_some() {}
        handle.stop().expect("it is open");
        assert_eq!((wakes.load(Ordering::Relaxed), mailbox.len()), (2, 1));
    }

    #[test]
    fn a_job_that_calls_a_handle_when_it_is_dropped_does_not_lock_up() {
        struct CallsHandleOnDrop(Handle);
        impl Drop for CallsHandleOnDrop {
            fn drop(&mut self) {
                assert_eq!(self.0.stop(), Err(LoopStopped));
            }
        }
        let mailbox = Mailbox::new(Box::new(|| {}));
        let handle = Handle::new(&mailbox);
        let job_state = CallsHandleOnDrop(handle.clone());
        handle.post(move |_| drop(job_state)).expect("it is open");
        mailbox.close();
        assert_eq!(handle.stop(), Err(LoopStopped));
    }
}
