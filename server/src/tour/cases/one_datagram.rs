//! Case 2: one datagram per event.

use std::io;

use crate::tour::case::{Case, Verdict};
use crate::tour::client::Target;
use crate::tour::mio_server::rules::Rules;
use crate::tour::mio_server::server::Server;

pub(super) const CASE: Case = Case {
    number: 2,
    name: "one-datagram",
    title: "one datagram per event",
    mistake: "",
    explanation: ["", "", "", "", ""],
    reading: &[],
    descriptors_max: None,
    attack,
    twin: &Twin,
};

/// Datagrams that arrive at the same time: few enough for any receive buffer.
const DATAGRAMS: usize = 32;

fn attack(target: &Target) -> io::Result<Verdict> {
    let socket = target.open_datagrams()?;
    for number in 0..DATAGRAMS {
        socket.send(format!("datagram {number}").as_bytes())?;
    }
    let sent = format!("{DATAGRAMS} datagrams at the same time");
    for received in 0..DATAGRAMS {
        if socket.receive()?.is_none() {
            return Ok(Verdict::fail(sent, format!("{received} replies, then nothing")));
        }
    }
    Ok(Verdict::pass(sent, "a reply to each"))
}

/// The server with this mistake.
struct Twin;

impl Rules for Twin {
    fn receive_datagrams(&self, server: &mut Server) {
        // One event, one datagram. Those that came with it are not reported again.
        let _ = server.receive_datagram();
    }
}
