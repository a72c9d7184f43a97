//! Memory: budget, refused allocations, growth and return.

mod buffer_memory;
mod memory_growth;
mod memory_returned;
pub(crate) mod own_process;
mod refused_memory;
