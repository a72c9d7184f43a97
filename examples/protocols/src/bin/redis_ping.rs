//! A small Redis with keys that expire, in RESP2 and inline.
//!
//! `cargo run --release -p protocols --bin redis_ping`, then `redis-cli -p 6380 set greeting hello ex 10`. An argument
//! sets another listen address.
//!
//! [`Commands`] finds the words of a command in the input, without a copy. [`Frames`] returns no command while half of
//! the outbox is full, so the reply always fits. The replies to all commands of one read are sent with one system call.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use halloo::framing::Frames;
use halloo::{Connection, Context, EventLoop, HandlerId, Listen, SendError, StreamHandler, TimerId};
use protocols::{Commands, WORD_BYTES_MAX, bulk, number};

/// The longest reply: a word and what is around it.
const REPLY_BYTES_MAX: usize = WORD_BYTES_MAX + 64;

/// The bytes of all keys and values. A full store takes no new value.
const STORE_BYTES_MAX: usize = 256 * 1024 * 1024;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address: SocketAddr = std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:6380").parse()?;
    let mut events = EventLoop::new()?;
    // Redis clients keep idle connections open.
    let at = Listen::from(address).idle_timeout(Duration::from_secs(600)).outbox_bytes_max(2 * REPLY_BYTES_MAX);
    let listener = events.listen(at, Server { store: Store::default() })?;
    println!("Listening on {}", events.local_addr(listener)?);
    events.run()?;
    Ok(())
}

pub(crate) struct Server {
    pub(crate) store: Store,
}

impl StreamHandler for Server {
    type Session = ();

    fn on_open(&mut self, _: &mut Connection<'_>) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, (): &mut (), input: &[u8]) -> usize {
        let mut commands = Frames::new(input);
        while let Some(words) = commands.next(connection, &mut Commands) {
            if !words.is_empty() && self.execute(connection, &words).is_err() {
                connection.abort();
            }
        }
        if let Some(error) = commands.error() {
            let _ = connection.send(format!("-ERR Protocol error: {error}\r\n").as_bytes());
        }
        commands.finish(connection)
    }

    fn on_timer(&mut self, _: &mut Context, _: TimerId, number: u64) {
        self.store.on_timer(number);
    }
}

impl Server {
    /// Queues the reply, then changes the store. No other command runs between the two.
    fn execute(&mut self, connection: &mut Connection<'_>, words: &[&[u8]]) -> Result<(), SendError> {
        let (store, handler) = (&mut self.store, connection.handler());
        // Timers fire after all input of a turn. A key that expires in this turn must not be read before its timer.
        for word in &words[1..] {
            store.remove_if_expired(connection.context(), handler, word);
        }
        match (words[0].to_ascii_uppercase().as_slice(), &words[1..]) {
            (b"PING", []) => connection.send(b"+PONG\r\n")?,
            (b"PING" | b"ECHO", [word]) => connection.send(&bulk(word))?,
            (b"GET", [key]) => match store.get(key) {
                Some(value) => connection.send(&bulk(value))?,
                None => connection.send(b"$-1\r\n")?,
            },
            (b"SET" | b"INCR", _) if store.is_full() => connection.send(b"-OOM the store is full\r\n")?,
            (b"SET", [key, value, options @ ..]) => match lifetime(options) {
                Ok(after) => {
                    connection.send(b"+OK\r\n")?;
                    store.put(key, value);
                    store.expire(connection.context(), handler, key, after);
                }
                Err(reply) => connection.send(reply)?,
            },
            (b"INCR", [key]) => match number::<i64>(store.get(key).unwrap_or(b"0")) {
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
            (b"EXPIRE", [key, seconds]) => match lifetime(&[b"EX", seconds]) {
                Ok(after) => {
                    connection.send(if store.get(key).is_some() { b":1\r\n" } else { b":0\r\n" })?;
                    store.expire(connection.context(), handler, key, after);
                }
                Err(reply) => connection.send(reply)?,
            },
            // redis-benchmark and redis-cli send these first.
            (b"CONFIG", [_, name]) => connection.send(&[b"*2\r\n", &bulk(name)[..], b"$0\r\n\r\n"].concat())?,
            (b"COMMAND", _) => connection.send(b"*0\r\n")?,
            _ => connection.send(b"-ERR unknown command, or wrong number of arguments\r\n")?,
        }
        Ok(())
    }
}

/// Parses the options of SET. Returns the lifetime of the key, or the error reply.
fn lifetime(options: &[&[u8]]) -> Result<Option<Duration>, &'static [u8]> {
    const INVALID: &[u8] = b"-ERR syntax error, or invalid expire time\r\n";
    let [unit, span] = options else {
        return if options.is_empty() { Ok(None) } else { Err(INVALID) };
    };
    let span = number(span).ok_or(INVALID)?;
    match unit.to_ascii_uppercase().as_slice() {
        b"EX" => Ok(Some(Duration::from_secs(span))),
        b"PX" => Ok(Some(Duration::from_millis(span))),
        _ => Err(INVALID),
    }
}

// ---- the store ------------------------------------------------------------------------------------------------------

/// Keys and values, with one timer of the loop for each key that expires.
#[derive(Default)]
pub(crate) struct Store {
    entries: HashMap<Vec<u8>, Entry>,
    /// The key of each timer, by the timer's value. Each timer has a new value.
    expiring: HashMap<u64, Vec<u8>>,
    expiries: u64,
    bytes: usize,
}

struct Entry {
    value: Vec<u8>,
    expiry: Option<Expiry>,
}

struct Expiry {
    at: Instant,
    number: u64,
    timer: TimerId,
}

impl Store {
    fn is_full(&self) -> bool {
        self.bytes > STORE_BYTES_MAX
    }

    fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.entries.get(key).map(|entry| entry.value.as_slice())
    }

    /// Sets the value of a key. Its expiry stays.
    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.bytes += value.len();
        if let Some(entry) = self.entries.get_mut(key) {
            self.bytes -= entry.value.len();
            entry.value = value.to_vec();
        } else {
            self.bytes += key.len();
            self.entries.insert(key.to_vec(), Entry { value: value.to_vec(), expiry: None });
        }
    }

    /// Makes a key expire after a time, or never, in place of its former expiry.
    fn expire(&mut self, context: &mut Context, handler: HandlerId, key: &[u8], after: Option<Duration>) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        if let Some(Expiry { number, timer, .. }) = entry.expiry.take() {
            context.remove(timer);
            self.expiring.remove(&number);
        }
        if let Some(after) = after {
            self.expiries += 1;
            let timer = context.schedule(handler, after, self.expiries);
            entry.expiry = Some(Expiry { at: context.now() + after, number: self.expiries, timer });
            self.expiring.insert(self.expiries, key.to_vec());
        }
    }

    fn remove_if_expired(&mut self, context: &mut Context, handler: HandlerId, key: &[u8]) {
        let expiry = self.entries.get(key).and_then(|entry| entry.expiry.as_ref());
        if expiry.is_some_and(|expiry| expiry.at <= context.now()) {
            self.delete(context, handler, key);
        }
    }

    /// Removes the key of a timer that has fired.
    fn on_timer(&mut self, number: u64) {
        if let Some(key) = self.expiring.remove(&number)
            && let Some(entry) = self.entries.remove(&key)
        {
            self.bytes -= key.len() + entry.value.len();
        }
    }

    fn delete(&mut self, context: &mut Context, handler: HandlerId, key: &[u8]) {
        self.expire(context, handler, key, None);
        if let Some(entry) = self.entries.remove(key) {
            self.bytes -= key.len() + entry.value.len();
        }
    }
}
