//! The servers for Redis clients, with redis-cli, redis-benchmark and netcat.

mod pubsub_with_redis_cli;
mod redis_with_redis_cli;
