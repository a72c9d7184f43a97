//! The built binary when the kernel itself says no: every error of every call it makes, injected while it serves;
//! descriptors, pipes and processor time taken away; datagrams forged in a network of the test's own.
//!
//! What it takes to make a kernel misbehave is not everywhere: strace, unshare, ip, prlimit, the right to trace a
//! process and to make a network namespace. Where `CI` is set a test that cannot be run fails; elsewhere it says so.

mod accepting;
mod clients;
mod conversations;
mod datagrams;
mod endings;
mod few_descriptors;
mod floods;
mod forged;
mod injection;
mod lasting;
mod memory;
mod namespace;
mod packets;
mod pipes;
mod replies;
mod rows;
mod starting;
mod stops;
mod streams;
mod support;
mod workers;
