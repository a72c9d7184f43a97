//! Shared code of the test programs: processes, clients, waiting with a deadline.
//!
//! Only [`wait`] calls `thread::sleep`.

#![expect(clippy::missing_panics_doc, reason = "a helper that fails ends its test")]
#![expect(clippy::must_use_candidate, reason = "some tests call for the effect alone")]

pub mod byte_pattern;
pub mod measurement;
pub mod network;
pub mod process;
pub mod wait;
