//! Every limit of the loop: its number, its unit, its reason.
//!
//! Nothing in the loop grows without one of these. A limit with a setter on [`Listen`](crate::Listen),
//! [`Bind`](crate::Bind) or [`Connect`](crate::Connect) has its default here.

use std::time::Duration;

// ---- what an embedder may change ------------------------------------------------------------------------------------

/// A client that neither sends nor takes anything for this long is closed. A minute is what a person at a keyboard
/// needs, and long enough for every automatic client.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// A client that takes none of the bytes waiting for it for this long is closed. TCP retransmits about seven times in
/// half a minute (RFC 6298 back-off), so a peer that is merely far away is not cut.
pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// An outbound connection that nobody has answered for this long has failed. Linux sends its SYN again after 1, 3 and 7
/// seconds: three lost ones are forgiven.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Unconsumed input kept for one connection. It is also the most that one read asks for.
pub(crate) const INPUT_BYTES_MAX: usize = 64 * 1024;

/// Output kept for one connection until the kernel takes it. Measured: four clients that send an echo server 10 MiB
/// each and never read cost it 320 KiB of memory, and then nothing (the faults test `memory_per_client.rs`).
pub(crate) const OUTBOX_BYTES_MAX: usize = 64 * 1024;

/// Inboxes and outboxes of all connections of a loop together, as allocated. With the usual limits, some 1,800
/// connections can be stuck at their worst in it, or 65,000 with a full share; a machine with 1 GiB has room for it.
pub(crate) const BUFFER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// The least that an embedder may set for it: room for some full inboxes and outboxes.
pub(crate) const BUFFER_BYTES_MIN: usize = 1024 * 1024;

/// Connections the kernel completes and keeps while the loop is busy. Linux cuts it to `net.core.somaxconn` (4096);
/// with the usual 128, a burst of 300 connects leaves some waiting a second for a retransmitted SYN.
pub(crate) const BACKLOG: u32 = 4096;

/// Tries of a listener at a port where several listen at the same moment. Two refuse each other only within the few
/// instructions of listen(2) between its mark and its check (`inet_csk_listen_start`).
pub(crate) const LISTEN_TRIES_MAX: u32 = 16;

/// Descriptors left for everything that is not a client: listeners, the poll, log files, what the program opens.
const DESCRIPTORS_RESERVED: u64 = 64;

/// Descriptors left for each further loop of the process: the poll, its wake, and six listeners and UDP sockets.
const DESCRIPTORS_RESERVED_PER_LOOP: u64 = 8;

/// The connections that each of so many loops may have at once, so that all of them fit the descriptor limit of the
/// process.
///
/// With one loop it is the default of [`Listen::connections_max`](crate::Listen::connections_max). It is at least 1.
///
/// ```
/// use halloo::{Listen, connections_max_per_loop};
///
/// // A listener of a process that has four loops.
/// let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
/// let at = Listen::from(address).connections_max(connections_max_per_loop(4));
/// # drop(at);
/// assert!(connections_max_per_loop(4) <= connections_max_per_loop(1));
/// ```
#[must_use]
pub fn connections_max_per_loop(loops: usize) -> usize {
    connections_within(descriptor_limit(), loops)
}

fn connections_within(descriptors: u64, loops: usize) -> usize {
    let loops = (loops as u64).max(1);
    let reserved = DESCRIPTORS_RESERVED + DESCRIPTORS_RESERVED_PER_LOOP.saturating_mul(loops - 1);
    // A limit too small for the reserve is shared by halves; accept copes with what is missing.
    let connections = descriptors.saturating_sub(reserved).max(descriptors / 2) / loops;
    usize::try_from(connections).unwrap_or(usize::MAX).max(1)
}

#[cfg(target_os = "linux")]
fn descriptor_limit() -> u64 {
    use nix::sys::resource::{Resource, getrlimit};
    getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft)
}

/// The usual limit, where the system does not tell one.
#[cfg(not(target_os = "linux"))]
fn descriptor_limit() -> u64 {
    1024
}

/// The largest kernel buffer that can be asked for (`SO_RCVBUF`, `SO_SNDBUF`): the size is passed as a C `int`.
pub(crate) const KERNEL_BUFFER_BYTES_MAX: usize = i32::MAX as usize;

/// The longest times of a TCP keepalive and the most probes, as Linux takes them (`MAX_TCP_KEEPIDLE`,
/// `MAX_TCP_KEEPINTVL`, `MAX_TCP_KEEPCNT`).
pub(crate) const KEEPALIVE_SECONDS_MAX: u64 = 32_767;
pub(crate) const KEEPALIVE_PROBES_MAX: u32 = 127;

/// The longest `TCP_USER_TIMEOUT`: it is passed as a C `int` of milliseconds.
pub(crate) const USER_TIMEOUT_MILLISECONDS_MAX: u128 = i32::MAX as u128;

/// Room for one datagram: the largest length a UDP header can state.
pub(crate) const DATAGRAM_BYTES_MAX: usize = 65_535;

/// The longest payload of one datagram: 65,535 bytes less the UDP header and, over IPv4, the IP header, which is part of
/// that length (RFC 768, RFC 791, RFC 8200). Jumbograms are not sent.
pub(crate) const IPV4_PAYLOAD_BYTES_MAX: usize = DATAGRAM_BYTES_MAX - 8 - 20;
pub(crate) const IPV6_PAYLOAD_BYTES_MAX: usize = DATAGRAM_BYTES_MAX - 8;

// ---- work in one turn -----------------------------------------------------------------------------------------------

/// Clients accepted from one listener in a turn.
pub(crate) const ACCEPTS_PER_TURN_MAX: u32 = 128;

/// Datagrams taken from one socket in a turn.
pub(crate) const DATAGRAMS_PER_TURN_MAX: u32 = 128;

/// Datagrams received by one call, and sent by one. Measured: with 16, 64 or 128 a datagram costs the same within what
/// can be told apart, two per cent.
#[cfg(target_os = "linux")]
pub(crate) const DATAGRAMS_PER_CALL_MAX: usize = 64;

/// Replies to one peer merged into one message, and their bytes together: what Linux cuts up again (`UDP_MAX_SEGMENTS`
/// of its first versions).
#[cfg(any(test, target_os = "linux"))]
pub(crate) const MERGED_DATAGRAMS_MAX: usize = 64;
#[cfg(any(test, target_os = "linux"))]
pub(crate) const MERGED_BYTES_MAX: usize = IPV4_PAYLOAD_BYTES_MAX;

/// Bytes read and sent for one connection in a turn. As much as one read can bring, so that a single busy client
/// costs the others one read's time.
pub(crate) const BYTES_PER_TURN_MAX: u32 = 64 * 1024;

/// Deadlines that are acted on in a turn, and jobs and notes that are done in one; the rest is the next turn's.
pub(crate) const DEADLINES_PER_TURN_MAX: usize = 1024;
pub(crate) const MESSAGES_PER_TURN_MAX: usize = 1024;

/// How long after its deadline a connection is still served what arrived before, in turns: a receive buffer of 8 MiB at
/// 64 KiB a turn, where Linux lets one grow to 6 MiB (`net.ipv4.tcp_rmem`). A client that never stops sending is
/// timed out then.
pub(crate) const LATE_TURNS_MAX: u8 = 128;

/// Progress is noted with the time at which its turn began. Turns up to this long are not looked at again; instead,
/// idle and write timeouts and the linger run this much longer. After a longer turn, what moved in it is brought to its
/// end: a look at every connection, at most a hundred times a second.
pub(crate) const TURN_TIME_UNCOUNTED: Duration = Duration::from_millis(10);

/// Outbound connections begun in a turn; each takes a few system calls.
pub(crate) const CONNECTS_PER_TURN_MAX: usize = 128;

/// Events asked of the poll at once: 1,024 of them fill 12 KiB, which stays in a processor's first cache.
pub(crate) const EVENTS_PER_POLL_MAX: usize = 1024;

/// Polls at the start of a turn while each comes back full.
pub(crate) const POLLS_PER_TURN_MAX: u32 = 16;

/// How old the knowledge may be of whether an address is this host's, or a broadcast address, and of how many addresses
/// it is kept. The first is asked only of a peer that uses the port of a socket bound to every address, the second only
/// where a socket may broadcast; to find out either takes three system calls.
pub(crate) const HOST_IPS_AGE_MAX: Duration = Duration::from_secs(1);
pub(crate) const HOST_IPS_MAX: usize = 1024;

// ---- errors ---------------------------------------------------------------------------------------------------------

/// Errors in a row after which a source pauses, whatever they are: trying on at once would only spin.
pub(crate) const ERRORS_IN_A_ROW_MAX: u32 = 16;

/// First pause of a source whose call failed for want of a resource.
pub(crate) const BACKOFF_MIN: Duration = Duration::from_millis(10);

/// Longest such pause: the doubling ends here, so a client never waits longer than this once there is room again.
pub(crate) const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Shortest time between two log lines about the same trouble of the same source. Measured: trouble that lasts 1.4 s,
/// or clients that cannot be watched, or a flood of 50,000 forged datagrams a second, make two lines or none
/// (`persistent_errors.rs` and `udp_floods.rs` in `server/tests/faults/`).
pub(crate) const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// How long a listener at a unix path waits for the lock on its folder. Servers hold it for a handful of system calls;
/// a process that holds it longer is stopped, or means harm.
#[cfg(unix)]
pub(crate) const FOLDER_LOCK_WAIT: Duration = Duration::from_millis(500);

// ---- closing --------------------------------------------------------------------------------------------------------

/// How long a closed connection is still read, so that late input does not turn our end of stream into a reset.
/// Two round trips to the other side of the world, with a retransmission.
pub(crate) const LINGER: Duration = Duration::from_secs(2);

/// How much of such late input is read and thrown away before the connection is cut. Measured: a client that never
/// stops sending after its greeting gets rid of 8 to 9 MiB, most of it into the kernel's queues
/// (`memory_per_client.rs`, too).
pub(crate) const LINGER_BYTES_MAX: u32 = 4 * 1024 * 1024;

/// A read of at least this many bytes may be part of something longer still under way, even when it emptied the
/// receive queue; a close after it lingers. A segment carries at least 1,220 bytes of it over IPv6 (RFC 8200
/// section 5 less headers), so what is shorter than this came as a message of its own.
pub(crate) const WHOLE_MESSAGE_BYTES_MAX: usize = 1024;

/// Connections accepted, and datagrams read, from one source once a drain has begun: a full backlog, and no more,
/// so that a flood cannot hold the drain up.
pub(crate) const DRAIN_BACKLOG_MAX: u32 = 4096;

// ---- memory ---------------------------------------------------------------------------------------------------------

/// Room that each table of connections begins with. It is address space, not memory: a page counts once it is touched.
/// From about this size on, allocators map a table for itself and let it grow where it lies or by moving pages, so that
/// a growing crowd is never copied and leaves no holes behind.
pub(crate) const TABLE_BYTES_RESERVED: usize = 256 * 1024;

/// Stream handlers for whose entries a loop keeps room when many have been dropped.
pub(crate) const HANDLERS_KEPT: usize = 1024;

/// Boxes of buffers the loop keeps for reuse. A connection holds one only while it holds bytes, so this many
/// connections can be in the middle of something without an allocation.
pub(crate) const POOLED_BUFFERS_MAX: usize = 32;

/// Of those, the ones that keep up to 64 KiB in each direction, for bulk; the others keep a share.
pub(crate) const POOLED_BULK_BUFFERS_MAX: usize = 8;

/// Jobs, notes and timers at once after which a loop looks for memory to give back, and for which its tables keep room.
pub(crate) const BURST_MIN: usize = 1024;

/// A block whose release has an allocator give back memory: more than glibc's `FASTBIN_CONSOLIDATION_THRESHOLD` of 64 KiB,
/// and less than the 128 KiB from which on it maps a block by itself.
pub(crate) const RELEASING_BLOCK_BYTES: usize = 100 * 1024;

/// What each inbox and each outbox may hold whatever others hold: a page, which takes a request of the usual size.
pub(crate) const BUFFER_BYTES_SHARE: usize = 4 * 1024;

/// How long buffers may be near their maximum before connections are reset: longer than a burst lasts, shorter than
/// a client waits.
pub(crate) const STRAIN_MAX: Duration = Duration::from_secs(1);

/// Time between two looks at buffers that are near their maximum; each may reset one connection.
pub(crate) const STRAIN_INTERVAL: Duration = Duration::from_millis(10);

/// Room for datagrams received by one call, in each loop, whatever number of sockets it has: 64 of up to 32 KiB, or 32
/// of the longest there can be. It is address space; memory becomes of it as far as datagrams have been long.
pub(crate) const RECV_BATCH_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Bytes of queued UDP replies after which the loop sends them before the turn's end.
pub(crate) const SEND_QUEUE_BYTES_SOFT_MAX: usize = 256 * 1024;

/// Bytes of queued UDP replies past which a handler's `reply` is refused: a handler that answers one datagram
/// with a thousand meets it, one that answers each with one never does.
pub(crate) const SEND_QUEUE_BYTES_MAX: usize = 1024 * 1024;

/// Queued UDP replies past which a handler's `reply` is refused.
pub(crate) const SEND_QUEUE_DATAGRAMS_MAX: usize = 1024;

/// Buckets of the table that bounds UDP replies per source: 128 KiB a socket, whatever is forged at it. Sources that
/// fall into one bucket share its rate; among 1,000 honest sources one in sixteen has a neighbour. In total, a socket
/// answers at most as many a second as all buckets hold. Measured at 100 a second for each: one source that floods for
/// two seconds gets 299 answers of 115,000; a million forged sources leave the table as it is, and 100,000 datagrams
/// from as many cost 24 KiB (`server/tests/faults/udp/udp_floods.rs`, the tests of `source_address_limits.rs`).
pub(crate) const RATE_BUCKETS: usize = 16 * 1024;

// ---- how they hang together -----------------------------------------------------------------------------------------

const _: () = assert!(BYTES_PER_TURN_MAX as usize >= INPUT_BYTES_MAX, "one read must fit the budget of a turn");
const _: () =
    assert!(SEND_QUEUE_BYTES_SOFT_MAX + DATAGRAM_BYTES_MAX < SEND_QUEUE_BYTES_MAX, "an answer to each must fit");
const _: () = assert!(DATAGRAMS_PER_TURN_MAX as usize <= SEND_QUEUE_DATAGRAMS_MAX, "an answer to each must fit");
const _: () =
    assert!(RECV_BATCH_BYTES_MAX > DATAGRAM_BYTES_MAX, "the longest must fit, and the byte that tells a cut one");
const _: () = assert!(RATE_BUCKETS.is_power_of_two(), "a bucket is found with a mask");
const _: () = assert!(WHOLE_MESSAGE_BYTES_MAX < INPUT_BYTES_MAX, "else no read would tell");

#[cfg(test)]
mod tests {
    use super::connections_within;

    #[test]
    fn the_connections_and_other_descriptors_of_all_loops_fit_the_limit() {
        assert_eq!([1024, 128, 100, 10, 0].map(|limit| connections_within(limit, 1)), [960, 64, 50, 5, 1]);
        assert_eq!([1024, 100, 10].map(|limit| connections_within(limit, 4)), [234, 12, 1]);
        for loops in 1..=100 {
            let descriptors_per_loop = connections_within(4096, loops) + 8;
            assert!(descriptors_per_loop * loops <= 4096, "{loops} loops");
        }
        assert_eq!(connections_within(1024, 0), 960);
    }
}
