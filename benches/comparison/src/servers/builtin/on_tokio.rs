//! tokio on its single-threaded runtime, one task per connection.

use std::error::Error;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::{ADDRESS, READ_BYTES, answer_bytes, line_answers, ready};
use crate::workload::{Mode, TCP_ANSWER, UDP_ANSWER};

/// What a task keeps for its connection, as tokio's own examples do.
const TASK_BYTES: usize = 1024;

pub(super) fn run(mode: Mode) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        match mode {
            Mode::Once | Mode::Lines => streams(mode).await,
            Mode::Udp => datagrams().await,
        }
    })
}

async fn streams(mode: Mode) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(ADDRESS).await?;
    ready(listener.local_addr()?)?;
    let answers: &'static [u8] = line_answers().leak();
    loop {
        let (stream, _) = listener.accept().await?;
        match mode {
            Mode::Lines => drop(tokio::spawn(answer_lines(stream, answers))),
            Mode::Once | Mode::Udp => drop(tokio::spawn(answer_once(stream))),
        }
    }
}

async fn answer_once(mut stream: TcpStream) {
    let mut buffer = [0; TASK_BYTES];
    if let Ok(1..) = stream.read(&mut buffer).await {
        let _ = stream.write_all(TCP_ANSWER).await;
    }
}

async fn answer_lines(mut stream: TcpStream, answers: &'static [u8]) {
    let _ = stream.set_nodelay(true);
    let mut buffer = [0; TASK_BYTES];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&answers[..answer_bytes(&buffer[..count])]).await.is_err() {
            return;
        }
    }
}

async fn datagrams() -> Result<(), Box<dyn Error>> {
    let socket = UdpSocket::bind(ADDRESS).await?;
    ready(socket.local_addr()?)?;
    let mut buffer = [0; READ_BYTES];
    loop {
        let (_, peer) = socket.recv_from(&mut buffer).await?;
        let _ = socket.send_to(UDP_ANSWER, peer).await;
    }
}
