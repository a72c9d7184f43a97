//! Handlers from closures, and from borrowed and boxed handlers.
//!
//! `&mut H` and `Box<H>` forward every method to `H`. Clippy fails if one is missing.

use std::{fmt, io};

use crate::close_reason::CloseReason;
use crate::context::Context;
use crate::context::connection::Connection;
use crate::context::datagram::Datagram;
use crate::context::handler::{DatagramHandler, StreamHandler};
use crate::ids::{ConnectionId, HandlerId, TimerId, UdpSocketId};

/// A closure as a stream handler, made by [`stream`].
///
/// ```
/// use halloo::{Connection, StreamFn, stream};
///
/// /// The type of the handler has a name, so that a server can contain it.
/// struct Server {
///     echo: StreamFn<fn(&mut Connection<'_>, &[u8]) -> usize>,
/// }
///
/// let server = Server { echo: stream(|connection, input| connection.try_write(input)) };
/// # let _ = server.echo;
/// ```
#[derive(Clone, Copy)]
pub struct StreamFn<F> {
    closure: F,
}

/// A closure as a datagram handler, made by [`datagrams`].
///
/// ```
/// use halloo::{Datagram, DatagramFn, datagrams};
///
/// /// The type of the handler has a name, so that a server can contain it.
/// struct Server {
///     echo: DatagramFn<fn(&mut Datagram<'_>, &[u8])>,
/// }
///
/// let server = Server { echo: datagrams(|datagram, payload| { datagram.reply(payload); }) };
/// # let _ = server.echo;
/// ```
#[derive(Clone, Copy)]
pub struct DatagramFn<F> {
    closure: F,
}

/// Makes a stream handler from a closure. It is called with input, and returns how many bytes it has consumed. It has
/// no session, and closes its connections when the loop drains.
///
/// A closure passed to `listen` without `stream` does not compile. The compiler's message contains `stream`, or is
/// "type annotations needed" if the closure uses its arguments.
///
/// ```
/// let greet = halloo::stream(|connection, input| {
///     let _ = connection.send(b"Hello, TCP Client!");
///     connection.close();
///     input.len()
/// });
/// # let _ = greet;
/// ```
pub fn stream<F>(closure: F) -> StreamFn<F>
where
    F: FnMut(&mut Connection<'_>, &[u8]) -> usize,
{
    StreamFn { closure }
}

/// Makes a datagram handler from a closure.
///
/// A closure passed to `bind` without `datagrams` does not compile. The compiler's message contains `datagrams`, or is
/// "type annotations needed" if the closure uses its arguments.
///
/// ```
/// let greet = halloo::datagrams(|datagram, _| {
///     datagram.reply(b"Hello, UDP Client!");
/// });
/// # let _ = greet;
/// ```
pub fn datagrams<F>(closure: F) -> DatagramFn<F>
where
    F: FnMut(&mut Datagram<'_>, &[u8]),
{
    DatagramFn { closure }
}

impl<F> StreamHandler for StreamFn<F>
where
    F: FnMut(&mut Connection<'_>, &[u8]) -> usize,
{
    type Session = ();

    fn on_open(&mut self, _: &mut Connection<'_>) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, (): &mut (), input: &[u8]) -> usize {
        (self.closure)(connection, input)
    }

    fn on_drain(&mut self, connection: &mut Connection<'_>, (): &mut ()) {
        connection.close();
    }
}

impl<F> DatagramHandler for DatagramFn<F>
where
    F: FnMut(&mut Datagram<'_>, &[u8]),
{
    fn on_datagram(&mut self, datagram: &mut Datagram<'_>, payload: &[u8]) {
        (self.closure)(datagram, payload);
    }
}

impl<F> fmt::Debug for StreamFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamFn").finish_non_exhaustive()
    }
}

impl<F> fmt::Debug for DatagramFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatagramFn").finish_non_exhaustive()
    }
}

macro_rules! forward_to {
    ($pointer:ty) => {
        #[warn(clippy::missing_trait_methods)]
        impl<H: StreamHandler + ?Sized> StreamHandler for $pointer {
            type Session = H::Session;

            fn on_start(&mut self, context: &mut Context, id: HandlerId) {
                (**self).on_start(context, id);
            }

            fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<Self::Session> {
                (**self).on_open(connection)
            }

            fn on_eof(&mut self, connection: &mut Connection<'_>, session: &mut Self::Session, rest: &[u8]) {
                (**self).on_eof(connection, session, rest);
            }

            fn on_flushed(&mut self, connection: &mut Connection<'_>, session: &mut Self::Session) {
                (**self).on_flushed(connection, session);
            }

            fn on_timeout(&mut self, connection: &mut Connection<'_>, session: &mut Self::Session) {
                (**self).on_timeout(connection, session);
            }

            fn on_timer(&mut self, context: &mut Context, timer: TimerId, value: u64) {
                (**self).on_timer(context, timer, value);
            }

            fn on_notify(&mut self, connection: &mut Connection<'_>, session: &mut Self::Session, value: u64) {
                (**self).on_notify(connection, session, value);
            }

            fn on_drain(&mut self, connection: &mut Connection<'_>, session: &mut Self::Session) {
                (**self).on_drain(connection, session);
            }

            fn on_connect_failed(&mut self, context: &mut Context, id: ConnectionId, error: io::Error) {
                (**self).on_connect_failed(context, id, error);
            }

            fn on_close(&mut self, connection: &mut Connection<'_>, session: Self::Session, reason: CloseReason) {
                (**self).on_close(connection, session, reason);
            }

            fn on_data(&mut self, connection: &mut Connection<'_>, session: &mut Self::Session, input: &[u8]) -> usize {
                (**self).on_data(connection, session, input)
            }

            fn input_bytes_min(&self) -> usize {
                (**self).input_bytes_min()
            }
        }

        #[warn(clippy::missing_trait_methods)]
        impl<H: DatagramHandler + ?Sized> DatagramHandler for $pointer {
            fn on_start(&mut self, context: &mut Context, id: HandlerId) {
                (**self).on_start(context, id);
            }

            fn on_datagram(&mut self, datagram: &mut Datagram<'_>, payload: &[u8]) {
                (**self).on_datagram(datagram, payload);
            }

            fn on_timer(&mut self, context: &mut Context, timer: TimerId, value: u64) {
                (**self).on_timer(context, timer, value);
            }

            fn on_drain(&mut self, context: &mut Context, socket: UdpSocketId) {
                (**self).on_drain(context, socket);
            }
        }
    };
}

forward_to!(&mut H);
forward_to!(Box<H>);
