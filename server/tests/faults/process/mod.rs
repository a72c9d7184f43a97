//! Start, shutdown and workers under faults.

mod admin_latency;
mod first_process;
mod full_pipes;
mod shutdown_errors;
mod silent_workers;
mod startup_errors;
mod startup_fd_limits;
mod stop_and_continue;
mod worker_poll_errors;
