//! A byte pattern that reveals lost, swapped and repeated bytes.

/// The first `length` bytes of the pattern.
pub fn byte_pattern(length: usize) -> Vec<u8> {
    (0..length as u64).map(|at| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56).to_le_bytes()[0]).collect()
}
