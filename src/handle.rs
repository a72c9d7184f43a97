//! The way into a loop from other threads: a mailbox of errands, and the wake that makes the loop look into it.
//!
//! A job runs on the loop's thread with the [`Context`] in its hands, in the turn after it was posted. Posting wakes
//! the poll once, however many jobs wait. Once the loop has ended, every call says so.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::Stopped;
use crate::tables::Context;
use crate::token::ConnectionId;

/// Reaches a loop from any thread; cheap to clone.
///
/// ```
/// let mut events = halloo::EventLoop::new()?;
/// let handle = events.handle();
/// let other = std::thread::spawn(move || handle.stop());
/// events.run()?;
/// assert!(other.join().unwrap().is_ok());
/// # Ok::<(), halloo::Error>(())
/// ```
#[derive(Clone)]
pub struct Handle {
    mailbox: Arc<Mailbox>,
}

pub(crate) type Job = Box<dyn FnOnce(&mut Context) + Send>;

/// What a handle asks for.
pub(crate) enum Errand {
    Job(Job),
    /// To tell a connection a value.
    Note(ConnectionId, u64),
}

impl Handle {
    /// Runs a job on the loop's thread. A job that was accepted when the loop ends is dropped without being run.
    ///
    /// # Errors
    /// [`Stopped`] once the loop has ended.
    pub fn post(&self, job: impl FnOnce(&mut Context) + Send + 'static) -> Result<(), Stopped> {
        self.mailbox.post(Errand::Job(Box::new(job)))
    }

    /// [`Context::notify`], from here, without an allocation for each.
    ///
    /// ```
    /// # use halloo::{ConnectionId, Handle};
    /// /// Tells a connection from a thread that has computed something for it.
    /// fn tell(handle: &Handle, client: ConnectionId, result: u64) {
    ///     if handle.notify(client, result).is_err() {
    ///         eprintln!("the server has ended");
    ///     }
    /// }
    /// # let _ = tell;
    /// ```
    ///
    /// # Errors
    /// [`Stopped`] once the loop has ended.
    pub fn notify(&self, id: ConnectionId, value: u64) -> Result<(), Stopped> {
        self.mailbox.post(Errand::Note(id, value))
    }

    /// [`Context::stop`], from here.
    ///
    /// # Errors
    /// [`Stopped`] once the loop has ended.
    pub fn stop(&self) -> Result<(), Stopped> {
        self.post(Context::stop)
    }

    /// [`Context::drain`], from here.
    ///
    /// # Errors
    /// [`Stopped`] once the loop has ended.
    pub fn drain(&self, grace: Duration) -> Result<(), Stopped> {
        self.post(move |context| context.drain(grace))
    }

    pub(crate) fn to(mailbox: &Arc<Mailbox>) -> Self {
        Self { mailbox: Arc::clone(mailbox) }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

/// What handles and their loop share.
pub(crate) struct Mailbox {
    /// `None` once the loop has ended.
    errands: Mutex<Option<VecDeque<Errand>>>,
    /// How many there are, so that a turn without any takes no lock.
    waiting: AtomicUsize,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Mailbox {
    pub(crate) fn new(wake: Box<dyn Fn() + Send + Sync>) -> Arc<Self> {
        Arc::new(Self { errands: Mutex::new(Some(VecDeque::new())), waiting: AtomicUsize::new(0), wake })
    }

    fn post(&self, errand: Errand) -> Result<(), Stopped> {
        let mut lock = self.lock();
        let errands = lock.as_mut().ok_or(Stopped)?;
        errands.push_back(errand);
        self.waiting.store(errands.len(), Ordering::Release);
        let first = errands.len() == 1;
        drop(lock);
        if first {
            (self.wake)();
        }
        Ok(())
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    pub(crate) fn take(&self) -> Option<Errand> {
        let mut lock = self.lock();
        let errands = lock.as_mut()?;
        let errand = errands.pop_front();
        self.waiting.store(errands.len(), Ordering::Release);
        errand
    }

    pub(crate) fn close(&self) {
        self.waiting.store(0, Ordering::Release);
        let errands = self.lock().take();
        // Dropped here, after the lock: what a job holds may itself call a handle when it goes.
        drop(errands);
    }

    /// The lock is never held over foreign code, so a poisoned one guards a whole queue.
    fn lock(&self) -> MutexGuard<'_, Option<VecDeque<Errand>>> {
        self.errands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_posts_wake_the_loop_once_until_it_has_looked() {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&wakes);
        let mailbox = Mailbox::new(Box::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        }));
        let handle = Handle::to(&mailbox);
        for _ in 0..10 {
            handle.stop().expect("it is open");
        }
        assert_eq!((wakes.load(Ordering::Relaxed), mailbox.waiting()), (1, 10));
        while mailbox.take().is_some() {}
        handle.stop().expect("it is open");
        assert_eq!((wakes.load(Ordering::Relaxed), mailbox.waiting()), (2, 1));
    }

    #[test]
    fn a_job_that_calls_a_handle_when_it_is_dropped_does_not_lock_up() {
        struct Bomb(Handle);
        impl Drop for Bomb {
            fn drop(&mut self) {
                assert_eq!(self.0.stop(), Err(Stopped));
            }
        }
        let mailbox = Mailbox::new(Box::new(|| {}));
        let handle = Handle::to(&mailbox);
        let bomb = Bomb(handle.clone());
        handle.post(move |_| drop(bomb)).expect("it is open");
        mailbox.close();
        assert_eq!(handle.stop(), Err(Stopped));
    }
}
