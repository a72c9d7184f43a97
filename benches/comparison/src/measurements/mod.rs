//! What the benchmark measures, a file each.

pub(crate) mod calls;
pub(crate) mod compare;
pub(crate) mod growth;
pub(crate) mod idle;
pub(crate) mod kernel;
pub(crate) mod measure;
pub(crate) mod memory;
pub(crate) mod million;
pub(crate) mod startup;
