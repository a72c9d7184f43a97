//! Case 4: EOF taken for "nothing now".

use std::io;

use crate::tour::case::{Case, Verdict};
use crate::tour::client::Target;
use crate::tour::mio_server::connections::Key;
use crate::tour::mio_server::rules::{Flow, Rules};
use crate::tour::mio_server::server::Server;

pub(super) const CASE: Case = Case {
    number: 4,
    name: "ignored-eof",
    title: "EOF taken for \"nothing now\"",
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
    fn at_eof(&self, _: &mut Server, _: Key) -> Flow {
        // Nothing was read, so there is nothing now.
        Flow::Stop
    }
}
