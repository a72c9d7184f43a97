//! The argument of `halloo generate`.

use clap::{Args, ValueEnum};

/// The argument of `halloo generate`.
#[derive(Args, Clone, Debug)]
pub(crate) struct GenerateOptions {
    /// The document to print
    #[arg(value_name = "DOCUMENT", value_enum)]
    pub(crate) document: Document,
}

/// What `halloo generate` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Document {
    /// The man page halloo(1), of the server
    Man,
    /// The man page halloo-probe(1)
    ManProbe,
    /// The man page halloo-view(1)
    ManView,
    /// The man page halloo-tour(1)
    ManTour,
    /// Completions for bash
    Bash,
    /// Completions for zsh
    Zsh,
    /// Completions for fish
    Fish,
    /// All flags and variables, in Markdown
    Flags,
    /// The JSON Schema of the lines of --events json
    EventSchema,
    /// The JSON Schema of the lines of --log-format json
    LogSchema,
    /// The JSON Schema of the lines of halloo probe --json
    ProbeSchema,
}
