//! The examples, each tried with clients that are not ours.

mod chat;
mod dns;
mod http;
mod nested;
mod proxy;
mod redis;
mod support;
mod threads;
mod time;
mod tls;
