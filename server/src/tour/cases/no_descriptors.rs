//! Case 8: no free descriptor (EMFILE).

use std::io;

use crate::tour::case::{Case, Verdict};
use crate::tour::client::Target;
use crate::tour::mio_server::rules::Rules;
use crate::tour::mio_server::server::Server;

pub(super) const CASE: Case = Case {
    number: 8,
    name: "no-descriptors",
    title: "no free descriptor (EMFILE)",
    mistake: "",
    explanation: ["", "", "", "", ""],
    reading: &[],
    descriptors_max: Some(64),
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
    fn accept_failed(&self) -> fn(&mut Server) {
        // No client can be accepted now: wait for the next event.
        |_| {}
    }
}
