//! The twelve cases, each in a file of its own.

mod accept_once;
mod fatal_reset;
mod half_close;
mod ignored_eof;
mod no_descriptors;
mod one_datagram;
mod partial_write;
mod read_once;
mod slot_reuse;
mod slow_handler;
mod starvation;
mod udp_source;

use crate::tour::case::Case;

/// All cases, by number.
pub(crate) const CASES: [&Case; 12] = [
    &accept_once::CASE,
    &one_datagram::CASE,
    &read_once::CASE,
    &ignored_eof::CASE,
    &partial_write::CASE,
    &fatal_reset::CASE,
    &half_close::CASE,
    &no_descriptors::CASE,
    &slot_reuse::CASE,
    &starvation::CASE,
    &slow_handler::CASE,
    &udp_source::CASE,
];
