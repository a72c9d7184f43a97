//! Single cases that the random workload meets too seldom.

mod findings_cases;
mod handler_cases;
mod lent_input_cases;
mod loop_cases;
mod memory_cases;
mod outbound_cases;
mod time_cases;
mod udp_cases;
mod watch_cases;
