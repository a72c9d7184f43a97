//! Input: raw bytes, lines and frames.

mod frame_formats;
mod line_framing;
mod unconsumed_input;
