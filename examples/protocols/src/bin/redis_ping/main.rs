//! A small Redis: PING, ECHO, SET with EX and PX, GET, DEL, INCR and EXPIRE, in RESP2 and as inline commands.
//!
//! `cargo run --release -p protocols --bin redis_ping`, then `redis-cli -p 6380 set greeting hello ex 10`. Another
//! address may be given.
//!
//! A command is read where it lies, and its reply goes out before its effect is kept: a reply that does not fit the
//! outbox leaves the command unconsumed, and it comes again, whole, once there is room. The replies to everything that
//! one read has brought leave in one `send`.

mod resp;
mod store;

use std::net::SocketAddr;
use std::time::Duration;

use halloo::{Connection, Context, EventLoop, Full, Listen, StreamHandler};
use store::Store;

struct Server {
    store: Store,
}

impl StreamHandler for Server {
    type Session = ();

    fn on_open(&mut self, _: &mut Connection<'_>) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, (): &mut (), input: &[u8]) -> usize {
        let (mut rest, mut words) = (input, Vec::with_capacity(resp::WORDS_MAX));
        loop {
            match resp::parse(rest, &mut words) {
                Ok(Some(after)) if words.is_empty() || self.execute(connection, &words).is_ok() => rest = after,
                Ok(_) => return input.len() - rest.len(),
                Err(what) => {
                    let _ = connection.send(format!("-ERR Protocol error: {what}\r\n").as_bytes());
                    connection.close();
                    return input.len();
                }
            }
        }
    }

    fn on_timer(&mut self, _: &mut Context, number: u64) {
        self.store.on_timer(number);
    }
}

impl Server {
    /// Replies, then does it; nothing can come between the two.
    fn execute(&mut self, connection: &mut Connection<'_>, words: &[&[u8]]) -> Result<(), Full> {
        let (store, handler) = (&mut self.store, connection.handler());
        match (words[0].to_ascii_uppercase().as_slice(), &words[1..]) {
            (b"PING", []) => connection.send(b"+PONG\r\n")?,
            (b"PING" | b"ECHO", [word]) => connection.send(&resp::bulk(word))?,
            (b"GET", [key]) => match store.get(key) {
                Some(value) => connection.send(&resp::bulk(value))?,
                None => connection.send(b"$-1\r\n")?,
            },
            (b"SET" | b"INCR", _) if store.is_full() => connection.send(b"-OOM the store is full\r\n")?,
            (b"SET", [key, value, options @ ..]) => match resp::lifetime(options) {
                Ok(after) => {
                    connection.send(b"+OK\r\n")?;
                    store.put(key, value);
                    store.expire(connection.context(), handler, key, after);
                }
                Err(reply) => connection.send(reply)?,
            },
            (b"INCR", [key]) => match resp::number::<i64>(store.get(key).unwrap_or(b"0")) {
                Some(former) if former < i64::MAX => {
                    connection.send(format!(":{}\r\n", former + 1).as_bytes())?;
                    store.put(key, (former + 1).to_string().as_bytes());
                }
                _ => connection.send(b"-ERR value is not an integer or out of range\r\n")?,
            },
            (b"DEL", keys @ [_, ..]) => {
                let is_there = |at: &usize| store.get(keys[*at]).is_some() && !keys[..*at].contains(&keys[*at]);
                let count = (0..keys.len()).filter(is_there).count();
                connection.send(format!(":{count}\r\n").as_bytes())?;
                for key in keys {
                    store.delete(connection.context(), handler, key);
                }
            }
            (b"EXPIRE", [key, seconds]) => match resp::lifetime(&[b"EX", seconds]) {
                Ok(after) => {
                    connection.send(if store.get(key).is_some() { b":1\r\n" } else { b":0\r\n" })?;
                    store.expire(connection.context(), handler, key, after);
                }
                Err(reply) => connection.send(reply)?,
            },
            // What redis-benchmark and redis-cli ask first.
            (b"CONFIG", [_, name]) => connection.send(&[b"*2\r\n", &resp::bulk(name)[..], b"$0\r\n\r\n"].concat())?,
            (b"COMMAND", _) => connection.send(b"*0\r\n")?,
            _ => connection.send(b"-ERR unknown command, or wrong number of arguments\r\n")?,
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address: SocketAddr = std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:6380").parse()?;
    let mut events = EventLoop::new()?;
    // A client may keep its connection for a while without a word, as they do.
    let at = Listen::from(address).idle_timeout(Duration::from_secs(600));
    let listener = events.listen(at, Server { store: Store::default() })?;
    println!("Listening on {}", events.local_addr(listener)?);
    events.run()?;
    Ok(())
}
