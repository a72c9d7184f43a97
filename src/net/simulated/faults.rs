//! The faults of the simulated network: which calls fail, when, how.
//!
//! Only the seed decides. Each error is listed in the manual page of its call.

use std::io;

use nix::errno::Errno;

/// Makes the enum from one list.
macro_rules! faults {
    ($($(#[$docs:meta])* $fault:ident,)*) => {
        /// A fault of a [`Simulation`](crate::testing::Simulation).
        ///
        /// ```
        /// use halloo::testing::{Fault, Simulation};
        ///
        /// let simulation = Simulation::new(7);
        /// simulation.inject(Fault::Accept, 4);
        /// ```
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        #[non_exhaustive]
        pub enum Fault {
            $($(#[$docs])* $fault,)*
        }

        impl Fault {
            /// All of them.
            pub const ALL: [Self; 17] = [$(Self::$fault,)*];
        }
    };
}

faults! {
    /// accept fails: descriptors or memory are exhausted, or a client has gone.
    Accept,
    /// connect fails at once, or the peer refuses it.
    Connect,
    /// The poll refuses a new client, or a watched descriptor.
    Register,
    /// A read from a stream fails, permanently or temporarily.
    Receive,
    /// A write to a stream fails, permanently or temporarily.
    Send,
    /// The FIN of a stream cannot be sent.
    Shutdown,
    /// A poll is interrupted (EINTR).
    Poll,
    /// An accept, read or write is interrupted (EINTR), never twice in a row.
    Interrupt,
    /// The receive of a datagram fails.
    ReceiveDatagram,
    /// The send of a datagram fails.
    SendDatagram,
    /// A datagram is lost, in either direction, without an error.
    LostDatagram,
    /// A datagram arrives twice, in either direction.
    DuplicateDatagram,
    /// A datagram overtakes an earlier one that was not received, in either direction.
    ReorderedDatagram,
    /// Readiness is reported up to 100 ms late, after later readiness.
    LateReadiness,
    /// Readiness is reported although nothing is ready.
    SpuriousReadiness,
    /// The clock jumps up to 20 s forward at a poll, while clients and network continue.
    Clock,
    /// The process is stopped between two calls for up to 20 s, while clients and network continue.
    Pause,
}

impl Fault {
    /// Faults that a correct handler and its clients do not notice, apart from the delay. No connection ends by them,
    /// and no byte and no datagram is lost. Their delay counts as [time](crate::testing::Simulation#time).
    ///
    /// ```
    /// use halloo::testing::{self, Fault};
    /// use halloo::{datagrams, stream};
    /// use std::net::SocketAddr;
    ///
    /// let (address, peer) = (SocketAddr::from(([10, 0, 0, 1], 7)), SocketAddr::from(([10, 0, 0, 9], 4000)));
    /// testing::check(0..100, |simulation| {
    ///     let mut events = simulation.event_loop();
    ///     events.listen(address, stream(|connection, input| connection.try_write(input))).unwrap();
    ///     events.bind(address, datagrams(|datagram, payload| { datagram.reply(payload); })).unwrap();
    ///     for fault in Fault::SOFT {
    ///         simulation.inject(fault, 4);
    ///     }
    ///     let client = simulation.connect(address).unwrap();
    ///     client.send(b"hello");
    ///     client.shutdown_write();
    ///     simulation.send_datagram(peer, address, b"hello");
    ///     simulation.run_until_idle(&mut events).unwrap();
    ///     assert!(client.received() == b"hello" && client.saw_eof());
    ///     assert_eq!(simulation.receive_datagram(peer), Some((address, b"hello".to_vec())));
    /// });
    /// ```
    pub const SOFT: [Self; 6] = [
        Self::Accept,
        Self::Poll,
        Self::Interrupt,
        Self::ReceiveDatagram,
        Self::LateReadiness,
        Self::SpuriousReadiness,
    ];

    /// Faults that end a connection, by an error or a timeout, or that lose, duplicate or reorder a datagram. A test
    /// calls [`Client::was_hit_by_fault`](crate::testing::Client::was_hit_by_fault) before it expects anything of a
    /// client.
    ///
    /// ```
    /// use halloo::testing::Fault;
    ///
    /// assert!(Fault::HARD.contains(&Fault::Send) && !Fault::SOFT.contains(&Fault::Send));
    /// ```
    pub const HARD: [Self; 11] = [
        Self::Connect,
        Self::Register,
        Self::Receive,
        Self::Send,
        Self::Shutdown,
        Self::SendDatagram,
        Self::LostDatagram,
        Self::DuplicateDatagram,
        Self::ReorderedDatagram,
        Self::Clock,
        Self::Pause,
    ];

    /// The errors of the call, from its manual page.
    fn errors(self) -> &'static [Errno] {
        match self {
            Self::Accept => &ACCEPT,
            Self::Connect => &CONNECT,
            Self::Register => &[Errno::ENOMEM, Errno::ENOSPC],
            Self::Receive => &RECEIVE,
            Self::Send => &SEND,
            Self::Shutdown => &[Errno::ENOTCONN],
            Self::Poll | Self::Interrupt => &[Errno::EINTR],
            Self::ReceiveDatagram => &RECEIVE_DATAGRAM,
            Self::SendDatagram => &SEND_DATAGRAM,
            // No call fails.
            _ => &[],
        }
    }

    /// Whether the manual page of the call lists EINTR, so that the loop must repeat the call.
    fn is_interruptible(self) -> bool {
        matches!(self, Self::Accept | Self::Receive | Self::Send | Self::ReceiveDatagram | Self::SendDatagram)
    }
}

const ACCEPT: [Errno; 14] = [
    Errno::EMFILE,
    Errno::ENFILE,
    Errno::ENOBUFS,
    Errno::ENOMEM,
    Errno::EINTR,
    Errno::ECONNABORTED,
    Errno::EPROTO,
    Errno::EPERM,
    Errno::ENETDOWN,
    Errno::EHOSTUNREACH,
    Errno::EOPNOTSUPP,
    Errno::ENOPROTOOPT,
    Errno::ENONET,
    Errno::ETIMEDOUT,
];

const CONNECT: [Errno; 10] = [
    Errno::EAGAIN,
    Errno::EMFILE,
    Errno::ENOBUFS,
    Errno::EPERM,
    Errno::EACCES,
    Errno::EADDRNOTAVAIL,
    Errno::ECONNREFUSED,
    Errno::EHOSTUNREACH,
    Errno::ENETUNREACH,
    Errno::ETIMEDOUT,
];

const RECEIVE: [Errno; 9] = [
    Errno::EINTR,
    Errno::ECONNRESET,
    Errno::ETIMEDOUT,
    Errno::EHOSTUNREACH,
    Errno::ENETUNREACH,
    Errno::ENOBUFS,
    Errno::ENOMEM,
    Errno::ENOTCONN,
    Errno::EIO,
];

const SEND: [Errno; 9] = [
    Errno::EINTR,
    Errno::EPIPE,
    Errno::ECONNRESET,
    Errno::ENOBUFS,
    Errno::ENOMEM,
    Errno::EHOSTUNREACH,
    Errno::ETIMEDOUT,
    Errno::ENETDOWN,
    Errno::EPERM,
];

const RECEIVE_DATAGRAM: [Errno; 13] = [
    Errno::EINTR,
    Errno::ECONNREFUSED,
    Errno::ECONNRESET,
    Errno::EHOSTUNREACH,
    Errno::ENETUNREACH,
    Errno::ENETDOWN,
    Errno::ENOPROTOOPT,
    Errno::EPROTO,
    Errno::EMSGSIZE,
    Errno::EPERM,
    Errno::ENOMEM,
    Errno::ENOBUFS,
    Errno::EIO,
];

const SEND_DATAGRAM: [Errno; 13] = [
    Errno::EINTR,
    Errno::EAGAIN,
    Errno::ENOBUFS,
    Errno::ENOMEM,
    Errno::EPERM,
    Errno::EACCES,
    Errno::EINVAL,
    Errno::EMSGSIZE,
    Errno::ECONNREFUSED,
    Errno::ENETUNREACH,
    Errno::EHOSTUNREACH,
    Errno::ENETDOWN,
    Errno::EADDRNOTAVAIL,
];

/// One in this many errors is the first of a series.
const SERIES_ONE_IN: u64 = 6;

/// The longest series: long enough for several pauses, and shorter than the idle timeout.
const SERIES_MAX: u64 = 25;

/// Random numbers from a seed (`SplitMix64`, Steele, Lea and Flood, 2014).
#[derive(Clone, Debug, Default)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; zero for a bound of zero.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next() % bound }
    }

    pub(crate) fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }

    /// A number between 1 and `most`, small ones more often.
    #[expect(clippy::cast_possible_truncation, reason = "it is no greater than `most`")]
    pub(crate) fn length(&mut self, most: usize) -> usize {
        let scale = self.below(u64::from(usize::BITS - most.leading_zeros()) + 1);
        (1 + self.below(1 << scale) as usize).min(most.max(1))
    }
}

/// The faults of a network, and the series in progress.
#[derive(Default)]
pub(crate) struct Faults {
    /// By fault: one in this many calls fails; zero for none.
    one_in: [u64; Fault::ALL.len()],
    /// By fault: an error, and the number of further calls that it fails.
    series: [Option<(i32, u64)>; Fault::ALL.len()],
    /// The last call was interrupted, so the next is not.
    has_interrupted: bool,
}

impl Faults {
    pub(crate) fn set(&mut self, fault: Fault, one_in: u64) {
        self.one_in[fault as usize] = one_in;
    }

    /// Makes the next calls fail with an error.
    pub(crate) fn begin_series(&mut self, fault: Fault, errno: i32, calls: u64) {
        self.series[fault as usize] = (calls > 0).then_some((errno, calls));
    }

    #[cfg(test)]
    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.one_in[fault as usize] > 0
    }

    /// Whether a fault occurs every time, until it is cleared.
    pub(crate) fn is_constant(&self, fault: Fault) -> bool {
        self.one_in[fault as usize] == 1
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether the fault occurs now.
    pub(crate) fn occurs(&mut self, fault: Fault, random: &mut Random) -> bool {
        let one_in = self.one_in[fault as usize];
        one_in > 0 && random.one_in(one_in)
    }

    /// The error of a call, if a fault hits it.
    pub(crate) fn next_error(&mut self, fault: Fault, random: &mut Random) -> Option<io::Error> {
        if let Some((errno, left)) = self.series[fault as usize] {
            self.begin_series(fault, errno, left - 1);
            return Some(io::Error::from_raw_os_error(errno));
        }
        if fault.is_interruptible() {
            self.has_interrupted = !self.has_interrupted && self.occurs(Fault::Interrupt, random);
            if self.has_interrupted {
                return Some(Errno::EINTR.into());
            }
        }
        let errors = fault.errors();
        if !self.occurs(fault, random) {
            return None;
        }
        let errno = errors[usize::try_from(random.below(errors.len() as u64)).unwrap_or(0)] as i32;
        if random.one_in(SERIES_ONE_IN) {
            let calls = random.below(SERIES_MAX);
            self.begin_series(fault, errno, calls);
        }
        Some(io::Error::from_raw_os_error(errno))
    }
}
