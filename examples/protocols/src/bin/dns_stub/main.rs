//! A DNS server for one small zone, over UDP and TCP: A, AAAA and SOA, NXDOMAIN, NODATA, EDNS and truncation.
//!
//! `cargo run --release -p protocols --bin dns_stub`, then `dig @127.0.0.1 -p 5353 www.halloo.test`, with `+tcp`, too.
//! Another address may be given.
//!
//! Both transports ask the same zone. Over UDP an answer that is too long goes out empty, with the bit set that tells
//! the client to ask again over TCP.

mod zone;

use std::net::SocketAddr;

use halloo::framing::{self, ByteOrder, Format};
use halloo::{Bind, EventLoop, Listen, datagrams};
use zone::Zone;

/// A query over TCP: one question and some options. Who announces a longer one is cut.
const QUERY_BYTES_MAX: usize = 4096;

/// An answer over TCP, its length before it.
const ANSWER_BYTES_MAX: usize = 2 + u16::MAX as usize;

/// Over TCP each message has its length before it (RFC 1035 section 4.2.2).
const FORMAT: Format = Format::LengthU16(ByteOrder::BigEndian);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address: SocketAddr = std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:5353").parse()?;
    let zone = Zone::new()?;
    let mut events = EventLoop::new()?;
    // A query is shown while half of the outbox is free, and so its answer always fits.
    let at = Listen::from(address).outbox_bytes_max(2 * ANSWER_BYTES_MAX);
    let answer_frame = framing::frames(FORMAT, QUERY_BYTES_MAX, |connection, query| {
        let answer = zone.answer(query, false);
        if answer.is_none_or(|answer| FORMAT.send(connection, &answer).is_err()) {
            connection.close();
        }
    });
    let listener = events.listen(at, answer_frame)?;
    let address = events.local_addr(listener)?;
    // Over UDP anybody can ask in another's name; that other is not to be flooded from here.
    let at = Bind::from(address).replies_per_source_per_second_max(1000);
    let answer_datagram = datagrams(|datagram, query| {
        if let Some(answer) = zone.answer(query, true) {
            let _ = datagram.reply(&answer);
        }
    });
    events.bind(at, answer_datagram)?;
    println!("Listening on {address}");
    events.run()?;
    Ok(())
}
