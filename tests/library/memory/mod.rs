//! Memory: budget, refused allocations, growth, return.

mod buffer_memory;
mod memory_growth;
pub(crate) mod own_process;
mod refused_memory;
