//! The examples, each with clients of other projects.

mod calloop_and_poll_with_netcat;
mod chat_with_netcat;
mod dns_with_dig;
mod http_with_curl;
mod ntp_with_chronyd;
mod own_thread_with_netcat;
mod programs;
mod proxy_with_socat;
mod redis;
mod tftp;
mod tls_with_openssl;
mod watching;
mod websocket_with_python;
