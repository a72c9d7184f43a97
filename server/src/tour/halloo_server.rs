//! The right server of the tour, on halloo's loop.
//!
//! It speaks the protocol of the tour.
