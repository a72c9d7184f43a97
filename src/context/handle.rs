//! The handle to a loop for other threads.
//!
//! After the loop has ended, every call returns an error.

use std::fmt;
use std::time::Duration;

use crate::context::Context;
use crate::context::mailbox::{Mailbox, MailboxSender, Message};
use crate::error::LoopStopped;
use crate::ids::ConnectionId;
use crate::observe::entry::Level;

/// A handle to a loop, for any thread. It is cheap to clone.
///
/// Never use it in a signal handler: its methods allocate and lock, and can deadlock if the signal interrupted an
/// allocation or a call of the same handle (signal-safety(7)). To stop a loop on a signal, write a byte to a socket
/// pair in the signal handler, and [watch](crate::EventLoop::watch) the other end.
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
    /// Runs a job on the loop's thread. If the loop ends before the job runs, the job is dropped.
    ///
    /// # Errors
    /// [`LoopStopped`] once the loop has ended.
    pub fn post(&self, job: impl FnOnce(&mut Context) + Send + 'static) -> Result<(), LoopStopped> {
        self.mailbox.post(Message::Job(Box::new(job)))
    }

    /// Calls [`Context::notify`] on the loop's thread, without an allocation per call.
    ///
    /// ```
    /// # use halloo::{ConnectionId, Handle};
    /// /// Sends a computed result to a connection, from another thread.
    /// fn send_result(handle: &Handle, client: ConnectionId, result: u64) {
    ///     if handle.notify(client, result).is_err() {
    ///         eprintln!("the server has ended");
    ///     }
    /// }
    /// # let _ = send_result;
    /// ```
    ///
    /// # Errors
    /// [`LoopStopped`] once the loop has ended.
    pub fn notify(&self, id: ConnectionId, value: u64) -> Result<(), LoopStopped> {
        self.mailbox.post(Message::Notify(id, value))
    }

    /// Calls [`Context::stop`] on the loop's thread.
    ///
    /// # Errors
    /// [`LoopStopped`] once the loop has ended.
    pub fn stop(&self) -> Result<(), LoopStopped> {
        self.post(Context::stop)
    }

    /// Calls [`Context::drain`] on the loop's thread.
    ///
    /// # Errors
    /// [`LoopStopped`] once the loop has ended.
    pub fn drain(&self, grace: Duration) -> Result<(), LoopStopped> {
        self.post(move |context| context.drain(grace))
    }

    /// Calls [`Context::journal_level`] on the loop's thread.
    ///
    /// # Errors
    /// [`LoopStopped`] once the loop has ended.
    pub fn journal_level(&self, level: Level) -> Result<(), LoopStopped> {
        self.post(move |context| context.journal_level(level))
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
