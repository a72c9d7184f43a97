//! tokio on its single-threaded runtime, one task per connection.

use std::error::Error;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::{ADDRESS, READ_BYTES, line_responses, print_ready_line, response_bytes};
use crate::workload::{Mode, TCP_RESPONSE, UDP_RESPONSE};

/// The buffer of a task, as large as in tokio's own examples.
const TASK_BUFFER_BYTES: usize = 1024;

pub(super) fn run(mode: Mode) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        match mode {
            Mode::Udp | Mode::UdpGso => serve_udp().await,
            _ => serve_tcp(mode).await,
        }
    })
}

async fn serve_tcp(mode: Mode) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(ADDRESS).await?;
    print_ready_line(listener.local_addr()?)?;
    let responses: &'static [u8] = line_responses().leak();
    loop {
        let (stream, _) = listener.accept().await?;
        match mode {
            Mode::Lines => drop(tokio::spawn(respond_to_lines(stream, responses))),
            _ => drop(tokio::spawn(respond_once(stream))),
        }
    }
}

async fn respond_once(mut stream: TcpStream) {
    let mut buffer = [0; TASK_BUFFER_BYTES];
    if let Ok(1..) = stream.read(&mut buffer).await {
        let _ = stream.write_all(TCP_RESPONSE).await;
    }
}

async fn respond_to_lines(mut stream: TcpStream, responses: &'static [u8]) {
    let _ = stream.set_nodelay(true);
    let mut buffer = [0; TASK_BUFFER_BYTES];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&responses[..response_bytes(&buffer[..count])]).await.is_err() {
            return;
        }
    }
}

async fn serve_udp() -> Result<(), Box<dyn Error>> {
    let socket = UdpSocket::bind(ADDRESS).await?;
    print_ready_line(socket.local_addr()?)?;
    let mut buffer = [0; READ_BYTES];
    loop {
        let (_, peer) = socket.recv_from(&mut buffer).await?;
        let _ = socket.send_to(UDP_RESPONSE, peer).await;
    }
}
