//! Case 1: accept once per event.

use std::io;

use crate::tour::case::{Case, Verdict};
use crate::tour::client::Target;
use crate::tour::mio_server::rules::Rules;
use crate::tour::mio_server::server::Server;

pub(super) const CASE: Case = Case {
    number: 1,
    name: "accept-once",
    title: "accept once per event",
    mistake: "",
    explanation: ["", "", "", "", ""],
    reading: &[],
    descriptors_max: None,
    attack,
    twin: &Twin,
};

/// Clients that connect at the same time.
const CLIENTS: usize = 64;

fn attack(target: &Target) -> io::Result<Verdict> {
    let sent = format!("{CLIENTS} clients connected at the same time, and each sent a line");
    let mut clients = (0..CLIENTS).map(|_| target.connect()).collect::<io::Result<Vec<_>>>()?;
    for (served, client) in clients.iter_mut().enumerate() {
        if let Err(error) = client.exchange("hello") {
            return Ok(Verdict::fail(sent, format!("{served} clients were served, and one was not: {error}")));
        }
    }
    Ok(Verdict::pass(sent, "every client got its reply"))
}

/// The server with this mistake.
struct Twin;

impl Rules for Twin {
    fn accept_clients(&self, server: &mut Server) -> io::Result<()> {
        // One event, one client. Those that came with it are not reported again.
        server.accept(self.accept_failed()).map(drop)
    }
}
