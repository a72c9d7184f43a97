//! Echo, proxy and fan-out on tokio's single-threaded runtime.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, copy_bidirectional_with_sizes, copy_buf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast::{self, Receiver, Sender};

use super::{ADDRESS, COPY_BYTES, print_ready_line, required};
use crate::byte_pattern::pattern_at;
use crate::workload::{DELIVERY_BYTES, Mode};

/// Deliveries that a client may be behind.
const DELIVERIES_MAX: usize = 4;

pub(super) fn run(mode: Mode, target: Option<SocketAddr>) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(serve(mode, target))
}

async fn serve(mode: Mode, target: Option<SocketAddr>) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(ADDRESS).await?;
    print_ready_line(listener.local_addr()?)?;
    let (sender, _) = broadcast::channel(DELIVERIES_MAX);
    let delivery: Arc<[u8]> = Arc::from(&pattern_at(0)[..DELIVERY_BYTES]);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        match mode {
            Mode::Proxy => drop(tokio::spawn(forward(stream, required(target)?))),
            Mode::FanOut => drop(tokio::spawn(deliver(stream, sender.subscribe(), sender.clone(), delivery.clone()))),
            _ => drop(tokio::spawn(echo(stream))),
        }
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<u64> {
    let (reader, mut writer) = stream.split();
    copy_buf(&mut BufReader::with_capacity(COPY_BYTES, reader), &mut writer).await
}

async fn forward(mut client: TcpStream, target: SocketAddr) -> io::Result<(u64, u64)> {
    let mut server = TcpStream::connect(target).await?;
    server.set_nodelay(true)?;
    copy_bidirectional_with_sizes(&mut client, &mut server, COPY_BYTES, COPY_BYTES).await
}

/// Sends each delivery to a client, and broadcasts one for each byte from it.
async fn deliver(
    stream: TcpStream,
    mut deliveries: Receiver<Arc<[u8]>>,
    sender: Sender<Arc<[u8]>>,
    delivery: Arc<[u8]>,
) -> io::Result<()> {
    let (mut reader, mut writer) = stream.into_split();
    tokio::spawn(async move {
        while reader.read_u8().await.is_ok() {
            let _ = sender.send(Arc::clone(&delivery));
        }
    });
    while let Ok(bytes) = deliveries.recv().await {
        writer.write_all(&bytes).await?;
    }
    Ok(())
}
