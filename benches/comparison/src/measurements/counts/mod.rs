//! Counts by strace and valgrind, which a busy machine does not change.

pub(crate) mod callgrind;
pub(crate) mod instructions;
pub(crate) mod system_calls;
