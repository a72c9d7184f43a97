//! The built binary behind HAProxy, nginx, dnsdist and curl, and under Prometheus.

#![cfg(target_os = "linux")]

mod dnsdist_queries;
mod engine;
mod foreign_servers;
mod haproxy;
mod kubernetes_pod;
mod load;
mod nginx_stream;
mod prometheus;
mod real_client;
mod rolling_restarts;

use support::process::server::ServerBinary;

const HALLOO: ServerBinary = ServerBinary::new(env!("CARGO_BIN_EXE_halloo"));
