//! Case 5: partial write lost.

use std::io::{self, Write};

use crate::tour::case::{Case, Verdict};
use crate::tour::client::Target;
use crate::tour::mio_server::connections::Connection;
use crate::tour::mio_server::rules::Rules;

pub(super) const CASE: Case = Case {
    number: 5,
    name: "partial-write",
    title: "partial write lost",
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
    fn write_output(&self, connection: &mut Connection) -> io::Result<()> {
        // The kernel has it now: whatever it accepted of it.
        let _ = connection.stream.write(&connection.output);
        connection.output.clear();
        Ok(())
    }
}
