//! Only a header that the specification allows reaches a handler.
//!
//! `HALLOO_HEADERS` is the number of headers, and `HALLOO_HEADER_SEED` the first seed.

use std::cell::RefCell;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use halloo::{CloseReason, Connection, EventLoop, HandlerId, StreamHandler, Turn};

use super::header_generator::{self, Random};
use super::header_oracle::{Accepted, recognize};
use crate::cli::flags::serve_options::Mode;
use crate::cli::trusted_source::TrustedSource;
use crate::greeting::greeter::Greeter;
use crate::greeting::worker_counters::HeaderError;
use crate::proxy::header_policy::HeaderPolicy;
use crate::proxy::proxied_streams::ProxiedStreams;

/// The headers of one run, unless the environment sets another number.
const HEADERS: u64 = 100_000;

/// What a handler has seen of one connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    /// The address of the client at each opening.
    opened: Vec<Option<SocketAddr>>,
    input: Vec<u8>,
    has_eof: bool,
    is_closed: bool,
}

/// Records what it is called with.
struct Witness(Rc<RefCell<Seen>>);

impl StreamHandler for Witness {
    type Session = ();

    fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<()> {
        self.0.borrow_mut().opened.push(connection.peer_addr());
        Some(())
    }

    fn on_data(&mut self, _: &mut Connection<'_>, (): &mut (), input: &[u8]) -> usize {
        assert!(!input.is_empty(), "called without input");
        self.0.borrow_mut().input.extend_from_slice(input);
        input.len()
    }

    fn on_eof(&mut self, connection: &mut Connection<'_>, (): &mut (), rest: &[u8]) {
        assert!(rest.is_empty());
        self.0.borrow_mut().has_eof = true;
        connection.close();
    }

    fn on_close(&mut self, _: &mut Connection<'_>, (): (), _: CloseReason) {
        self.0.borrow_mut().is_closed = true;
    }
}

/// Sends the input in pieces and EOF; the handler has seen all of it when this returns.
fn serve(event_loop: &mut EventLoop<'_>, handler: HandlerId, pieces: &[&[u8]]) {
    let closed_before = event_loop.stats().closed_total();
    let (mut client, stream) = UnixStream::pair().unwrap();
    event_loop.context().connect(stream, handler);
    for piece in pieces {
        // A refused client finds the connection closed.
        let _ = client.write_all(piece);
        if pieces.len() > 1 {
            let _ = event_loop.turn(Some(Duration::ZERO)).unwrap();
        }
    }
    drop(client);
    while event_loop.stats().closed_total() == closed_before {
        assert_eq!(event_loop.turn(Some(Duration::from_secs(20))).unwrap(), Turn::Progress, "the connection stays");
    }
}

/// A random number of pieces: mostly one, sometimes single bytes.
fn cut<'a>(random: &mut Random, input: &'a [u8]) -> Vec<&'a [u8]> {
    match random.below(16) {
        0..10 => vec![input],
        10..15 => {
            let (head, tail) = input.split_at(random.below(input.len() + 1));
            let (middle, tail) = tail.split_at(random.below(tail.len() + 1));
            vec![head, middle, tail]
        }
        _ => input.chunks(1 + random.below(3)).collect(),
    }
}

/// Runs that many headers from one seed, and returns how many were accepted.
fn run(seed: u64, headers: u64, trusted: &[TrustedSource], expected: fn(&[u8]) -> Seen) -> u64 {
    let (greeter, witnessed) = (Greeter::for_test(Mode::Greet, None, None), Rc::<RefCell<Seen>>::default());
    let mut event_loop = EventLoop::new().unwrap();
    let policy = Rc::new(HeaderPolicy::new(trusted.to_vec(), &greeter));
    let handler = event_loop.attach(ProxiedStreams::new(Witness(Rc::clone(&witnessed)), policy));
    let mut accepted = 0;
    for number in 0..headers {
        let mut random = Random::new(seed.wrapping_add(number).wrapping_mul(0x2545_f491_4f6c_dd1d));
        let input = header_generator::input(&mut random);
        let expected = expected(&input);
        let is_refused = !expected.is_closed && !input.is_empty();
        accepted += u64::from(expected.is_closed);
        let pieces = cut(&mut random, &input);
        let refused_before = refused(&greeter);
        serve(&mut event_loop, handler, &pieces);
        let context = || format!("seed {}: {} in {} pieces", seed + number, input.escape_ascii(), pieces.len());
        assert_eq!(witnessed.take(), expected, "{}", context());
        assert_eq!(refused(&greeter) - refused_before, u64::from(is_refused), "{}", context());
    }
    accepted
}

/// The connections refused for their headers.
fn refused(greeter: &RefCell<Greeter>) -> u64 {
    let greeter = greeter.borrow();
    HeaderError::ALL.into_iter().map(|error| greeter.counters().header_errors(error).get()).sum()
}

/// What the handler sees of a trusted client, by the specification.
fn seen_of_trusted(input: &[u8]) -> Seen {
    recognize(input).map_or_else(Seen::default, |Accepted { client, length }| Seen {
        opened: vec![client],
        input: input[length..].to_vec(),
        has_eof: true,
        is_closed: true,
    })
}

fn number_from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

#[test]
fn proxy_headers_reach_a_handler_exactly_if_the_specification_allows_them() {
    let (headers, seed) = (number_from_env("HALLOO_HEADERS", HEADERS), number_from_env("HALLOO_HEADER_SEED", 0));
    let threads = thread::available_parallelism().map_or(1, |threads| threads.get() as u64).min(headers);
    let accepted: u64 = thread::scope(|scope| {
        let spawn = |index: u64| {
            let (start, end) = (headers * index / threads, headers * (index + 1) / threads);
            scope.spawn(move || run(seed + start, end - start, &[TrustedSource::Unix], seen_of_trusted))
        };
        let running: Vec<_> = (0..threads).map(spawn).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    println!("{headers} headers: {accepted} accepted, {} refused", headers - accepted);
    assert!(accepted > headers / 5 && headers - accepted > headers / 5, "{accepted} of {headers} are accepted");
}
