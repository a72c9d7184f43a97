//! A time server: SNTP (RFC 4330, RFC 5905) from the machine's clock.
//!
//! `cargo run --example udp_time`, then `ntpdig 127.0.0.1` if it listens on port 123, or
//! `chronyd -Q 'server 127.0.0.1 port 1123 iburst'`. Another address may be given; the default is 127.0.0.1:1123.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use halloo::{Bind, EventLoop, datagrams};

/// A message without extensions. An answer is never longer than the question, so nobody gains by forging one.
const MESSAGE_BYTES: usize = 48;

/// Seconds between 1900, where NTP begins to count, and 1970, where Unix does.
const NTP_TO_UNIX_SECONDS: u64 = 2_208_988_800;

/// A clock that nothing has set: far from the sources, so that any other server is believed before this one.
const STRATUM: u8 = 10;

/// Log2 of the seconds that the clock can tell apart: about a microsecond.
const PRECISION: i8 = -20;

/// The answer to a client's question that has come at that time; `None` to anything else, an answer above all.
fn answer(question: &[u8], received: SystemTime) -> Option<[u8; MESSAGE_BYTES]> {
    let [first, _, poll, ..] = *question.first_chunk::<MESSAGE_BYTES>()?;
    let (version, mode) = (first >> 3 & 7, first & 7);
    if !(1..=4).contains(&version) || mode != 3 {
        return None;
    }
    let received = timestamp(received);
    let mut answer = [0; MESSAGE_BYTES];
    // No leap second announced, the client's version, mode 4: server.
    answer[0] = version << 3 | 4;
    answer[1] = STRATUM;
    answer[2] = poll;
    answer[3] = PRECISION.to_be_bytes()[0];
    // Delay to the source 0; dispersion 1/64 s, in units of 2^-16 s: what is honest to promise of such a clock.
    answer[8..12].copy_from_slice(&(1_u32 << 10).to_be_bytes());
    answer[12..16].copy_from_slice(b"LOCL");
    answer[16..24].copy_from_slice(&received);
    // The client's transmit time comes back as the origin, by which it knows its answer.
    answer[24..32].copy_from_slice(&question[40..48]);
    answer[32..40].copy_from_slice(&received);
    answer[40..48].copy_from_slice(&timestamp(SystemTime::now()));
    Some(answer)
}

/// Seconds since 1900 and their 2^32nd parts. The seconds begin again in 2036; clients know that.
fn timestamp(time: SystemTime) -> [u8; 8] {
    let since_1970 = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let seconds = since_1970.as_secs().wrapping_add(NTP_TO_UNIX_SECONDS);
    let fraction = (u64::from(since_1970.subsec_nanos()) << 32) / 1_000_000_000;
    (seconds << 32 | fraction).to_be_bytes()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address: SocketAddr = std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:1123").parse()?;
    let mut events = EventLoop::new()?;
    // Clients ask a few times a minute.
    let at = Bind::from(address).replies_per_source_per_second_max(20);
    let socket = events.bind(
        at,
        datagrams(|datagram, question| {
            if let Some(answer) = answer(question, SystemTime::now()) {
                let _ = datagram.reply(&answer);
            }
        }),
    )?;
    println!("Listening on {}", events.local_addr(socket)?);
    events.run()?;
    Ok(())
}
