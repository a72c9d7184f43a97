//! Exchanges of a loop and its clients on one thread, to count.
//!
//! The clients and the loop take turns, so every run makes the same system calls. `instructions WORKLOAD EXCHANGES` runs
//! that many exchanges. The difference of two runs is the cost of the exchanges between them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::ExitCode;
use std::time::Duration;

use halloo::{Connection, EventLoop, StreamHandler, Turn, datagrams};

const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const REQUEST: &[u8] = b"Hello, TCP Server!\n";
const REPLY: &[u8] = b"Hello, TCP Client!\n";

/// Clients that the loop serves in one turn.
const CLIENTS: usize = 64;

/// Replies to each input; closes after the reply if it is for one exchange.
struct Greeter {
    closes: bool,
}

impl StreamHandler for Greeter {
    type Session = ();

    fn on_open(&mut self, _: &mut Connection<'_>) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, (): &mut (), input: &[u8]) -> usize {
        let _ = connection.send(REPLY);
        if self.closes {
            connection.close();
        }
        input.len()
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let run = match arguments.first().map(String::as_str) {
        Some("once") => once,
        Some("lines") => lines,
        Some("udp") => udp,
        Some("timers") => timers,
        Some("posts") => posts,
        _ => return usage(),
    };
    let Some(exchanges) = arguments.get(1).and_then(|count| count.parse().ok()) else {
        return usage();
    };
    run(exchanges).map_or_else(
        |error| {
            eprintln!("the exchanges failed: {error}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

fn usage() -> ExitCode {
    eprintln!("usage: instructions once|lines|udp|timers|posts EXCHANGES");
    ExitCode::from(2)
}

/// Runs one turn, which handles what the clients have done. The counts are those of this function.
#[inline(never)]
fn turn(events: &mut EventLoop<'_>) -> halloo::Result<()> {
    assert_eq!(events.turn(Some(Duration::ZERO))?, Turn::Progress);
    Ok(())
}

/// Connects, sends a request, reads the reply to EOF; many clients a turn.
fn once(exchanges: usize) -> std::io::Result<()> {
    let mut events = EventLoop::new()?;
    let listener = events.listen(ADDRESS, Greeter { closes: true })?;
    let address = events.local_addr(listener)?;
    for _ in 0..exchanges / CLIENTS {
        let mut clients = (0..CLIENTS).map(|_| TcpStream::connect(address)).collect::<Result<Vec<_>, _>>()?;
        clients.iter_mut().try_for_each(|client| client.write_all(REQUEST))?;
        turn(&mut events)?;
        for client in &mut clients {
            read_reply(client)?;
            assert_eq!(client.read(&mut [0])?, 0);
        }
    }
    Ok(())
}

/// Sends requests on open connections, one on each a turn.
fn lines(exchanges: usize) -> std::io::Result<()> {
    let mut events = EventLoop::new()?;
    let listener = events.listen(ADDRESS, Greeter { closes: false })?;
    let address = events.local_addr(listener)?;
    let mut clients = (0..CLIENTS).map(|_| TcpStream::connect(address)).collect::<Result<Vec<_>, _>>()?;
    turn(&mut events)?;
    for _ in 0..exchanges / CLIENTS {
        clients.iter_mut().try_for_each(|client| client.write_all(REQUEST))?;
        turn(&mut events)?;
        clients.iter_mut().try_for_each(read_reply)?;
    }
    Ok(())
}

fn read_reply(client: &mut TcpStream) -> std::io::Result<()> {
    let mut reply = [0; 64];
    let count = client.read(&mut reply)?;
    assert_eq!(&reply[..count], REPLY);
    Ok(())
}

/// Sends datagrams, one at a time.
fn udp(exchanges: usize) -> std::io::Result<()> {
    let mut events = EventLoop::new()?;
    let socket = events.bind(ADDRESS, datagrams(|datagram, _| assert!(datagram.reply(REPLY))))?;
    let client = UdpSocket::bind(ADDRESS)?;
    client.connect(events.local_addr(socket)?)?;
    for _ in 0..exchanges {
        client.send(REQUEST)?;
        turn(&mut events)?;
        let mut reply = [0; 64];
        let count = client.recv(&mut reply)?;
        assert_eq!(&reply[..count], REPLY);
    }
    Ok(())
}

/// Fires timers, a thousand of which are due in each turn.
fn timers(fires: usize) -> std::io::Result<()> {
    const TIMERS: u64 = 1_000;
    let mut events = EventLoop::new()?;
    // The longest is first: the order is not that in which they were set.
    let after = |timer| Duration::from_nanos(TIMERS - timer);
    for timer in 0..TIMERS {
        events.every(after(timer), move |_| Some(after(timer)));
    }
    while events.stats().timers < fires as u64 {
        turn(&mut events)?;
    }
    Ok(())
}

/// Posts jobs, 64 before each turn.
fn posts(jobs: usize) -> std::io::Result<()> {
    let mut events = EventLoop::new()?;
    let handle = events.handle();
    for job in 0..jobs {
        let is_posted = handle.post(move |_| {
            std::hint::black_box(job);
        });
        assert!(is_posted.is_ok());
        if (job + 1) % 64 == 0 || job + 1 == jobs {
            turn(&mut events)?;
        }
    }
    Ok(())
}
