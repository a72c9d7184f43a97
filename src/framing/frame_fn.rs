//! Closures, and borrowed and boxed handlers, as frame handlers.

use std::{fmt, io};

use crate::close_reason::CloseReason;
use crate::context::Context;
use crate::context::connection::Connection;
use crate::context::handler_impls::forward_connection_methods;
use crate::framing::format::Format;
use crate::framing::{FrameHandler, Framed};
use crate::ids::{ConnectionId, HandlerId, TimerId};

/// A closure as a frame handler, made by [`frames`] and [`lines`].
///
/// ```
/// use halloo::Connection;
/// use halloo::framing::{self, FrameFn, Framed};
///
/// /// A server that keeps its handler can name its type.
/// struct Server {
///     echo: Framed<FrameFn<fn(&mut Connection<'_>, &[u8])>>,
/// }
///
/// let server = Server { echo: framing::lines(1024, |connection, line| { let _ = connection.send(line); }) };
/// # let _ = server.echo;
/// ```
#[derive(Clone, Copy)]
pub struct FrameFn<F> {
    closure: F,
}

/// Makes a stream handler of a closure that is called with each frame. Like one of [`stream`](crate::stream) it keeps no
/// session, and closes its connections when the loop drains.
///
/// ```
/// use halloo::framing::{self, ByteOrder, Format};
///
/// const FORMAT: Format = Format::LengthU16(ByteOrder::BigEndian);
/// let shout = framing::frames(FORMAT, 1024, |connection, frame| {
///     let _ = FORMAT.send(connection, &frame.to_ascii_uppercase());
/// });
/// # let _ = shout;
/// ```
pub fn frames<F>(format: Format, frame_bytes_max: usize, closure: F) -> Framed<FrameFn<F>>
where
    F: FnMut(&mut Connection<'_>, &[u8]),
{
    Framed::new(format, frame_bytes_max, FrameFn { closure })
}

/// [`frames`] for [`Format::Lines`].
///
/// ```
/// use halloo::framing::{self, Format};
///
/// let shout = framing::lines(1024, |connection, line| {
///     let _ = Format::Lines.send(connection, &line.to_ascii_uppercase());
/// });
/// # let _ = shout;
/// ```
pub fn lines<F>(frame_bytes_max: usize, closure: F) -> Framed<FrameFn<F>>
where
    F: FnMut(&mut Connection<'_>, &[u8]),
{
    frames(Format::Lines, frame_bytes_max, closure)
}

impl<F> FrameHandler for FrameFn<F>
where
    F: FnMut(&mut Connection<'_>, &[u8]),
{
    type Session = ();

    fn on_open(&mut self, _: &mut Connection<'_>) -> Option<()> {
        Some(())
    }

    fn on_frame(&mut self, connection: &mut Connection<'_>, (): &mut (), frame: &[u8]) {
        (self.closure)(connection, frame);
    }

    fn on_drain(&mut self, connection: &mut Connection<'_>, (): &mut ()) {
        connection.close();
    }
}

impl<F> fmt::Debug for FrameFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameFn").finish_non_exhaustive()
    }
}

macro_rules! forward_to {
    ($pointer:ty) => {
        #[warn(clippy::missing_trait_methods)]
        impl<H: FrameHandler + ?Sized> FrameHandler for $pointer {
            type Session = H::Session;

            forward_connection_methods!();

            fn on_frame(&mut self, connection: &mut Connection<'_>, session: &mut Self::Session, frame: &[u8]) {
                (**self).on_frame(connection, session, frame);
            }

            fn on_unfinished(&mut self, connection: &mut Connection<'_>, session: &mut Self::Session, rest: &[u8]) {
                (**self).on_unfinished(connection, session, rest);
            }
        }
    };
}

forward_to!(&mut H);
forward_to!(Box<H>);
