//! A WebSocket server (RFC 6455) that echoes messages.
//!
//! `cargo run --release -p protocols --bin websocket_echo`, then `python3 -m websockets ws://localhost:8765` (package
//! `websockets`). Another address may be given.
//!
//! `httparse` reads the request of the handshake, then a [`Decoder`] finds the frames. Each frame is echoed at once, so a
//! message in several frames is never held as a whole.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use halloo::framing::{Decoded, Decoder, Frames};
use halloo::{Connection, EventLoop, Listen, StreamHandler};
use httparse::{EMPTY_HEADER, Request, Status};
use sha1::{Digest, Sha1};

/// The longest request of a handshake, and the longest payload of a frame.
const REQUEST_BYTES_MAX: usize = 8 * 1024;
const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;

/// Two bytes, eight of length, four of mask.
const HEADER_BYTES_MAX: usize = 14;

/// RFC 6455 section 1.3.
const KEY_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Status codes of a close frame: RFC 6455 section 7.4.1.
const GOING_AWAY: u16 = 1001;
const PROTOCOL_ERROR: u16 = 1002;
const INVALID_DATA: u16 = 1007;
const TOO_BIG: u16 = 1009;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address: SocketAddr = std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:8765").parse()?;
    let mut events = EventLoop::new()?;
    let frame_bytes_max = HEADER_BYTES_MAX + PAYLOAD_BYTES_MAX;
    let at = Listen::from(address)
        .idle_timeout(Duration::from_secs(600))
        .input_bytes_max(frame_bytes_max)
        // `Frames` returns a frame while half of the outbox is free: its echo fits.
        .outbox_bytes_max(2 * frame_bytes_max);
    let listener = events.listen(at, Echo::default())?;
    println!("Listening on {}", events.local_addr(listener)?);
    events.run()?;
    Ok(())
}

#[derive(Default)]
struct Echo {
    /// The payload without its mask. One buffer serves all frames.
    payload: Vec<u8>,
}

enum Session {
    Handshake,
    Open(Open),
}

impl StreamHandler for Echo {
    type Session = Session;

    fn on_open(&mut self, _: &mut Connection<'_>) -> Option<Session> {
        Some(Session::Handshake)
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, session: &mut Session, input: &[u8]) -> usize {
        let open = match session {
            Session::Open(open) => open,
            Session::Handshake => match answer_handshake(input) {
                Ok(None) => return 0,
                Ok(Some((request_bytes, response))) => {
                    let _ = connection.send(response.as_bytes());
                    *session = Session::Open(Open::default());
                    return request_bytes + self.on_data(connection, session, &input[request_bytes..]);
                }
                Err(status) => {
                    let _ = connection.send(format!("HTTP/1.1 {status}\r\nConnection: close\r\n\r\n").as_bytes());
                    connection.close();
                    return input.len();
                }
            },
        };
        let mut frames = Frames::new(input);
        while let Some(frame) = frames.next(connection, &mut open.decoder) {
            self.on_frame(connection, open, &frame);
        }
        if let Some(status) = frames.error() {
            send_frame(connection, true, Opcode::Close, &status.to_be_bytes());
        }
        frames.finish(connection)
    }

    fn on_drain(&mut self, connection: &mut Connection<'_>, session: &mut Session) {
        match session {
            Session::Handshake => connection.close(),
            // The client answers with a close frame of its own.
            Session::Open(open) => {
                send_frame(connection, true, Opcode::Close, &GOING_AWAY.to_be_bytes());
                open.is_closing = true;
            }
        }
    }

    fn input_bytes_min(&self) -> usize {
        HEADER_BYTES_MAX + PAYLOAD_BYTES_MAX
    }
}

impl Echo {
    fn on_frame(&mut self, connection: &mut Connection<'_>, open: &mut Open, frame: &Frame<'_>) {
        self.payload.clear();
        self.payload.extend(frame.masked.iter().zip(frame.mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        match frame.opcode {
            // After our close frame, only the client's counts.
            Opcode::Close if open.is_closing => connection.close(),
            Opcode::Pong => {}
            _ if open.is_closing => {}
            Opcode::Ping => send_frame(connection, true, Opcode::Pong, &self.payload),
            Opcode::Close => {
                let status = self.payload.first_chunk().map_or(&[][..], |status: &[u8; 2]| status);
                send_frame(connection, true, Opcode::Close, status);
                connection.close();
            }
            Opcode::Text | Opcode::Binary | Opcode::Continuation => {
                if frame.opcode != Opcode::Continuation {
                    open.is_text = frame.opcode == Opcode::Text;
                }
                if open.is_text && !open.is_valid_text(&self.payload, frame.is_last) {
                    send_frame(connection, true, Opcode::Close, &INVALID_DATA.to_be_bytes());
                    return connection.close();
                }
                send_frame(connection, frame.is_last, frame.opcode, &self.payload);
            }
        }
    }
}

/// What is known about an open connection.
#[derive(Default)]
struct Open {
    decoder: WebSocketDecoder,
    is_text: bool,
    /// The begin of a character whose rest is in the next frame.
    text_tail: Vec<u8>,
    /// Our close frame is sent.
    is_closing: bool,
}

impl Open {
    fn is_valid_text(&mut self, payload: &[u8], is_last: bool) -> bool {
        self.text_tail.extend(payload);
        let valid = match str::from_utf8(&self.text_tail) {
            Ok(text) => text.len(),
            Err(error) if error.error_len().is_none() && !is_last => error.valid_up_to(),
            Err(_) => return false,
        };
        self.text_tail.drain(..valid);
        true
    }
}

// ---- frames ---------------------------------------------------------------------------------------------------------

#[derive(Clone, Copy, PartialEq, Eq)]
enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

struct Frame<'i> {
    is_last: bool,
    opcode: Opcode,
    mask: [u8; 4],
    masked: &'i [u8],
}

/// Finds frames: RFC 6455 section 5.2.
#[derive(Default)]
struct WebSocketDecoder {
    /// A message has begun, and its last frame has not come.
    is_in_message: bool,
}

impl Decoder for WebSocketDecoder {
    type Frame<'i> = Frame<'i>;
    /// The status code for the client.
    type Error = u16;

    fn decode<'i>(&mut self, input: &'i [u8]) -> Result<Decoded<Frame<'i>>, u16> {
        let [first, second, rest @ ..] = input else { return Ok(Decoded::Incomplete(0)) };
        let is_last = first & 0x80 != 0;
        let opcode = match first & 0x7f {
            0 if self.is_in_message => Opcode::Continuation,
            1 if !self.is_in_message => Opcode::Text,
            2 if !self.is_in_message => Opcode::Binary,
            8 if is_last => Opcode::Close,
            9 if is_last => Opcode::Ping,
            10 if is_last => Opcode::Pong,
            _ => return Err(PROTOCOL_ERROR),
        };
        let is_control = opcode as u8 >= 8;
        let length_bytes = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        // A client masks every frame. A control frame is short.
        if second & 0x80 == 0 || is_control && length_bytes > 0 {
            return Err(PROTOCOL_ERROR);
        }
        let Some((length, rest)) = rest.split_at_checked(length_bytes) else { return Ok(Decoded::Incomplete(0)) };
        let length = match length {
            [] => u64::from(second & 0x7f),
            bytes => bytes.iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        let length = usize::try_from(length).ok().filter(|length| *length <= PAYLOAD_BYTES_MAX).ok_or(TOO_BIG)?;
        let Some((mask, rest)) = rest.split_first_chunk() else { return Ok(Decoded::Incomplete(0)) };
        let Some(masked) = rest.get(..length) else { return Ok(Decoded::Incomplete(0)) };
        if opcode == Opcode::Close && length == 1 {
            return Err(PROTOCOL_ERROR);
        }
        if !is_control {
            self.is_in_message = !is_last;
        }
        Ok(Decoded::Frame(Frame { is_last, opcode, mask: *mask, masked }, 2 + length_bytes + 4 + length))
    }
}

/// Sends a frame; a connection without room for it is reset.
fn send_frame(connection: &mut Connection<'_>, is_last: bool, opcode: Opcode, payload: &[u8]) {
    let first = u8::from(is_last) << 7 | opcode as u8;
    let length = payload.len() as u64;
    let long = length.to_be_bytes();
    let sent = match length {
        0..126 => connection.send_parts(&[&[first, long[7]], payload]),
        126..0x1_0000 => connection.send_parts(&[&[first, 126], &long[6..], payload]),
        _ => connection.send_parts(&[&[first, 127], &long, payload]),
    };
    if sent.is_err() {
        connection.abort();
    }
}

// ---- handshake ------------------------------------------------------------------------------------------------------

/// Returns the length of the request and the response to it, `None` while the request is not whole, or the status line of
/// a refusal.
fn answer_handshake(input: &[u8]) -> Result<Option<(usize, String)>, &'static str> {
    let mut headers = [EMPTY_HEADER; 64];
    let mut request = Request::new(&mut headers);
    let bytes = match request.parse(input) {
        Ok(Status::Complete(bytes)) => bytes,
        Ok(Status::Partial) if input.len() < REQUEST_BYTES_MAX => return Ok(None),
        _ => return Err("400 Bad Request"),
    };
    let header = |name: &str| {
        let found = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        found.map_or(&b""[..], |header| header.value)
    };
    if request.method != Some("GET") || !header("Upgrade").eq_ignore_ascii_case(b"websocket") {
        return Err("426 Upgrade Required\r\nUpgrade: websocket");
    }
    if header("Sec-WebSocket-Version") != b"13" {
        return Err("426 Upgrade Required\r\nSec-WebSocket-Version: 13");
    }
    let key = header("Sec-WebSocket-Key");
    if key.len() != 24 {
        return Err("400 Bad Request");
    }
    let accept = STANDARD.encode(Sha1::new().chain_update(key).chain_update(KEY_SUFFIX).finalize());
    let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade";
    Ok(Some((bytes, format!("{head}\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"))))
}
