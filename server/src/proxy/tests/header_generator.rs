//! Valid and damaged PROXY headers, by a seed.
//!
//! About a third is valid. The same seed gives the same inputs.

/// A generator of pseudo-random numbers: `SplitMix64` (Steele, Lea and Flood, 2014).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below a bound of at most 2^32.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(((self.next() >> 32) * bound as u64) >> 32).expect("it is below")
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

/// Bytes that mean something in one of the versions.
const BYTES_OF_HEADERS: &[u8] = b" \r\n\0:.0123456789+-aAfFgPTU46\x11\x12\x20\x21\x22\x31\xff";

const WORDS: &[&str] = &[
    "PROXY ", "PROXYX", "proxy ", "TCP4 ", "TCP6 ", "TCP5 ", "UDP4 ", "UNKNOWN", "\r\n", "\n", "\r", " ", "  ", "::",
    "::ffff:", "0", "00", "+1", "65535", "65536", "255", "256", "1.2.3.4", "01", "ffff", "10000", "%eth0",
];

/// The input of one connection: a header, often damaged, and sometimes a request.
pub(super) fn input(random: &mut Random) -> Vec<u8> {
    let mut input = match random.below(20) {
        0..8 => version_1(random),
        8..18 => version_2(random),
        18 => (0..random.below(60)).map(|_| random.byte()).collect(),
        _ => WORDS.iter().take(random.below(6)).flat_map(|_| random.pick(WORDS).bytes()).collect(),
    };
    if random.one_in(3) {
        input.extend_from_slice(b"Hello, TCP Server!\n");
    }
    for _ in 0..random.below(4) {
        damage(random, &mut input);
    }
    input
}

/// Changes some bytes.
fn damage(random: &mut Random, input: &mut Vec<u8>) {
    if input.is_empty() {
        return;
    }
    let at = random.below(input.len());
    let end = (at + 1 + random.below(20)).min(input.len());
    match random.below(10) {
        0 => input.truncate(at),
        1 => input[at] ^= 1 << random.below(8),
        2 => input[at] = BYTES_OF_HEADERS[random.below(BYTES_OF_HEADERS.len())],
        3 => input.insert(at, BYTES_OF_HEADERS[random.below(BYTES_OF_HEADERS.len())]),
        4 => drop(input.remove(at)),
        5 => input.extend_from_within(..),
        6 => drop(input.splice(at..at, input[at..end].to_vec())),
        7 => drop(input.splice(at..end, random.pick(WORDS).bytes())),
        // The length of version 2, mostly near the right one.
        8 if input.len() > 15 => {
            let change = random.below(7);
            input[15] = input[15].wrapping_add(u8::try_from(change).expect("small")).wrapping_sub(3);
        }
        8 => input.reverse(),
        _ if input.len() > 15 => input[random.below(4) + 12] = random.byte(),
        _ => input.swap(at, 0),
    }
}

fn version_1(random: &mut Random) -> Vec<u8> {
    let unknown = ["UNKNOWN", "UNKNOWN ", "UNKNOWN ffff::1 ffff::2 1 2", "UNKNOWN \0 \u{e9}"];
    let line = match random.below(4) {
        0 => unknown[random.below(unknown.len())].to_owned(),
        1 | 2 => format!("TCP4 {} {} {} {}", ipv4(random), ipv4(random), port(random), port(random)),
        _ => format!("TCP6 {} {} {} {}", ipv6(random), ipv6(random), port(random), port(random)),
    };
    let mut header = format!("PROXY {line}\r\n").into_bytes();
    if random.one_in(40) {
        // At the limit of 107 bytes and beyond.
        header.splice(13.min(header.len())..13.min(header.len()), std::iter::repeat_n(b' ', 60 + random.below(40)));
    }
    header
}

fn port(random: &mut Random) -> u16 {
    [0, 1, 80, 65_535, 1_000 + u16::from(random.byte())][random.below(5)]
}

fn ipv4(random: &mut Random) -> String {
    let mut octet = || if random.one_in(3) { 0 } else { random.byte() };
    format!("{}.{}.{}.{}", octet(), octet(), octet(), octet())
}

fn ipv6(random: &mut Random) -> String {
    let group = |random: &mut Random| {
        let number = u16::from_be_bytes([random.byte(), random.byte()]);
        match random.below(4) {
            0 => format!("{number:X}"),
            1 => format!("{number:04x}"),
            2 => "0".to_owned(),
            _ => format!("{number:x}"),
        }
    };
    let groups =
        |random: &mut Random, count: usize| (0..count).map(|_| group(random)).collect::<Vec<String>>().join(":");
    match random.below(5) {
        0 => groups(random, 8),
        1 => format!("::ffff:{}", ipv4(random)),
        2 => format!("{}:{}", groups(random, 6), ipv4(random)),
        // With eight groups beside it, the gap is invalid.
        _ => {
            let before = random.below(6);
            let after = random.below(4);
            format!("{}::{}", groups(random, before), groups(random, after))
        }
    }
}

fn version_2(random: &mut Random) -> Vec<u8> {
    let command = [0x21, 0x21, 0x21, 0x21, 0x21, 0x20, 0x22, 0x11][random.below(8)];
    let family = [0x11, 0x11, 0x11, 0x21, 0x21, 0x31, 0x00, 0x12, 0x22, 0x32, 0x01, 0x41][random.below(12)];
    let mut body: Vec<u8> = match family >> 4 {
        1 => (0..12).map(|_| random.byte()).collect(),
        // Mapped IPv4 addresses, as a proxy sends them that listens on IPv6.
        2 if random.one_in(3) => {
            let mapped = |random: &mut Random| {
                let start = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
                start.into_iter().chain([random.byte(), 0, 0, 1]).collect::<Vec<u8>>()
            };
            [mapped(random), mapped(random), vec![random.byte(); 4]].concat()
        }
        2 => (0..36).map(|_| random.byte()).collect(),
        3 => (0..216).map(|_| random.byte()).collect(),
        _ => Vec::new(),
    };
    for _ in 0..random.below(4) {
        let value_bytes = if random.one_in(20) { 256 + random.below(256) } else { random.below(30) };
        body.push(random.byte());
        body.extend_from_slice(&u16::try_from(value_bytes).expect("short").to_be_bytes());
        body.extend((0..value_bytes).map(|_| random.byte()));
    }
    let length = u16::try_from(body.len()).expect("short").to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[command, family], &length, &body].concat()
}
