//! `pubsub` with redis-cli, and with subscribers that do not read.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use support::process::child::Process;
use support::process::shell::shell;
use support::wait::{TIMEOUT, wait_until};

use crate::programs::{start_example, start_program};

fn start_server() -> (Process, SocketAddr) {
    start_example(env!("CARGO_BIN_EXE_pubsub"), &["127.0.0.1:0"])
}

/// A client that sends commands and reads replies.
struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    fn connect(at: SocketAddr) -> Self {
        let stream = TcpStream::connect(at).expect("the server listens");
        stream.set_read_timeout(Some(TIMEOUT)).expect("an option of every socket");
        Self { stream: BufReader::new(stream) }
    }

    fn send(&mut self, command: &str) {
        self.stream.get_mut().write_all(format!("{command}\r\n").as_bytes()).expect("the server reads");
    }

    /// Reads as many bytes as the expected reply has.
    #[track_caller]
    fn expect(&mut self, reply: &str) {
        let mut received = vec![0; reply.len()];
        self.stream.read_exact(&mut received).expect("a reply");
        assert_eq!(String::from_utf8_lossy(&received), reply);
    }

    fn subscribe(at: SocketAddr, channel: &str) -> Self {
        let mut client = Self::connect(at);
        client.send(&format!("subscribe {channel}"));
        client.expect(&format!("*3\r\n$9\r\nsubscribe\r\n${}\r\n{channel}\r\n:1\r\n", channel.len()));
        client
    }

    /// Publishes a message; returns how many subscribers get it.
    fn publish(&mut self, channel: &str, message: &str) -> usize {
        self.send(&format!("publish {channel} {message}"));
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a reply");
        line.trim().strip_prefix(':').expect("a number").parse().expect("a number")
    }
}

fn push(channel: &str, message: &str) -> String {
    let (channel_len, message_len) = (channel.len(), message.len());
    format!("*3\r\n$7\r\nmessage\r\n${channel_len}\r\n{channel}\r\n${message_len}\r\n{message}\r\n")
}

#[test]
#[ignore = "needs redis-cli"]
fn redis_cli_subscribes_and_publishes() {
    let (_server, at) = start_server();
    let (host, port) = (at.ip().to_string(), at.port().to_string());
    let subscriber = start_program("redis-cli", &["-h", &host, "-p", &port, "subscribe", "news", "weather"]);
    wait_until("both channels", || subscriber.stdout.text().matches("subscribe").count() == 2);
    let publish = |channel: &str, message: &str| {
        shell(&format!("redis-cli -h {host} -p {port} publish {channel} '{message}'")).trim().to_owned()
    };
    assert_eq!(publish("sports", "no subscriber"), "0");
    assert_eq!(publish("news", "two words"), "1");
    wait_until("the message", || subscriber.stdout.text().contains("two words"));
    assert!(!subscriber.stdout.text().contains("no subscriber"));
}

#[test]
fn every_subscriber_of_a_channel_gets_a_long_message_and_others_do_not() {
    let (_server, at) = start_server();
    let message = "x".repeat(20_000);
    let mut subscribers: Vec<Client> = (0..50).map(|_| Client::subscribe(at, "news")).collect();
    let mut other = Client::subscribe(at, "weather");
    let mut publisher = Client::connect(at);
    assert_eq!(publisher.publish("news", &message), 50);
    for subscriber in &mut subscribers {
        subscriber.expect(&push("news", &message));
    }
    assert_eq!(publisher.publish("weather", "sun"), 1);
    other.expect(&push("weather", "sun"));
}

#[test]
fn after_unsubscribe_and_after_the_end_of_a_subscriber_a_message_reaches_the_others() {
    let (_server, at) = start_server();
    let [mut leaving, mut closing, mut staying] = [(); 3].map(|()| Client::subscribe(at, "news"));
    let mut publisher = Client::connect(at);
    assert_eq!(publisher.publish("news", "first"), 3);
    leaving.expect(&push("news", "first"));
    leaving.send("unsubscribe");
    leaving.expect("*3\r\n$11\r\nunsubscribe\r\n$4\r\nnews\r\n:0\r\n");
    closing.expect(&push("news", "first"));
    drop(closing);
    wait_until("one subscriber", || publisher.publish("news", "again") == 1);
    staying.expect(&push("news", "first"));
    staying.expect(&push("news", "again"));
}

#[test]
fn a_subscriber_that_does_not_read_is_disconnected_and_the_others_miss_nothing() {
    const MESSAGES_MAX: usize = 10_000;
    let (_server, at) = start_server();
    let message = "x".repeat(30_000);
    let (mut silent, mut reading) = (Client::subscribe(at, "news"), Client::subscribe(at, "news"));
    let mut publisher = Client::connect(at);
    let disconnected_at = (0..MESSAGES_MAX).find(|_| {
        let receivers = publisher.publish("news", &message);
        reading.expect(&push("news", &message));
        receivers == 1
    });
    assert!(disconnected_at.is_some_and(|count| count > 0), "{disconnected_at:?}");
    let mut rest = Vec::new();
    let end = silent.stream.read_to_end(&mut rest).map_err(|error| error.kind());
    assert_eq!(end, Err(ErrorKind::ConnectionReset));
}
