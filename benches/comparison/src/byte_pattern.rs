//! A repeating byte pattern that reveals lost, repeated and swapped bytes.
//!
//! Its period is a prime, so a block of the usual sizes at a wrong place differs.

use std::sync::LazyLock;

/// The longest slice of the pattern.
pub(crate) const SLICE_BYTES: usize = 128 * 1024;
/// It fits the fastest cache of the processor, so checking costs little beside reading.
const PERIOD: usize = 4_093;

static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let scrambled = |at: usize| (at as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()[0];
    (0..PERIOD + SLICE_BYTES).map(|at| scrambled(at % PERIOD)).collect()
});

/// The bytes of a stream from this position on, `SLICE_BYTES` of them.
pub(crate) fn pattern_at(position: u64) -> &'static [u8] {
    #[expect(clippy::cast_possible_truncation)]
    let start = (position % PERIOD as u64) as usize;
    &PATTERN[start..start + SLICE_BYTES]
}

/// Whether these are the bytes of a stream from this position on.
pub(crate) fn is_pattern(position: u64, bytes: &[u8]) -> bool {
    let mut positions = (position..).step_by(SLICE_BYTES);
    bytes.chunks(SLICE_BYTES).all(|chunk| positions.next().is_some_and(|at| *chunk == pattern_at(at)[..chunk.len()]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_a_repeated_and_a_changed_byte_are_found() {
        let position = 3 * PERIOD as u64 + 7;
        let mut bytes = [pattern_at(position), pattern_at(position + SLICE_BYTES as u64)].concat();
        assert!(is_pattern(position, &bytes));
        assert!(!is_pattern(position + 1, &bytes), "the first byte is lost");
        assert!(!is_pattern(position + 65_536, &bytes), "64 KiB are lost");
        assert!(!is_pattern(position - 4_096, &bytes), "4 KiB are repeated");
        bytes[SLICE_BYTES + 1] ^= 1;
        assert!(!is_pattern(position, &bytes));
    }
}
