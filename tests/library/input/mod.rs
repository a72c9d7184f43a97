//! Input: raw, as lines, as frames.

mod frame_formats;
mod line_framing;
mod unconsumed_input;
