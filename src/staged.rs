//! Datagrams on their way out, from a callback until the end of the turn.
//!
//! Pure: one arena of bytes and a list of letters that point into it. Nothing stays over a turn.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use crate::limits;

/// What callbacks have said to send.
#[derive(Default)]
pub(crate) struct Staged {
    pub(crate) letters: Vec<Letter>,
    bytes: Vec<u8>,
}

/// One datagram to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Letter {
    /// The socket it leaves through.
    pub(crate) socket: u32,
    pub(crate) to: SocketAddr,
    /// The address it leaves from, where the socket has several.
    pub(crate) from: Option<IpAddr>,
    payload: Range<usize>,
}

impl Letter {
    pub(crate) fn length(&self) -> usize {
        self.payload.len()
    }
}

impl Staged {
    /// Stages one more; false if there is too much already.
    pub(crate) fn push(&mut self, socket: u32, to: SocketAddr, from: Option<IpAddr>, payload: &[u8]) -> bool {
        let start = self.bytes.len();
        let fits = self.letters.len() < limits::STAGED_REPLIES_MAX && start + payload.len() <= limits::STAGED_BYTES_MAX;
        if fits {
            self.bytes.extend_from_slice(payload);
            self.letters.push(Letter { socket, to, from, payload: start..start + payload.len() });
        }
        fits
    }

    pub(crate) fn payload(&self, letter: &Letter) -> &[u8] {
        &self.bytes[letter.payload.clone()]
    }

    /// The payloads of mergeable letters, one behind the other.
    pub(crate) fn merged(&self, letters: &[Letter]) -> &[u8] {
        match letters {
            [first, .., last] => &self.bytes[first.payload.start..last.payload.end],
            [only] => self.payload(only),
            [] => &[],
        }
    }

    /// Whether it is time to send, before the turn's end.
    pub(crate) fn is_heavy(&self) -> bool {
        self.bytes.len() >= limits::STAGED_BYTES_SOFT_MAX
    }

    pub(crate) fn clear(&mut self) {
        self.letters.clear();
        self.bytes.clear();
    }
}

/// How many letters, from the first of the list on, can leave as one message that the kernel cuts up again: to one
/// peer from one address, one as long as the other, only the last may be shorter (udp(7), `UDP_SEGMENT`).
pub(crate) fn mergeable(letters: &[Letter]) -> usize {
    let [first, rest @ ..] = letters else { return 0 };
    let segment = first.payload.len();
    let (mut count, mut end) = (1, first.payload.end);
    if segment == 0 {
        return count;
    }
    for next in rest.iter().take(limits::MERGED_LETTERS_MAX - 1) {
        let length = next.payload.len();
        let is_like = next.to == first.to && next.from == first.from && next.payload.start == end;
        let fits = next.payload.end - first.payload.start <= limits::MERGED_BYTES_MAX;
        if !is_like || !fits || length == 0 || length > segment {
            break;
        }
        (count, end) = (count + 1, next.payload.end);
        if length < segment {
            break;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9);

    #[test]
    fn each_letter_keeps_its_own_payload() {
        let mut staged = Staged::default();
        for payload in [&b"one"[..], b"", b"three"] {
            assert!(staged.push(0, PEER, None, payload));
        }
        let payloads: Vec<&[u8]> = staged.letters.iter().map(|letter| staged.payload(letter)).collect();
        assert_eq!(payloads, [&b"one"[..], b"", b"three"]);
    }

    #[test]
    fn a_handler_that_never_stops_replying_is_stopped() {
        let mut staged = Staged::default();
        let payload = vec![0; 60_000];
        while staged.push(0, PEER, None, &payload) {}
        assert!(staged.bytes.len() <= limits::STAGED_BYTES_MAX);
        staged.clear();
        while staged.push(0, PEER, None, b"") {}
        assert_eq!(staged.letters.len(), limits::STAGED_REPLIES_MAX);
    }
}
