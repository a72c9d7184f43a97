//! The examples, each tried with clients that are not ours.

mod chat;
mod http;
mod nested;
mod proxy;
mod support;
mod threads;
mod time;
