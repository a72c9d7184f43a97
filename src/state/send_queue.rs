//! Datagrams on their way out, from a callback until the end of the turn.
//!
//! Pure: one arena of bytes and a list of letters that point into it. Nothing stays over a turn. Letters to one peer keep
//! their order, and are brought together before they leave, so that neighbours can be merged into one message.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use crate::limits;

/// What callbacks have said to send.
#[derive(Default)]
pub(crate) struct Staged {
    pub(crate) letters: Vec<Letter>,
    bytes: Vec<u8>,
    grouping: Grouping,
}

/// What it takes to bring letters together, kept from turn to turn.
#[derive(Default)]
struct Grouping {
    /// A hash table with open addressing: the last letter of each peer so far, and one more; zero is free.
    last: Vec<usize>,
    /// The first letter of each peer.
    firsts: Vec<usize>,
    /// By letter: the next one to the same peer, or itself.
    next: Vec<usize>,
    letters: Vec<Letter>,
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
    #[cfg(any(test, target_os = "linux"))]
    pub(crate) fn length(&self) -> usize {
        self.payload.len()
    }

    /// Whether both go the same way.
    fn is_like(&self, other: &Self) -> bool {
        self.to == other.to && self.from == other.from && self.socket == other.socket
    }

    /// A number that is mostly another for another peer. Whoever chooses his address so that it is not makes the search
    /// longer, by as many letters as there may be at most.
    fn hash(&self) -> u64 {
        let ip = match self.to.ip() {
            IpAddr::V4(v4) => u64::from(v4.to_bits()),
            IpAddr::V6(v6) => v6.segments().iter().fold(0, |hash: u64, part| hash.rotate_left(13) ^ u64::from(*part)),
        };
        let mixed = (ip ^ u64::from(self.to.port()) << 32).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed ^ mixed >> 32
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
    #[cfg(any(test, target_os = "linux"))]
    pub(crate) fn merged(&self, letters: &[Letter]) -> &[u8] {
        match letters {
            [first, .., last] => &self.bytes[first.payload.start..last.payload.end],
            [only] => self.payload(only),
            [] => &[],
        }
    }

    /// Brings letters that go the same way together, behind the first of them and in their order.
    pub(crate) fn group(&mut self) {
        // Of two, none stands between.
        if self.letters.len() < 3 || !self.grouping.link(&self.letters) {
            return;
        }
        let Grouping { firsts, next, letters, bytes, .. } = &mut self.grouping;
        letters.clear();
        bytes.clear();
        for &first in &*firsts {
            let mut index = first;
            loop {
                let start = bytes.len();
                bytes.extend_from_slice(&self.bytes[self.letters[index].payload.clone()]);
                letters.push(Letter { payload: start..bytes.len(), ..self.letters[index].clone() });
                if next[index] == index {
                    break;
                }
                index = next[index];
            }
        }
        std::mem::swap(&mut self.letters, letters);
        std::mem::swap(&mut self.bytes, bytes);
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

impl Grouping {
    /// Finds who belongs together, in one pass; false if they stand together already.
    #[expect(clippy::cast_possible_truncation, reason = "masked to the table's size")]
    fn link(&mut self, letters: &[Letter]) -> bool {
        let size = (2 * letters.len()).next_power_of_two();
        self.last.clear();
        self.last.resize(size, 0);
        self.firsts.clear();
        self.next.clear();
        self.next.extend(0..letters.len());
        let (mut place, mut is_apart) = (0, false);
        for (index, letter) in letters.iter().enumerate() {
            // Mostly it is the same peer again, whose place is known.
            if index == 0 || !letter.is_like(&letters[index - 1]) {
                place = letter.hash() as usize & (size - 1);
                while self.last[place] > 0 && !letter.is_like(&letters[self.last[place] - 1]) {
                    place = (place + 1) & (size - 1);
                }
            }
            match self.last[place] {
                0 => self.firsts.push(index),
                last => {
                    self.next[last - 1] = index;
                    is_apart |= last != index;
                }
            }
            self.last[place] = index + 1;
        }
        is_apart
    }
}

/// How many letters, from the first of the list on, can leave as one message that the kernel cuts up again: to one
/// peer from one address, one as long as the other, only the last may be shorter (udp(7), `UDP_SEGMENT`).
#[cfg(any(test, target_os = "linux"))]
pub(crate) fn mergeable(letters: &[Letter]) -> usize {
    let [first, rest @ ..] = letters else { return 0 };
    let segment = first.payload.len();
    let (mut count, mut end) = (1, first.payload.end);
    if segment == 0 {
        return count;
    }
    for next in rest.iter().take(limits::MERGED_LETTERS_MAX - 1) {
        let length = next.payload.len();
        let is_next = next.is_like(first) && next.payload.start == end;
        let fits = next.payload.end - first.payload.start <= limits::MERGED_BYTES_MAX;
        if !is_next || !fits || length == 0 || length > segment {
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
    use proptest::prelude::*;
    use std::collections::BTreeMap;

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

    fn any_letters() -> impl Strategy<Value = Vec<(u32, u16, usize)>> {
        prop::collection::vec((0u32..2, 1u16..5, 0usize..4), 0..60)
    }

    fn staged(letters: &[(u32, u16, usize)]) -> Staged {
        let mut staged = Staged::default();
        for (number, (socket, port, length)) in letters.iter().enumerate() {
            let payload = vec![u8::try_from(number).expect("a few"); *length];
            assert!(staged.push(*socket, SocketAddr::new(PEER.ip(), *port), None, &payload));
        }
        staged
    }

    /// Who gets what, in what order.
    fn post(staged: &Staged) -> BTreeMap<(u32, SocketAddr), Vec<Vec<u8>>> {
        let mut post: BTreeMap<_, Vec<Vec<u8>>> = BTreeMap::new();
        for letter in &staged.letters {
            post.entry((letter.socket, letter.to)).or_default().push(staged.payload(letter).to_vec());
        }
        post
    }

    proptest! {
        #[test]
        fn grouping_brings_a_peers_letters_together_and_keeps_their_order(letters in any_letters()) {
            let mut staged = staged(&letters);
            let before = post(&staged);
            staged.group();
            prop_assert_eq!(&post(&staged), &before);
            let groups = staged.letters.chunk_by(Letter::is_like).count();
            prop_assert_eq!(groups, before.len());
        }

        #[test]
        fn merged_letters_are_cut_up_into_themselves(letters in any_letters()) {
            let mut staged = staged(&letters);
            staged.group();
            let mut rest = &staged.letters[..];
            while !rest.is_empty() {
                let (merged, behind) = rest.split_at(mergeable(rest));
                let segment = merged[0].length().max(1);
                let cut: Vec<&[u8]> = match staged.merged(merged) {
                    b"" => vec![b""],
                    bytes => bytes.chunks(segment).collect(),
                };
                let payloads: Vec<&[u8]> = merged.iter().map(|letter| staged.payload(letter)).collect();
                prop_assert_eq!(cut, payloads);
                prop_assert!(merged.iter().all(|letter| letter.is_like(&merged[0])));
                rest = behind;
            }
        }
    }

    #[test]
    fn as_many_are_merged_as_the_kernel_cuts_up_and_no_more() {
        let merges = |count, length| mergeable(&staged(&vec![(0, 9, length); count]).letters);
        assert_eq!((merges(64, 1), merges(65, 1), merges(3, 0)), (64, 64, 1));
        assert_eq!((merges(7, 10_000), merges(60, 1_472)), (6, 44), "65,507 bytes");
        let long_first = staged(&[(0, 9, 2), (0, 9, 1), (0, 9, 1)]);
        assert_eq!(mergeable(&long_first.letters), 2, "a shorter one is the last");
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
