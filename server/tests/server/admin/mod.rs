//! The admin endpoint.

mod health;
mod http_client;
