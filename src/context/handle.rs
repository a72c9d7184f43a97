//! The handle to a loop for other threads.
//!
//! After the loop has ended, every call returns an error.

use std::fmt;
use std::time::Duration;

use crate::context::Context;
use crate::context::mailbox::{Mailbox, MailboxSender, Message};
use crate::error::LoopStopped;
use crate::ids::ConnectionId;

/// Reaches a loop from any thread; cheap to clone.
///
/// It must not be used in a signal handler, which may have interrupted the thread in the middle of an allocation or of a
/// call of the same handle: its methods allocate and lock, and would wait for ever (signal-safety(7)). To stop a loop on
/// a signal, have the signal handler write a byte to a socket pair, and [watch](crate::EventLoop::watch) the other end.
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
    mailbox: MailboxSender,
}

impl Handle {
    /// Runs a job on the loop's thread. A job that was accepted when the loop ends is dropped without being run.
    ///
    /// # Errors
    /// [`LoopStopped`] once the loop has ended.
    pub fn post(&self, job: impl FnOnce(&mut Context) + Send + 'static) -> Result<(), LoopStopped> {
        self.mailbox.post(Message::Job(Box::new(job)))
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
    /// [`LoopStopped`] once the loop has ended.
    pub fn notify(&self, id: ConnectionId, value: u64) -> Result<(), LoopStopped> {
        self.mailbox.post(Message::Notify(id, value))
    }

    /// [`Context::stop`], from here.
    ///
    /// # Errors
    /// [`LoopStopped`] once the loop has ended.
    pub fn stop(&self) -> Result<(), LoopStopped> {
        self.post(Context::stop)
    }

    /// [`Context::drain`], from here.
    ///
    /// # Errors
    /// [`LoopStopped`] once the loop has ended.
    pub fn drain(&self, grace: Duration) -> Result<(), LoopStopped> {
        self.post(move |context| context.drain(grace))
    }

    pub(crate) fn new(mailbox: &Mailbox) -> Self {
        Self { mailbox: mailbox.sender.clone() }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}
