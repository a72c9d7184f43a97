//! Frame formats, and sending a frame.
//!
//! A frame is sent whole or not at all.

use std::fmt;

use crate::context::connection::Connection;
use crate::error::SendError;

/// The format of frames in a stream: a delimiter after each, or a length before it.
///
/// ```
/// use halloo::framing::{self, ByteOrder, Format};
///
/// // DNS over TCP (RFC 1035 section 4.2.2): a length of two bytes, the high byte first.
/// const DNS: Format = Format::LengthU16(ByteOrder::BigEndian);
///
/// let echo = framing::frames(DNS, 4096, |connection, message| {
///     let _ = DNS.send(connection, message);
/// });
/// # let _ = echo;
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Format {
    /// Lines that end in LF; a CR before it is removed.
    Lines,
    /// Frames that end in this byte. For NUL-terminated text it is 0.
    Delimiter(u8),
    /// A length of two bytes, then as many bytes. The length does not count itself.
    LengthU16(ByteOrder),
    /// A length of four bytes, then as many bytes. The length does not count itself.
    LengthU32(ByteOrder),
}

/// The byte order of a length.
///
/// ```
/// use halloo::framing::{ByteOrder, Format};
///
/// let network = Format::LengthU32(ByteOrder::BigEndian);
/// assert_ne!(network, Format::LengthU32(ByteOrder::LittleEndian));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ByteOrder {
    /// The high byte first: network byte order.
    BigEndian,
    /// The low byte first.
    LittleEndian,
}

/// The reason why [`Format::send`] queued nothing.
///
/// ```
/// use halloo::framing::FrameSendError;
/// assert_eq!(FrameSendError::from(halloo::SendError::Full), FrameSendError::Full);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum FrameSendError {
    /// The outbox has no room for the frame now: [`SendError::Full`].
    Full,
    /// The frame is longer than `outbox_bytes_max` ([`SendError::TooLong`]), or the payload is too long for the length
    /// prefix.
    TooLong,
    /// The connection accepts no more output: [`SendError::Closed`].
    Closed,
    /// The payload contains the delimiter: the peer would read two frames.
    ContainsDelimiter,
}

impl From<SendError> for FrameSendError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Full => Self::Full,
            SendError::TooLong => Self::TooLong,
            SendError::Closed => Self::Closed,
        }
    }
}

impl fmt::Display for FrameSendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => SendError::Full.fmt(f),
            Self::TooLong => f.write_str("cannot send: the frame is too long for the outbox or the length prefix"),
            Self::Closed => SendError::Closed.fmt(f),
            Self::ContainsDelimiter => f.write_str("cannot send: the payload contains the delimiter"),
        }
    }
}

impl std::error::Error for FrameSendError {}

impl Format {
    /// Sends one frame with its delimiter or length: all of it, or nothing.
    ///
    /// Payload and delimiter count in the outbox together, and are copied only there. A peer of the same format reads
    /// exactly the payload. So a line that itself ends in CR is terminated by CR LF.
    ///
    /// ```
    /// use halloo::framing::{self, ByteOrder, Format, FrameSendError};
    ///
    /// const FORMAT: Format = Format::LengthU32(ByteOrder::LittleEndian);
    ///
    /// // Sends each frame back, and closes the connection if it does not fit.
    /// let echo = framing::frames(FORMAT, 1024, |connection, frame| {
    ///     if FORMAT.send(connection, frame) == Err(FrameSendError::Full) {
    ///         connection.close();
    ///     }
    /// });
    /// # let _ = echo;
    /// ```
    ///
    /// # Errors
    /// [`FrameSendError::Full`] as for [`Connection::send`]; retry in [`on_flushed`](crate::StreamHandler::on_flushed).
    /// The other errors are permanent: the format cannot carry the payload, or the connection is closed.
    pub fn send(self, connection: &mut Connection<'_>, payload: &[u8]) -> Result<(), FrameSendError> {
        match self {
            Self::Lines => {
                let end: &[u8] = if payload.ends_with(b"\r") { b"\r\n" } else { b"\n" };
                send_delimited(connection, payload, b'\n', end)
            }
            Self::Delimiter(byte) => send_delimited(connection, payload, byte, &[byte]),
            Self::LengthU16(order) => {
                let length = u16::try_from(payload.len()).map_err(|_| FrameSendError::TooLong)?;
                Ok(connection.send_parts(&[&order.in_order(length.to_be_bytes()), payload])?)
            }
            Self::LengthU32(order) => {
                let length = u32::try_from(payload.len()).map_err(|_| FrameSendError::TooLong)?;
                Ok(connection.send_parts(&[&order.in_order(length.to_be_bytes()), payload])?)
            }
        }
    }
}

impl ByteOrder {
    /// Converts the bytes of a number from big-endian to this order, or back.
    pub(crate) fn in_order<const BYTES: usize>(self, mut bytes: [u8; BYTES]) -> [u8; BYTES] {
        if self == Self::LittleEndian {
            bytes.reverse();
        }
        bytes
    }
}

fn send_delimited(
    connection: &mut Connection<'_>,
    payload: &[u8],
    delimiter: u8,
    end: &[u8],
) -> Result<(), FrameSendError> {
    if memchr::memchr(delimiter, payload).is_some() {
        return Err(FrameSendError::ContainsDelimiter);
    }
    Ok(connection.send_parts(&[payload, end])?)
}
