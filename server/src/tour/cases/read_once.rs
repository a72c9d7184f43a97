//! Case 3: read without draining.

use std::io;

use crate::tour::case::{Case, Verdict};
use crate::tour::client::Target;
use crate::tour::mio_server::connections::Key;
use crate::tour::mio_server::rules::Rules;
use crate::tour::mio_server::server::Server;

pub(super) const CASE: Case = Case {
    number: 3,
    name: "read-once",
    title: "read without draining",
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
    fn read_input(&self, server: &mut Server, key: Key) -> io::Result<()> {
        // One event, one read. What it leaves is not reported again.
        self.read_once(server, key).map(drop)
    }
}
