//! An HTTP/1.1 server that says hello: keep-alive, pipelining, HEAD, and a proper answer to what it does not serve.
//!
//! `cargo run --release -p protocols --bin http_hello`, then `curl -v localhost:8080`. Another address may be given.
//!
//! `httparse` reads a request where it lies. A request whose answer does not fit the outbox is not consumed and comes
//! again once there is room: pipelining, bounded on both sides, without a queue of our own.

mod request;

use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use halloo::{Connection, EventLoop, Full, Listen, StreamHandler};
use request::Verdict;

#[derive(Default)]
struct Hello {
    date: String,
    dated: Option<Instant>,
    /// Room for one answer, kept for the next.
    answer: Vec<u8>,
}

impl StreamHandler for Hello {
    /// Bytes of a request's body that are still to be skipped.
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
            let Some((head_bytes, verdict)) = request::judge(&input[consumed..]) else { return consumed };
            if self.answer(connection, &verdict).is_err() {
                return consumed;
            }
            let Some(body_bytes) = verdict.body_bytes else {
                connection.close();
                return input.len();
            };
            *to_skip = body_bytes;
            consumed += head_bytes;
        }
    }

    fn input_bytes_min(&self) -> usize {
        request::HEAD_BYTES_MAX
    }
}

impl Hello {
    fn answer(&mut self, connection: &mut Connection<'_>, verdict: &Verdict) -> Result<(), Full> {
        // RFC 9110 section 6.6.1 wants a date; a second is as fine as it gets.
        let now = connection.context().now();
        if self.dated.is_none_or(|dated| now.duration_since(dated) >= Duration::from_secs(1)) {
            (self.dated, self.date) = (Some(now), httpdate::fmt_http_date(SystemTime::now()));
        }
        let Verdict { status, has_text, body_bytes } = verdict;
        let text = if *status == "200 OK" { "Hello, HTTP Client!" } else { status };
        let fate = if body_bytes.is_some() { "keep-alive" } else { "close" };
        let allow = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
        let (date, text_bytes) = (&self.date, text.len() + 1);
        self.answer.clear();
        // Writing into a Vec cannot fail.
        let _ = write!(
            self.answer,
            "HTTP/1.1 {status}\r\nDate: {date}\r\nContent-Type: text/plain\r\nContent-Length: {text_bytes}\r\n\
             Connection: {fate}\r\n{allow}\r\n"
        );
        if *has_text {
            let _ = writeln!(self.answer, "{text}");
        }
        connection.send(&self.answer)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address: SocketAddr = std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:8080").parse()?;
    let mut events = EventLoop::new()?;
    // A head that dribbles in is not consumed and so does not count as progress: it is cut, too.
    let at = Listen::from(address).idle_timeout(Duration::from_secs(15)).write_timeout(Duration::from_secs(15));
    let listener = events.listen(at, Hello::default())?;
    println!("Listening on {}", events.local_addr(listener)?);
    events.run()?;
    Ok(())
}
