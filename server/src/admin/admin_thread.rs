//! The thread of the admin endpoint.
//!
//! It ends after all workers, and never delays the exit by more than a moment.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use halloo::{EventLoop, Handle, HandlerId};

use crate::admin::AdminContext;
use crate::admin::http_handler::HttpHandler;
use crate::exit::{ExitError, os_error};
use crate::output::logger::ADMIN_THREAD_NAME;
use crate::text::bound_address::BoundSocket;

/// How long open requests may take at the end.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(100);

/// How long the exit waits for the thread, which removes the file of its socket.
const END_TIMEOUT: Duration = Duration::from_millis(200);

/// All buffers of the endpoint's connections together, in bytes.
const BUFFER_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The running endpoint. Dropping it ends the thread.
pub(crate) struct AdminThread {
    handle: Handle,
    /// Disconnected when the thread ends.
    end: Receiver<()>,
    pub(crate) sockets: Vec<BoundSocket>,
}

impl AdminThread {
    /// Starts the thread, and waits until `open` has opened its sockets on the loop, for the handler given.
    pub(crate) fn start(
        context: AdminContext,
        open: impl FnOnce(&mut EventLoop<'_>, HandlerId) -> Result<Vec<BoundSocket>, ExitError> + Send + 'static,
    ) -> Result<Self, ExitError> {
        let (sender, receiver) = mpsc::channel();
        let (alive, end) = mpsc::channel();
        let run = move || {
            let _alive = alive;
            let mut event_loop = match open_loop(context, open) {
                Ok((event_loop, sockets)) => {
                    let _ = sender.send(Ok((event_loop.handle(), sockets)));
                    event_loop
                }
                Err(error) => return drop(sender.send(Err(error))),
            };
            drop(sender);
            if let Err(error) = event_loop.run() {
                log::error!("the admin endpoint has ended, the server goes on: {error}");
            }
        };
        let thread_error = |error: &io::Error| ExitError::from_io("cannot start the admin endpoint", error);
        thread::Builder::new().name(ADMIN_THREAD_NAME.to_owned()).spawn(run).map_err(|error| thread_error(&error))?;
        let started = receiver.recv().map_err(|_| thread_error(&io::Error::other("its thread has ended")))?;
        started.map(|(handle, sockets)| Self { handle, end, sockets })
    }
}

impl Drop for AdminThread {
    fn drop(&mut self) {
        // It may have ended by an error.
        let _ = self.handle.drain(DRAIN_TIMEOUT);
        if self.end.recv_timeout(END_TIMEOUT) == Err(RecvTimeoutError::Timeout) {
            log::debug!("the admin endpoint has not ended in time");
        }
    }
}

fn open_loop(
    context: AdminContext,
    open: impl FnOnce(&mut EventLoop<'_>, HandlerId) -> Result<Vec<BoundSocket>, ExitError>,
) -> Result<(EventLoop<'static>, Vec<BoundSocket>), ExitError> {
    let mut event_loop =
        EventLoop::new().map_err(|error| ExitError::from_io("cannot start the admin endpoint", &os_error(error)))?;
    event_loop.catch_panics(true);
    event_loop.buffer_bytes_max(BUFFER_BYTES_MAX);
    let handle = event_loop.handle();
    let handler = event_loop.attach(HttpHandler::new(context, handle));
    let sockets = open(&mut event_loop, handler)?;
    Ok((event_loop, sockets))
}
