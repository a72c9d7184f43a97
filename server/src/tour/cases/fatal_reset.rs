//! Case 6: a reset that ends the server.

use std::io;

use crate::tour::case::{Case, Verdict};
use crate::tour::client::Target;
use crate::tour::mio_server::connections::Key;
use crate::tour::mio_server::rules::{Flow, Rules};
use crate::tour::mio_server::server::Server;

pub(super) const CASE: Case = Case {
    number: 6,
    name: "fatal-reset",
    title: "a reset that ends the server",
    mistake: "",
    explanation: ["", "", "", "", ""],
    reading: &[],
    descriptors_max: None,
    attack,
    twin: &Twin,
};

/// Clients that reset their connections.
const RESETS: usize = 16;

fn attack(target: &Target) -> io::Result<Verdict> {
    let sent = format!("{RESETS} clients sent a line, read the reply, and reset their connections");
    for number in 0..RESETS {
        let mut client = target.connect()?;
        client.exchange("hello")?;
        client.reset()?;
        let served = target.connect().and_then(|mut next| next.exchange("still there?"));
        if let Err(error) = served {
            return Ok(Verdict::fail(
                sent,
                format!("after {} resets the next client was not served: {error}", number + 1),
            ));
        }
    }
    Ok(Verdict::pass(sent, "the client after each of them got its reply"))
}

/// The server with this mistake.
struct Twin;

impl Rules for Twin {
    fn read_failed(&self, _: &mut Server, _: Key, error: io::Error) -> io::Result<Flow> {
        // An error is an error.
        Err(error)
    }
}
