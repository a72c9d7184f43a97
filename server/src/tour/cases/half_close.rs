//! Case 7: half-close.

use std::io;

use halloo::CloseReason;
use mio::event::Event;

use crate::tour::case::{Case, Verdict};
use crate::tour::client::Target;
use crate::tour::mio_server::connections::Key;
use crate::tour::mio_server::rules::Rules;
use crate::tour::mio_server::server::Server;

pub(super) const CASE: Case = Case {
    number: 7,
    name: "half-close",
    title: "half-close",
    mistake: "",
    explanation: ["", "", "", "", ""],
    reading: &[],
    descriptors_max: None,
    attack,
    twin: &Twin,
};

fn attack(target: &Target) -> io::Result<Verdict> {
    let sent = "a line and a FIN in one segment";
    let mut client = target.connect()?;
    client.send_last(
        b"the last line
",
    )?;
    let received = client.receive_to_eof()?;
    if received.bytes.is_empty() {
        return Ok(Verdict::fail(sent, format!("no reply, then {:?}", received.end)));
    }
    Ok(Verdict::pass(sent, "the reply, then EOF"))
}

/// The server with this mistake.
struct Twin;

impl Rules for Twin {
    fn on_event(&self, server: &mut Server, key: Key, event: &Event) -> io::Result<()> {
        if event.is_read_closed() {
            // The client has closed: it needs nothing more.
            server.close(key, CloseReason::Eof);
            return Ok(());
        }
        server.serve(key)
    }
}
