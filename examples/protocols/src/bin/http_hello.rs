//! An HTTP/1.1 server: keep-alive, pipelining, HEAD, error statuses.
//!
//! `cargo run --release -p protocols --bin http_hello`, then `curl -v localhost:8080`. An argument sets another listen
//! address.
//!
//! `httparse` parses a request in the input, without a copy. If the answer does not fit the outbox, the request is not
//! consumed. It is delivered again when there is room, so pipelining needs no queue and its memory is bounded.

use std::io::Write;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use halloo::{Connection, EventLoop, Listen, SendError, StreamHandler};
use httparse::{Error, Request, Status};

/// Request line and headers. A longer head is refused with status 431.
const HEAD_BYTES_MAX: usize = 8 * 1024;
const HEADERS_MAX: usize = 64;

/// A body up to this length is skipped, and a longer one is refused: no path takes a body.
const BODY_BYTES_MAX: usize = 64 * 1024;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address: SocketAddr = std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:8080").parse()?;
    let mut events = EventLoop::new()?;
    // An incomplete head is not consumed, so the bytes of a slow head do not restart the idle timeout.
    let at = Listen::from(address).idle_timeout(Duration::from_secs(15)).write_timeout(Duration::from_secs(15));
    let listener = events.listen(at, HelloHandler::default())?;
    println!("Listening on {}", events.local_addr(listener)?);
    events.run()?;
    Ok(())
}

#[derive(Default)]
struct HelloHandler {
    date: String,
    dated: Option<Instant>,
    /// The buffer of the last answer, used again for the next.
    answer: Vec<u8>,
}

impl StreamHandler for HelloHandler {
    /// Bytes of the request's body that are still to be skipped.
    type Session = usize;

    fn on_open(&mut self, _: &mut Connection<'_>) -> Option<usize> {
        Some(0)
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, to_skip: &mut usize, input: &[u8]) -> usize {
        let mut consumed = 0;
        loop {
            let skipped = (*to_skip).min(input.len() - consumed);
            *to_skip -= skipped;
            consumed += skipped;
            let Some((head_bytes, response)) = parse_request(&input[consumed..]) else { return consumed };
            if self.answer(connection, &response).is_err() {
                return consumed;
            }
            let Some(body_bytes) = response.body_bytes else {
                connection.close();
                return input.len();
            };
            *to_skip = body_bytes;
            consumed += head_bytes;
        }
    }

    fn input_bytes_min(&self) -> usize {
        HEAD_BYTES_MAX
    }
}

impl HelloHandler {
    fn answer(&mut self, connection: &mut Connection<'_>, response: &Response) -> Result<(), SendError> {
        // RFC 9110 section 6.6.1 requires a date. Its resolution is 1 s, so the text is reused for that long.
        let now = connection.context().now();
        if self.dated.is_none_or(|dated| now.duration_since(dated) >= Duration::from_secs(1)) {
            (self.dated, self.date) = (Some(now), httpdate::fmt_http_date(SystemTime::now()));
        }
        let Response { status, has_text, body_bytes } = response;
        let text = if *status == "200 OK" { "Hello, HTTP Client!" } else { status };
        let connection_header = if body_bytes.is_some() { "keep-alive" } else { "close" };
        let allow = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
        let (date, text_bytes) = (&self.date, text.len() + 1);
        self.answer.clear();
        // Writing into a `Vec` cannot fail.
        let _ = write!(
            self.answer,
            "HTTP/1.1 {status}\r\nDate: {date}\r\nContent-Type: text/plain\r\nContent-Length: {text_bytes}\r\n\
             Connection: {connection_header}\r\n{allow}\r\n"
        );
        if *has_text {
            let _ = writeln!(self.answer, "{text}");
        }
        connection.send(&self.answer)
    }
}

// ---- requests -------------------------------------------------------------------------------------------------------

/// The response to a request.
struct Response {
    status: &'static str,
    /// False for HEAD.
    has_text: bool,
    /// The bytes of body to skip before the next request, or `None` if the connection closes after the response.
    body_bytes: Option<usize>,
}

impl Response {
    fn refuse(status: &'static str) -> Self {
        Self { status, has_text: true, body_bytes: None }
    }
}

/// Returns the length of the first request's head and the response, or `None` while the head is incomplete.
fn parse_request(input: &[u8]) -> Option<(usize, Response)> {
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut request = Request::new(&mut []);
    match request.parse_with_uninit_headers(input, &mut headers) {
        Ok(Status::Complete(length)) => Some((length, route(&request).unwrap_or_else(Response::refuse))),
        Ok(Status::Partial) if input.len() < HEAD_BYTES_MAX => None,
        Ok(Status::Partial) | Err(Error::TooManyHeaders) => {
            Some((0, Response::refuse("431 Request Header Fields Too Large")))
        }
        Err(_) => Some((0, Response::refuse("400 Bad Request"))),
    }
}

/// Returns the response, or the status with which the request is refused and the connection closed.
fn route(request: &Request<'_, '_>) -> Result<Response, &'static str> {
    let is_old = request.version == Some(0);
    let (mut hosts, mut length, mut keeps_alive) = (0, None, !is_old);
    for header in request.headers.iter() {
        let is = |name| header.name.eq_ignore_ascii_case(name);
        let has = |word: &str| {
            header
                .value
                .split(|byte| *byte == b',')
                .any(|value| value.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
        };
        if is("host") {
            hosts += 1;
        } else if is("connection") {
            keeps_alive = !has("close") && (keeps_alive || has("keep-alive"));
        } else if is("content-length") && length.replace(decimal(header.value).ok_or("400 Bad Request")?).is_some() {
            return Err("400 Bad Request");
        } else if is("transfer-encoding") {
            // The end of a chunked body is not parsed, so the next request cannot be found.
            return Err("411 Length Required");
        } else if is("expect") {
            // The final status replaces `100 Continue`: the client need not send the body. The connection closes.
            keeps_alive = false;
        }
    }
    if hosts > 1 || hosts == 0 && !is_old {
        return Err("400 Bad Request");
    }
    let body_bytes = length.unwrap_or(0);
    if body_bytes > BODY_BYTES_MAX {
        return Err("413 Content Too Large");
    }
    let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
    let status = match (method, target.split('?').next()) {
        ("GET" | "HEAD", Some("/")) => "200 OK",
        ("GET" | "HEAD", _) => "404 Not Found",
        _ => "405 Method Not Allowed",
    };
    Ok(Response { status, has_text: method != "HEAD", body_bytes: keeps_alive.then_some(body_bytes) })
}

/// Parses a `Content-Length`: digits alone. A sign is refused, because other servers may read it otherwise.
fn decimal(value: &[u8]) -> Option<usize> {
    let is_plain = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    is_plain.then(|| str::from_utf8(value).ok()?.parse().ok())?
}
