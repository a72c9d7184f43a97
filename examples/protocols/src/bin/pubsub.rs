//! Publish and subscribe, for Redis clients.
//!
//! A message is in memory once, however many clients get it.
//!
//! `cargo run --release -p protocols --bin pubsub`, then `redis-cli -p 6381 subscribe news` and, in another terminal,
//! `redis-cli -p 6381 publish news hello`. Another address may be given.
//!
//! A subscriber that does not read is disconnected when its outbox is full. The others miss nothing and do not wait.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use halloo::framing::Frames;
use halloo::{CloseReason, Connection, ConnectionId, EventLoop, Listen, SharedBytes, StreamHandler};
use protocols::{Commands, bulk};

/// The most that is queued for a subscriber, in bytes.
const OUTBOX_BYTES_MAX: usize = 1024 * 1024;

type Channel = Vec<u8>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address: SocketAddr = std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:6381").parse()?;
    let mut events = EventLoop::new()?;
    // Subscribers wait for messages, without sending anything.
    let at = Listen::from(address).idle_timeout(None).outbox_bytes_max(OUTBOX_BYTES_MAX);
    let listener = events.listen(at, Broker::default())?;
    println!("Listening on {}", events.local_addr(listener)?);
    events.run()?;
    Ok(())
}

#[derive(Default)]
struct Broker {
    subscribers: HashMap<Channel, HashSet<ConnectionId>>,
}

impl StreamHandler for Broker {
    /// The channels of a subscriber.
    type Session = HashSet<Channel>;

    fn on_open(&mut self, _: &mut Connection<'_>) -> Option<HashSet<Channel>> {
        Some(HashSet::new())
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, channels: &mut HashSet<Channel>, input: &[u8]) -> usize {
        let mut commands = Frames::new(input);
        while let Some(words) = commands.next(connection, &mut Commands) {
            let Some((name, arguments)) = words.split_first() else { continue };
            match (name.to_ascii_uppercase().as_slice(), arguments) {
                (b"SUBSCRIBE", [_, ..]) => self.subscribe(connection, channels, arguments),
                (b"UNSUBSCRIBE", _) => self.unsubscribe(connection, channels, arguments),
                (b"PUBLISH", [channel, message]) => self.publish(connection, channel, message),
                (b"PING", []) => reply(connection, b"+PONG\r\n"),
                // redis-cli asks for it first.
                (b"COMMAND", _) => reply(connection, b"*0\r\n"),
                _ => reply(connection, b"-ERR unknown command, or wrong number of arguments\r\n"),
            }
        }
        if let Some(error) = commands.error() {
            reply(connection, format!("-ERR Protocol error: {error}\r\n").as_bytes());
        }
        commands.finish(connection)
    }

    fn on_drain(&mut self, connection: &mut Connection<'_>, _: &mut HashSet<Channel>) {
        connection.close();
    }

    fn on_close(&mut self, connection: &mut Connection<'_>, channels: HashSet<Channel>, _: CloseReason) {
        for channel in channels {
            self.remove(&channel, connection.id());
        }
    }
}

impl Broker {
    fn subscribe(&mut self, connection: &mut Connection<'_>, channels: &mut HashSet<Channel>, names: &[&[u8]]) {
        for name in names {
            channels.insert(name.to_vec());
            self.subscribers.entry(name.to_vec()).or_default().insert(connection.id());
            reply(connection, &confirmation(b"subscribe", name, channels.len()));
        }
    }

    /// Without names it unsubscribes from all channels.
    fn unsubscribe(&mut self, connection: &mut Connection<'_>, channels: &mut HashSet<Channel>, names: &[&[u8]]) {
        let all: Vec<Channel> = if names.is_empty() { channels.iter().cloned().collect() } else { Vec::new() };
        let all = all.iter().map(Vec::as_slice);
        for name in names.iter().copied().chain(all) {
            if channels.remove(name) {
                self.remove(name, connection.id());
            }
            reply(connection, &confirmation(b"unsubscribe", name, channels.len()));
        }
    }

    fn publish(&mut self, connection: &mut Connection<'_>, channel: &[u8], message: &[u8]) {
        let push = SharedBytes::from([b"*3\r\n", &bulk(b"message")[..], &bulk(channel), &bulk(message)].concat());
        let mut receivers = 0;
        for id in self.subscribers.get(channel).into_iter().flatten() {
            let Some(mut subscriber) = connection.context().connection(*id) else { continue };
            match subscriber.send_shared(&push) {
                Ok(()) => receivers += 1,
                // It does not read. To drop one message in silence would be worse.
                Err(_) => subscriber.abort(),
            }
        }
        reply(connection, format!(":{receivers}\r\n").as_bytes());
    }

    fn remove(&mut self, channel: &[u8], id: ConnectionId) {
        if let Some(subscribers) = self.subscribers.get_mut(channel) {
            subscribers.remove(&id);
            if subscribers.is_empty() {
                self.subscribers.remove(channel);
            }
        }
    }
}

/// Sends a reply; a client without room for it is disconnected.
fn reply(connection: &mut Connection<'_>, reply: &[u8]) {
    if connection.send(reply).is_err() {
        connection.abort();
    }
}

fn confirmation(kind: &[u8], channel: &[u8], channels: usize) -> Vec<u8> {
    [b"*3\r\n", &bulk(kind)[..], &bulk(channel), format!(":{channels}\r\n").as_bytes()].concat()
}
