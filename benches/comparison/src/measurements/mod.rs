//! What the benchmark measures, a file each.

pub(crate) mod all_servers;
pub(crate) mod exchange_cost;
pub(crate) mod growth_with_connections;
pub(crate) mod idle_connections;
pub(crate) mod kernel_memory;
pub(crate) mod memory;
pub(crate) mod million_connections;
pub(crate) mod startup;
pub(crate) mod system_calls;
