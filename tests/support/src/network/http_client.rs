//! A client of the admin endpoint.
//!
//! It sends the bytes of a test, and reads one response after the other.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::wait::TIMEOUT;

/// A response.
#[derive(Debug)]
pub struct HttpResponse {
    /// Its status code.
    pub status: u16,
    /// The headers, in lines.
    pub head: String,
    /// Its body, which has to be text.
    pub body: String,
}

impl HttpResponse {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut pairs = self.head.lines().filter_map(|line| line.split_once(": "));
        pairs.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// A connection to the endpoint.
pub struct HttpClient<S = TcpStream> {
    /// The stream, for options and raw bytes.
    pub stream: S,
    received: Vec<u8>,
}

impl HttpClient {
    /// Connects over TCP.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the endpoint listens");
        stream.set_read_timeout(Some(TIMEOUT)).expect("a socket option");
        Self::new(stream)
    }
}

impl<S: Read + Write> HttpClient<S> {
    /// Uses a connected stream.
    pub fn new(stream: S) -> Self {
        Self { stream, received: Vec::new() }
    }

    /// Sends bytes.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the endpoint reads");
    }

    /// Sends a request with more headers, each with its line end, and reads the response.
    #[track_caller]
    pub fn request(&mut self, method_and_path: &str, headers: &str) -> HttpResponse {
        self.send(format!("{method_and_path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n").as_bytes());
        self.read_response_to(method_and_path)
    }

    /// Reads the response to a request with a method.
    #[track_caller]
    pub fn read_response_to(&mut self, method: &str) -> HttpResponse {
        let end = loop {
            if let Some(end) = self.received.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            assert!(self.receive(), "EOF within the head of a response");
        };
        let head = String::from_utf8(self.received.drain(..end + 4).collect()).expect("a head of text");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let mut response = HttpResponse { status, head, body: String::new() };
        let length: usize = response.header("Content-Length").and_then(|text| text.parse().ok()).expect("a length");
        if !method.starts_with("HEAD") {
            while self.received.len() < length {
                assert!(self.receive(), "EOF within the body of a response");
            }
            response.body = String::from_utf8(self.received.drain(..length).collect()).expect("a body of text");
        }
        response
    }

    /// Whether the endpoint closes the connection and sends nothing more.
    pub fn is_closed(&mut self) -> bool {
        self.received.is_empty() && !self.receive()
    }

    /// Reads more; false at EOF.
    #[track_caller]
    fn receive(&mut self) -> bool {
        let mut chunk = vec![0; 64 * 1024];
        let count = self.stream.read(&mut chunk).expect("no reset and no timeout");
        self.received.extend_from_slice(&chunk[..count]);
        count > 0
    }
}

/// Sends one request on a connection of its own.
#[track_caller]
pub fn request(address: SocketAddr, method_and_path: &str, headers: &str) -> HttpResponse {
    HttpClient::connect(address).request(method_and_path, headers)
}

/// Gets a path on a connection of its own.
#[track_caller]
pub fn get(address: SocketAddr, path: &str) -> HttpResponse {
    request(address, &format!("GET {path}"), "")
}
