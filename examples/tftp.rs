//! A read-only TFTP server (RFC 1350) with a port per transfer.
//!
//! `cargo run --example tftp 127.0.0.1:6969 FOLDER`, then `curl -O tftp://127.0.0.1:6969/FILE` or
//! `tftp -m octet 127.0.0.1 6969 -c get FILE`. Without a folder it serves the current one.
//!
//! One handler serves the sockets for requests and for all transfers. Only a timer sends a block again: if a duplicate
//! ACK did it, every later block would be sent twice (RFC 1123 section 4.2.3.1).

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use halloo::{Context, Datagram, DatagramHandler, EventLoop, HandlerId, TimerId, UdpSocketId};

/// Each transfer has a socket and an open file. Further requests get no reply.
const TRANSFERS_MAX: usize = 256;
/// A block is sent at most six times. Each wait for its ACK is twice as long as the one before: 31.5 s in total.
const TRIES_MAX: u64 = 6;
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// A shorter block is the last one.
const BLOCK_BYTES: usize = 512;

const RRQ: u8 = 1;
const WRQ: u8 = 2;
const DATA: u8 = 3;
const ACK: u8 = 4;
const ERROR: u8 = 5;

fn error_packet(code: u8, text: &str) -> Vec<u8> {
    [&[0, ERROR, 0, code], text.as_bytes(), &[0]].concat()
}

/// A transfer of one file to one client.
struct Transfer {
    client: SocketAddr,
    file: File,
    /// The block that waits for its ACK, as a packet, and its number. The number after 65,535 is 0.
    packet: Vec<u8>,
    block: u16,
    timer: Option<TimerId>,
}

/// Serves the files below a folder.
pub(crate) struct Server {
    folder: PathBuf,
    id: Option<HandlerId>,
    transfers: HashMap<UdpSocketId, Transfer>,
}

impl Server {
    pub(crate) fn new(folder: &Path) -> io::Result<Self> {
        Ok(Self { folder: folder.canonicalize()?, id: None, transfers: HashMap::new() })
    }

    /// Opens a port on the destination address of the request, and sends the first block from it. The error is an ERROR
    /// packet.
    fn start(&mut self, datagram: &mut Datagram<'_>, request: &[u8]) -> Result<(), Vec<u8>> {
        let request = String::from_utf8_lossy(request);
        let (name, mode) = request.split_once('\0').unwrap_or_default();
        if !mode.to_ascii_lowercase().starts_with("octet\0") {
            return Err(error_packet(0, "the mode has to be octet"));
        }
        let file = self.open(name).map_err(|error| match error.kind() {
            ErrorKind::NotFound => error_packet(1, "file not found"),
            _ => error_packet(2, "access violation"),
        })?;
        let (client, mut local) = (datagram.peer_addr(), datagram.local_addr());
        local.set_port(0);
        let socket = datagram.context().bind_for(local, self.id.expect("on_start came first"));
        let socket = socket.map_err(|error| error_packet(0, &error.to_string()))?;
        self.transfers.insert(socket, Transfer { client, file, packet: Vec::new(), block: 0, timer: None });
        self.send_next(datagram.context(), socket);
        Ok(())
    }

    /// Opens a file. Links out of the folder are refused, and so are pipes, which would block.
    fn open(&self, name: &str) -> io::Result<File> {
        let is_below = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        let path = if is_below { self.folder.join(name).canonicalize()? } else { PathBuf::new() };
        let is_file = path.starts_with(&self.folder) && path.is_file();
        if is_file { File::open(path) } else { Err(ErrorKind::PermissionDenied.into()) }
    }

    /// Sends the next block. The transfer ends after the last block, or if the file cannot be read.
    fn send_next(&mut self, context: &mut Context, socket: UdpSocketId) {
        let Some(transfer) = self.transfers.get_mut(&socket) else { return };
        let is_over = (1..4 + BLOCK_BYTES).contains(&transfer.packet.len());
        transfer.block = transfer.block.wrapping_add(1);
        transfer.packet = [[0, DATA], transfer.block.to_be_bytes()].concat();
        let read = (&transfer.file).take(BLOCK_BYTES as u64).read_to_end(&mut transfer.packet);
        if is_over || read.is_err() { self.end(context, socket) } else { self.send(context, socket, 0) }
    }

    /// Sends the current block, and sets the timer that sends it again.
    fn send(&mut self, context: &mut Context, socket: UdpSocketId, tries: u64) {
        let (Some(id), Some(transfer)) = (self.id, self.transfers.get_mut(&socket)) else { return };
        context.send_to(socket, &transfer.packet, transfer.client);
        let timer = context.schedule(id, FIRST_WAIT * (1 << tries), tries + 1);
        transfer.timer.replace(timer).map(|former| context.remove(former));
    }

    fn end(&mut self, context: &mut Context, socket: UdpSocketId) {
        context.remove(socket);
        self.transfers.remove(&socket).and_then(|transfer| transfer.timer).map(|timer| context.remove(timer));
    }
}

impl DatagramHandler for Server {
    fn on_start(&mut self, _: &mut Context, id: HandlerId) {
        self.id = Some(id);
    }

    fn on_datagram(&mut self, datagram: &mut Datagram<'_>, payload: &[u8]) {
        let (socket, client) = (datagram.socket(), datagram.peer_addr());
        let [0, opcode, rest @ ..] = payload else { return };
        let error = match (*opcode, self.transfers.get(&socket)) {
            (RRQ, None) if self.transfers.len() < TRANSFERS_MAX => self.start(datagram, rest).err(),
            (WRQ, None) => Some(error_packet(2, "access violation")),
            // An ERROR is never answered: two programs that answer ERROR with ERROR would never stop.
            (RRQ..=ACK, Some(transfer)) if transfer.client != client => Some(error_packet(5, "unknown transfer ID")),
            (ACK, Some(transfer)) if rest == transfer.block.to_be_bytes() => {
                return self.send_next(datagram.context(), socket);
            }
            (ERROR, Some(transfer)) if transfer.client == client => return self.end(datagram.context(), socket),
            _ => return,
        };
        error.map(|packet| datagram.reply(&packet));
    }

    fn on_timer(&mut self, context: &mut Context, timer: TimerId, tries: u64) {
        let found = self.transfers.iter().find(|(_, transfer)| transfer.timer == Some(timer));
        let Some((&socket, _)) = found else { return };
        if tries < TRIES_MAX { self.send(context, socket, tries) } else { self.end(context, socket) }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address: SocketAddr = arguments.next().as_deref().unwrap_or("127.0.0.1:6969").parse()?;
    let server = Server::new(arguments.next().as_deref().unwrap_or(".").as_ref())?;
    let mut events = EventLoop::new()?;
    let socket = events.bind(address, server)?;
    println!("Listening on {}", events.local_addr(socket)?);
    events.run()?;
    Ok(())
}
