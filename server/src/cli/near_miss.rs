//! Finds what a wrong word means: a known word or an address.
//!
//! A word that is far from all known words gets no suggestion: a wrong one would mislead.

use std::ffi::OsString;
use std::net::Ipv6Addr;

use crate::text::address::{Address, Endpoint};
use crate::text::escape;

/// The most slips in a word. A slip adds, omits or replaces a letter, or swaps two neighbours.
const SLIPS_MAX: usize = 2;

/// The shortest prefix that stands for a known word, in bytes.
const PREFIX_BYTES_MIN: usize = 3;

/// Returns the known word with the fewest slips: at most [`SLIPS_MAX`], and one in three letters. Without such a word,
/// returns the only known word that begins with `word`. Upper case and underscores are no slips.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.to_lowercase().replace('_', "-").chars().collect();
    let known: Vec<(&str, Vec<char>)> =
        known.into_iter().map(|known| (known, known.to_lowercase().replace('_', "-").chars().collect())).collect();
    let slips_max = |known: &[char]| (known.len().min(word.len()) / 3).clamp(1, SLIPS_MAX);
    let near = known
        .iter()
        .filter(|(_, known)| known.len().abs_diff(word.len()) <= SLIPS_MAX)
        .map(|(name, known)| (slips(&word, known), slips_max(known), *name))
        .filter(|(slips, slips_max, _)| slips <= slips_max)
        .min_by_key(|(slips, ..)| *slips);
    let mut longer = known
        .iter()
        .filter(|(_, known)| word.len() >= PREFIX_BYTES_MIN && known.starts_with(&word))
        .map(|(name, _)| *name);
    near.map(|(.., name)| name).or_else(|| longer.next().filter(|_| longer.next().is_none()))
}

/// Counts the slips between two words (the optimal string alignment distance).
fn slips(left: &[char], right: &[char]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let replaced = last[j] + usize::from(a != b);
            let mut count = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == right[j - 1] && left[i - 1] == *b {
                count = count.min(before_last[j - 1] + 1);
            }
            row.push(count);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[right.len()]
}

/// Joins a host and a port to one word; `None` if they are something else.
pub(crate) fn with_port(host: &str, port: &str) -> Option<String> {
    let port: u16 = port.parse().ok()?;
    let is_bare_ipv6 = host.parse::<Ipv6Addr>().is_ok();
    let address = if is_bare_ipv6 { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    (!host.is_empty() && address.parse::<Address>().is_ok()).then(|| escape::excerpt(&address))
}

/// Whether a word was meant as an address. A bare name could be anything, except `localhost`.
pub(crate) fn is_address(word: &str) -> bool {
    let looks_like_one = word.contains([':', '.']) || word.parse::<u16>().is_ok() || word == "localhost";
    looks_like_one && word.parse::<Address>().is_ok()
}

/// Whether a word has several targets of a probe, with commas between them.
pub(crate) fn are_targets(word: &str) -> bool {
    word.contains(',') && word.split(',').all(|target| Endpoint::try_from(OsString::from(target)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::nearest;

    const KNOWN: [&str; 8] =
        ["listen", "tcp", "udp", "greeting", "udp-rate", "max-connections", "max-greetings", "idle-timeout"];

    #[test]
    fn a_near_miss_suggests_the_nearest_word() {
        for (word, expected) in [
            ("tpc", "tcp"),
            ("tcpp", "tcp"),
            ("lisen", "listen"),
            ("litsen", "listen"),
            ("LISTEN", "listen"),
            ("gretings", "greeting"),
            ("udp_rate", "udp-rate"),
            ("updrate", "udp-rate"),
            ("max-conections", "max-connections"),
            ("idle", "idle-timeout"),
            ("max-c", "max-connections"),
        ] {
            assert_eq!(nearest(word, KNOWN), Some(expected), "{word}");
        }
    }

    #[test]
    fn a_word_that_is_far_off_gets_no_suggestion() {
        for word in ["", "t", "reset", "port", "timeout", "max", "max-", "tap-", "lst", &"x".repeat(1 << 20)] {
            assert_eq!(nearest(word, KNOWN), None, "{word}");
        }
    }
}
