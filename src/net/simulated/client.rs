//! A simulated client: what it sends, reads and sees.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use crate::net::simulated::sim_socket::{Segment, SimStream};
use crate::net::simulated::world::World;

/// The longest segment of a client's bytes, as over Ethernet, and the shortest.
const SEGMENT_BYTES_MAX: u64 = 64 * 1024;
const SEGMENT_BYTES_MIN: u64 = 1_220;

/// A simulated TCP client.
///
/// ```
/// # use halloo::{stream, testing::Simulation};
/// # let address = std::net::SocketAddr::from(([10, 0, 0, 1], 7));
/// # let simulation = Simulation::new(1);
/// # let mut events = simulation.event_loop();
/// # events.listen(address, stream(|_, input| input.len()))?;
/// let client = simulation.connect(address).expect("the server listens");
/// client.send(b"goodbye");
/// client.shutdown_write();
/// simulation.run_until_idle(&mut events)?;
/// assert!(client.saw_eof() && client.received().is_empty());
/// # Ok::<(), halloo::Error>(())
/// ```
pub struct Client {
    world: Rc<RefCell<World>>,
    socket: usize,
}

impl Client {
    pub(crate) fn new(world: &Rc<RefCell<World>>, socket: usize) -> Self {
        Self { world: Rc::clone(world), socket }
    }

    fn with_stream<T>(&self, what: impl FnOnce(&mut SimStream) -> T) -> T {
        what(self.world.borrow_mut().stream(self.socket))
    }

    /// Sends bytes; a short message arrives whole, a long one in segments.
    pub fn send(&self, bytes: &[u8]) {
        let mut world = self.world.borrow_mut();
        let mut rest = bytes;
        while !rest.is_empty() {
            let drawn = SEGMENT_BYTES_MIN + world.random.below(SEGMENT_BYTES_MAX - SEGMENT_BYTES_MIN);
            let length = usize::try_from(drawn).unwrap_or(rest.len()).min(rest.len());
            world.send(self.socket, Segment::Bytes(rest[..length].to_vec()));
            rest = &rest[length..];
        }
    }

    /// Sends an urgent byte, which ends a read and is not part of the stream.
    pub fn send_urgent(&self) {
        self.world.borrow_mut().send(self.socket, Segment::Urgent);
    }

    /// Sends a FIN; the client can still read.
    pub fn shutdown_write(&self) {
        self.world.borrow_mut().send(self.socket, Segment::Fin);
    }

    /// Resets the connection.
    pub fn reset(&self) {
        self.world.borrow_mut().send(self.socket, Segment::Reset);
    }

    /// Sets how many bytes the client's kernel accepts beyond what the client has [read](Self::read). Default: no
    /// limit, as for a client that always reads.
    pub fn set_window(&self, bytes: usize) {
        self.with_stream(|stream| stream.client.window = bytes);
    }

    /// Sets how many bytes the loop's kernel accepts that have not reached the client.
    #[cfg(test)]
    pub(crate) fn set_send_buffer_bytes_max(&self, bytes: usize) {
        self.with_stream(|stream| stream.send_buffer_bytes_max = bytes);
    }

    /// Reads all bytes that have arrived since the last read.
    #[must_use]
    pub fn read(&self) -> Vec<u8> {
        self.with_stream(|stream| {
            let unread = stream.client.received[stream.client.read..].to_vec();
            stream.client.read = stream.client.received.len();
            unread
        })
    }

    /// Returns all bytes that have arrived since the start, without a read.
    #[must_use]
    pub fn received(&self) -> Vec<u8> {
        self.with_stream(|stream| stream.client.received.clone())
    }

    /// Returns whether the server's EOF has arrived.
    #[must_use]
    pub fn saw_eof(&self) -> bool {
        self.with_stream(|stream| stream.client.saw_eof)
    }

    /// Returns whether the server has reset the connection.
    #[must_use]
    pub fn saw_reset(&self) -> bool {
        self.with_stream(|stream| stream.client.saw_reset)
    }

    /// Returns whether an injected error has hit a call for this client. What it sees then is no fault of the server.
    #[must_use]
    pub fn was_hit_by_fault(&self) -> bool {
        self.with_stream(|stream| stream.client.hit_by_fault)
    }

    /// Whether the FIN of the loop could not be sent.
    #[cfg(test)]
    pub(crate) fn missed_eof(&self) -> bool {
        self.world.borrow().failed_shutdowns.contains(&self.socket)
    }

    /// How many of its bytes had arrived when the loop sent its FIN; `None` without a FIN.
    #[cfg(test)]
    pub(crate) fn bytes_before_fin(&self) -> Option<usize> {
        self.with_stream(|stream| stream.bytes_before_fin)
    }

    /// Returns its address, as it is known to the handler and in the [trace](crate::testing::Simulation::trace). For
    /// the peer of an outbound connection it is the address to which the loop connected.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.with_stream(|stream| stream.peer)
    }

    /// The number of its socket.
    #[cfg(test)]
    pub(crate) fn socket(&self) -> usize {
        self.socket
    }

    /// The address on the loop's side.
    #[cfg(test)]
    pub(crate) fn loop_address(&self) -> SocketAddr {
        self.world.borrow().sockets[self.socket].local
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("address", &self.address()).finish_non_exhaustive()
    }
}
