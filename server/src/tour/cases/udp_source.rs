//! Case 12: wrong UDP source address, and UDP loops.

use std::io;

use crate::tour::case::{Case, Verdict};
use crate::tour::client::Target;
use crate::tour::mio_server::datagrams::Received;
use crate::tour::mio_server::rules::Rules;
use crate::tour::mio_server::server::Server;

pub(super) const CASE: Case = Case {
    number: 12,
    name: "udp-source",
    title: "wrong UDP source address, and UDP loops",
    mistake: "",
    explanation: ["", "", "", "", ""],
    reading: &[],
    descriptors_max: None,
    attack,
    twin: &Twin,
};

fn attack(target: &Target) -> io::Result<Verdict> {
    drop(target.connect()?);
    Ok(Verdict::cannot_be_judged("", "not written yet"))
}

/// The server with this mistake.
struct Twin;

impl Rules for Twin {
    fn reply(&self, server: &mut Server, datagram: &Received) {
        // Back to where it came from.
        server.udp.send_to(&datagram.payload, datagram.source);
    }
}
