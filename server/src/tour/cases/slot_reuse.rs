//! Case 9: slot reuse.

use std::io;

use crate::tour::case::{Case, Verdict};
use crate::tour::client::Target;
use crate::tour::mio_server::connections::{Connection, Key};
use crate::tour::mio_server::rules::Rules;

pub(super) const CASE: Case = Case {
    number: 9,
    name: "slot-reuse",
    title: "slot reuse",
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
    fn is_current(&self, _: &Connection, _: Key) -> bool {
        // The slot is in use, so it is this connection.
        true
    }
}
