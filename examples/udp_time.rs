//! A time server: SNTP (RFC 4330, RFC 5905) from the machine's clock.
//!
//! `cargo run --example udp_time`, then `chronyd -Q 'server 127.0.0.1 port 1123 iburst'`, or `ntpdig 127.0.0.1` if it
//! listens on port 123. An argument sets another listen address; the default is 127.0.0.1:1123.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use halloo::{Bind, EventLoop, datagrams};

/// A message without extensions. A reply is as long as the request, so a forged source gains no amplification.
const MESSAGE_BYTES: usize = 48;

/// Seconds from 1900, the epoch of NTP, to 1970, the epoch of Unix.
const NTP_TO_UNIX_SECONDS: u64 = 2_208_988_800;

/// The stratum of an unsynchronized clock. Clients prefer any other server.
const STRATUM: u8 = 10;

/// Log2 of the clock's resolution in seconds: about 1 µs.
const PRECISION: i8 = -20;

/// Returns the reply to a client's request. Returns `None` for any other message, also for a reply.
fn reply(request: &[u8], received: SystemTime) -> Option<[u8; MESSAGE_BYTES]> {
    let [first, _, poll, ..] = *request.first_chunk::<MESSAGE_BYTES>()?;
    let (version, mode) = (first >> 3 & 7, first & 7);
    if !(1..=4).contains(&version) || mode != 3 {
        return None;
    }
    let received = timestamp(received);
    let mut reply = [0; MESSAGE_BYTES];
    // Leap indicator 0, the client's version, mode 4 (server).
    reply[0] = version << 3 | 4;
    reply[1] = STRATUM;
    reply[2] = poll;
    reply[3] = PRECISION.to_be_bytes()[0];
    // Root delay 0. Root dispersion 1/64 s, in units of 2^-16 s: a cautious bound for such a clock.
    reply[8..12].copy_from_slice(&(1_u32 << 10).to_be_bytes());
    reply[12..16].copy_from_slice(b"LOCL");
    reply[16..24].copy_from_slice(&received);
    // The client's transmit time is sent back as the origin. With it the client finds the request of this reply.
    reply[24..32].copy_from_slice(&request[40..48]);
    reply[32..40].copy_from_slice(&received);
    reply[40..48].copy_from_slice(&timestamp(SystemTime::now()));
    Some(reply)
}

/// Seconds since 1900, and the fraction in units of 2^-32 s. The seconds wrap in 2036, which clients expect.
fn timestamp(time: SystemTime) -> [u8; 8] {
    let since_1970 = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let seconds = since_1970.as_secs().wrapping_add(NTP_TO_UNIX_SECONDS);
    let fraction = (u64::from(since_1970.subsec_nanos()) << 32) / 1_000_000_000;
    (seconds << 32 | fraction).to_be_bytes()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address: SocketAddr = std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:1123").parse()?;
    let mut events = EventLoop::new()?;
    // Clients send a few requests a minute.
    let at = Bind::from(address).replies_per_source_per_second_max(20);
    let socket = events.bind(
        at,
        datagrams(|datagram, request| {
            if let Some(reply) = reply(request, SystemTime::now()) {
                let _ = datagram.reply(&reply);
            }
        }),
    )?;
    println!("Listening on {}", events.local_addr(socket)?);
    events.run()?;
    Ok(())
}
