//! The built binary as a person, a script or a hostile network meets it: over real sockets on loopback, with signals,
//! limits and standard streams as the system has them.

mod clients;
mod crowds;
mod datagrams;
mod descriptors;
mod environment;
mod events;
mod lifetime;
mod limits;
mod misbehaviour;
mod modes;
mod origins;
mod outputs;
mod paths;
mod probe;
mod refusals;
mod rest;
mod signals;
mod support;
mod unix;
mod workers;
