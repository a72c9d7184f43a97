//! The admin endpoint.

mod admin_addresses;
mod connection_lists;
mod foreign_requests;
mod health;
mod http_requests;
mod log_levels;
mod metrics_agree;
mod metrics_page;
mod misbehaving_http_clients;
pub(crate) mod scraped_metrics;

use support::process::server::Server;

use crate::HALLOO;

/// Starts a server with the endpoint on a free port of 127.0.0.1.
#[track_caller]
fn start_with_admin(arguments: &[&str]) -> Server {
    HALLOO.start(&[&["--tcp", "127.0.0.1:0", "--admin", "127.0.0.1:0"], arguments].concat())
}
