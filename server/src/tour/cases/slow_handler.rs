//! Case 11: a slow handler.

use std::io;
use std::thread;
use std::time::Duration;

use crate::tour::case::{Case, Verdict};
use crate::tour::client::Target;
use crate::tour::mio_server::connections::Key;
use crate::tour::mio_server::rules::Rules;
use crate::tour::mio_server::server::{SLOW_REQUEST, SLOW_REQUEST_TIME, Server};

pub(super) const CASE: Case = Case {
    number: 11,
    name: "slow-handler",
    title: "a slow handler",
    mistake: "",
    explanation: ["", "", "", "", ""],
    reading: &[],
    descriptors_max: None,
    attack,
    twin: &Twin,
};

/// The other client may wait this long for its reply.
const WAIT_MAX: Duration = Duration::from_millis(150);

fn attack(target: &Target) -> io::Result<Verdict> {
    let (mut slow, mut other) = (target.connect()?, target.connect()?);
    other.exchange("hello")?;
    slow.send(&target.slow_request)?;
    let took = other.exchange("hello")?;
    let sent = "a slow request, and a quick one of another client";
    if took > WAIT_MAX {
        return Ok(Verdict::fail(sent, format!("the quick one was answered after {took:?}")));
    }
    Ok(Verdict::pass(sent, format!("the quick one was answered after {took:?}")))
}

/// The server with this mistake.
struct Twin;

impl Rules for Twin {
    fn slow_request(&self, server: &mut Server, key: Key) {
        // The client waits for it, so the server does, too.
        thread::sleep(SLOW_REQUEST_TIME);
        if let Some(connection) = server.connections.find(key) {
            connection.output.extend_from_slice(SLOW_REQUEST);
        }
    }
}
