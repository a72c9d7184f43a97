//! Input: raw bytes, lines and frames.

mod frame_batches;
mod frame_formats;
mod line_framing;
mod own_decoders;
mod unconsumed_input;
