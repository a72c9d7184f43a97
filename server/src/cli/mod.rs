//! The command line: the definition of the flags, and their parsing.

pub(crate) mod contradictions;
pub(crate) mod fault_rule;
pub(crate) mod flags;
pub(crate) mod help;
pub(crate) mod near_miss;
pub(crate) mod parse;
pub(crate) mod trusted_source;
pub(crate) mod usage_error;
pub(crate) mod without_effect;
