//! A case of the tour: texts, hostile client, broken server.

use std::io;

use nix::sys::resource::rlim_t;

use crate::text::escape;
use crate::tour::client::Target;
use crate::tour::mio_server::rules::Rules;

/// One of the twelve.
pub(crate) struct Case {
    /// From 1 to 12.
    pub(crate) number: u8,
    /// Its name on the command line and in file names.
    pub(crate) name: &'static str,
    /// What it is about, in a few words.
    pub(crate) title: &'static str,
    /// The mistake, in one sentence.
    pub(crate) mistake: &'static str,
    /// What happens and why, in five sentences.
    pub(crate) explanation: [&'static str; 5],
    /// Manual pages and RFCs with the rule.
    pub(crate) reading: &'static [&'static str],
    /// What its servers may have, if it is less than usual.
    pub(crate) descriptors_max: Option<rlim_t>,
    /// The hostile client.
    pub(crate) attack: fn(&Target) -> io::Result<Verdict>,
    /// The rules of a server with the mistake.
    pub(crate) twin: &'static dyn Rules,
}

impl Case {
    /// Whether the hostile client uses UDP. All others use TCP.
    pub(crate) fn uses_udp(&self) -> bool {
        matches!(self.number, 2 | 12)
    }

    /// Whether the hostile client asks a server at several addresses of this machine.
    pub(crate) fn asks_other_addresses(&self) -> bool {
        self.number == 12
    }

    /// What to read, as a JSON array.
    pub(crate) fn reading_as_json(&self) -> String {
        let texts: Vec<String> = self.reading.iter().map(|text| escape::json(text.as_bytes())).collect();
        format!("[{}]", texts.join(","))
    }
}

/// What a hostile client found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// The server does the right thing.
    Pass,
    /// The mistake was seen.
    Fail,
    /// From outside, this server gives no evidence.
    CannotBeJudged,
}

impl Outcome {
    /// Its word in output.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::CannotBeJudged => "cannot-be-judged",
        }
    }
}

/// A judgement with its evidence.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    pub(crate) outcome: Outcome,
    /// What the hostile client sent, in one sentence without a full stop.
    pub(crate) sent: String,
    /// What came back, or why there is no judgement, likewise.
    pub(crate) came: String,
}

impl Verdict {
    pub(crate) fn pass(sent: impl Into<String>, came: impl Into<String>) -> Self {
        Self { outcome: Outcome::Pass, sent: sent.into(), came: came.into() }
    }

    pub(crate) fn fail(sent: impl Into<String>, came: impl Into<String>) -> Self {
        Self { outcome: Outcome::Fail, sent: sent.into(), came: came.into() }
    }

    pub(crate) fn cannot_be_judged(sent: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { outcome: Outcome::CannotBeJudged, sent: sent.into(), came: reason.into() }
    }
}
