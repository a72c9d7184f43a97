//! Every limit of the loop: its number, its unit, its reason.
//!
//! Nothing in the loop grows without a limit in this file. Limits with a setter on [`Listen`](crate::Listen),
//! [`Bind`](crate::Bind) or [`Connect`](crate::Connect) have their defaults here.

use std::time::Duration;

// ---- defaults of options --------------------------------------------------------------------------------------------

/// A connection without input and output for this long is closed. A minute is enough for a person at a keyboard, and
/// for every automatic client.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// A connection whose peer accepts none of the waiting output for this long is closed. TCP retransmits about seven
/// times in half a minute (RFC 6298 back-off), so a peer that is only far away stays connected.
pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// A connect without an answer for this long fails. Linux retransmits a SYN after 1, 3 and 7 seconds, so three SYNs may
/// be lost.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Unconsumed input kept for one connection. A frame that must come whole may be longer: an embedder sets a larger
/// value, of at most 4 GiB, because decoders count in 32 bits. The inbox grows only as far as input arrives.
pub(crate) const INPUT_BYTES_MAX: usize = 128 * 1024;

/// Output kept for one connection until the kernel accepts it. Measured: four clients that send an echo server 10 MiB
/// each and never read cost 604 KiB of memory, and no more later (the faults test `memory_per_client.rs`).
pub(crate) const OUTBOX_BYTES_MAX: usize = 128 * 1024;

/// All inboxes and outboxes of a loop together, as allocated. With the default limits, it has room for about 900
/// connections with full buffers, or for 65,000 with a full share each. A machine with 1 GiB has room for it.
pub(crate) const BUFFER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// The minimum that an embedder may set for it: room for some full inboxes and outboxes.
pub(crate) const BUFFER_BYTES_MIN: usize = 1024 * 1024;

/// Connections that the kernel completes and keeps while the loop is busy. Linux limits it to `net.core.somaxconn`
/// (4096). With the common 128, a burst of 300 connects makes some wait a second for a retransmitted SYN.
pub(crate) const BACKLOG: u32 = 4096;

/// Attempts of a listener when several sockets listen on one port at the same moment. Two sockets refuse each other
/// only within a few instructions of listen(2), between its mark and its check (`inet_csk_listen_start`).
pub(crate) const LISTEN_TRIES_MAX: u32 = 16;

/// Descriptors kept for everything but clients: listeners, the poll, log files, files that the program opens.
const DESCRIPTORS_RESERVED: u64 = 64;

/// Descriptors kept for each further loop of the process: the poll, its waker, and six listeners and UDP sockets.
const DESCRIPTORS_RESERVED_PER_LOOP: u64 = 8;

/// Entries of the journal in one turn. A turn with a full batch of events has about half as many. They take 2.5 MiB, and
/// only while everything is noted.
pub(crate) const JOURNAL_ENTRIES_PER_TURN_MAX: usize = 64 * 1024;

/// Returns how many connections each of `loops` loops may have, within the process's descriptor limit.
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
    // A limit smaller than the reserve is divided in half; accept retries when descriptors run out.
    let connections = descriptors.saturating_sub(reserved).max(descriptors / 2) / loops;
    usize::try_from(connections).unwrap_or(usize::MAX).max(1)
}

#[cfg(target_os = "linux")]
fn descriptor_limit() -> u64 {
    use nix::sys::resource::{Resource, getrlimit};
    getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft)
}

/// The usual limit, on systems where the limit is not read.
#[cfg(not(target_os = "linux"))]
fn descriptor_limit() -> u64 {
    1024
}

/// The largest kernel buffer (`SO_RCVBUF`, `SO_SNDBUF`): the size is passed as a C `int`.
pub(crate) const KERNEL_BUFFER_BYTES_MAX: usize = i32::MAX as usize;

/// The longest times and the most probes of a TCP keepalive that Linux accepts (`MAX_TCP_KEEPIDLE`,
/// `MAX_TCP_KEEPINTVL`, `MAX_TCP_KEEPCNT`).
pub(crate) const KEEPALIVE_SECONDS_MAX: u64 = 32_767;
pub(crate) const KEEPALIVE_PROBES_MAX: u32 = 127;

/// The longest `TCP_USER_TIMEOUT`: it is passed as a C `int` of milliseconds.
pub(crate) const USER_TIMEOUT_MILLISECONDS_MAX: u128 = i32::MAX as u128;

/// The longest datagram: the largest length that a UDP header can contain.
pub(crate) const DATAGRAM_BYTES_MAX: usize = 65_535;

/// The longest payload of a datagram: 65,535 bytes less the UDP header. Over IPv4 the IP header also counts (RFC 768,
/// RFC 791, RFC 8200). Jumbograms are not sent.
pub(crate) const IPV4_PAYLOAD_BYTES_MAX: usize = DATAGRAM_BYTES_MAX - 8 - 20;
pub(crate) const IPV6_PAYLOAD_BYTES_MAX: usize = DATAGRAM_BYTES_MAX - 8;

// ---- work in one turn -----------------------------------------------------------------------------------------------

/// Clients accepted from one listener in a turn.
pub(crate) const ACCEPTS_PER_TURN_MAX: u32 = 128;

/// Datagrams received from one socket in a turn.
pub(crate) const DATAGRAMS_PER_TURN_MAX: u32 = 128;

/// Datagrams received or sent by one call. Measured: with 16, 64 or 128 a datagram costs the same, within an
/// uncertainty of two per cent.
#[cfg(target_os = "linux")]
pub(crate) const DATAGRAMS_PER_CALL_MAX: usize = 64;

/// Calls that receive many datagrams before the kernel is asked to merge those of one sender (`UDP_GRO`), and calls
/// without merged ones after which that ends, if the queue is empty then. The second is odd, because the calls of a
/// budget of datagrams are two or four: each of them is tried.
#[cfg(target_os = "linux")]
pub(crate) const GRO_TRIALS_PAUSE: u32 = 4;
#[cfg(target_os = "linux")]
pub(crate) const GRO_TRIAL_CALLS: u32 = 7;

/// Replies to one peer merged into one message, and their total bytes. Linux splits the message again
/// (`UDP_MAX_SEGMENTS` of its first versions).
pub(crate) const MERGED_DATAGRAMS_MAX: usize = 64;
pub(crate) const MERGED_BYTES_MAX: usize = IPV4_PAYLOAD_BYTES_MAX;

/// Bytes requested by one read: the size of the read buffer, which all connections of a loop share.
pub(crate) const READ_BYTES_MAX: usize = 128 * 1024;

/// Bytes read and sent for one connection in a turn; after that, only its outbox is sent. It is as much as one read
/// returns, so a busy client delays the others by the time of one read.
pub(crate) const BYTES_PER_TURN_MAX: u32 = 128 * 1024;

/// Deadlines handled in a turn, and jobs and notes handled in a turn; the rest waits for the next turn.
pub(crate) const DEADLINES_PER_TURN_MAX: usize = 1024;
pub(crate) const MESSAGES_PER_TURN_MAX: usize = 1024;

/// Turns after its deadline in which a connection still receives input that arrived before. They are enough for a
/// receive buffer of 16 MiB at 128 KiB a turn; Linux lets one grow to 6 MiB (`net.ipv4.tcp_rmem`). A client that never
/// stops sending is timed out then.
pub(crate) const LATE_TURNS_MAX: u8 = 128;

/// Progress in a turn counts from the start of the turn. Turns up to this long are not corrected; instead, idle
/// timeouts, write timeouts and lingers run this much longer. After a longer turn, progress in it counts from its end.
/// This correction visits every connection, at most a hundred times a second.
pub(crate) const TURN_TIME_UNCOUNTED: Duration = Duration::from_millis(10);

/// Outbound connects started in a turn; each takes a few system calls.
pub(crate) const CONNECTS_PER_TURN_MAX: usize = 128;

/// Buffers that one call sends from an outbox with shared bytes: eight of them, each after copied bytes.
pub(crate) const SEND_SLICES_MAX: usize = 16;

/// Events requested from one poll: 1,024 of them fill 12 KiB, which stays in the L1 cache.
pub(crate) const EVENTS_PER_POLL_MAX: usize = 1024;

/// Polls at the start of a turn, while each returns a full batch.
pub(crate) const POLLS_PER_TURN_MAX: u32 = 16;

/// How long the loop remembers whether an address is local, or a broadcast address, and for how many addresses. The
/// first is needed only for a peer that uses the port of a wildcard socket. The second is needed only for a socket that
/// may broadcast. Each lookup takes three system calls.
pub(crate) const HOST_IPS_AGE_MAX: Duration = Duration::from_secs(1);
pub(crate) const HOST_IPS_MAX: usize = 1024;

// ---- errors ---------------------------------------------------------------------------------------------------------

/// Time between attempts to take back reserved descriptors, while no connection of the listener closes.
pub(crate) const RESERVE_REFILL_INTERVAL: Duration = Duration::from_secs(1);

/// Errors in a row after which a source pauses, whatever they are: an immediate retry would spin.
pub(crate) const ERRORS_IN_A_ROW_MAX: u32 = 16;

/// First pause of a source when a resource is exhausted.
pub(crate) const BACKOFF_MIN: Duration = Duration::from_millis(10);

/// Longest pause: the doubling ends here, so a client waits at most this long after resources are free again.
pub(crate) const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Minimum time between two log lines about one problem of one source. Measured: a problem that lasts 1.4 s, clients
/// that cannot be registered with the poll, or a flood of 50,000 forged datagrams a second produce two lines or none
/// (`persistent_errors.rs` and `udp_floods.rs` in `server/tests/faults/`).
pub(crate) const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// How long a listener at a unix path waits for the lock on its folder. Servers keep it for a few system calls. A
/// process that keeps it longer is stopped, or malicious.
#[cfg(unix)]
pub(crate) const FOLDER_LOCK_WAIT: Duration = Duration::from_millis(500);

// ---- closing --------------------------------------------------------------------------------------------------------

/// How long a closed connection is still read, so that late input does not turn the FIN into an RST. It is two round
/// trips around the world, with a retransmission.
pub(crate) const LINGER: Duration = Duration::from_secs(2);

/// How much late input is read and discarded before the connection is closed. Measured: a client that never stops
/// sending after its greeting can send 8 to 9 MiB, most of it into the kernel's queues (`memory_per_client.rs`, too).
pub(crate) const LINGER_BYTES_MAX: u32 = 4 * 1024 * 1024;

/// A read of at least this many bytes may be part of a longer message in flight, even if it emptied the receive queue.
/// A close after such a read lingers. A segment carries at least 1,220 bytes over IPv6 (RFC 8200 section 5 less
/// headers). So a shorter read is a whole message. After more output than this the close lingers, too: the peer may send
/// its next request before it has read the reply. The smallest receive buffer of Linux takes as much at once.
pub(crate) const WHOLE_MESSAGE_BYTES_MAX: usize = 1024;

/// Connections accepted, and datagrams read, from one source after a drain has begun. A full backlog is served, but a
/// flood cannot delay the drain.
pub(crate) const DRAIN_BACKLOG_MAX: u32 = 4096;

// ---- memory ---------------------------------------------------------------------------------------------------------

/// Initial room of each table of connections. It is address space, not memory: a page counts when it is first written.
/// From about this size on, allocators map a table separately, and grow it in place or by moving pages. So growth
/// copies no table and leaves no holes.
pub(crate) const TABLE_BYTES_RESERVED: usize = 256 * 1024;

/// Stream handlers whose entries keep their room after many handlers were dropped.
pub(crate) const HANDLERS_KEPT: usize = 1024;

/// Buffer boxes that a loop keeps for reuse. A connection uses one only while it has buffered bytes, so this many
/// connections can have buffered bytes without an allocation.
pub(crate) const POOLED_BUFFERS_MAX: usize = 32;

/// Of those, the boxes that keep up to 128 KiB in each direction, for bulk transfers; the others keep a share.
pub(crate) const POOLED_BULK_BUFFERS_MAX: usize = 4;

/// Jobs, notes and timers at once after which a loop looks for memory to release, and for which its tables keep room.
pub(crate) const BURST_MIN: usize = 1024;

/// The size of a block whose release makes an allocator return memory. It is above glibc's
/// `FASTBIN_CONSOLIDATION_THRESHOLD` of 64 KiB, and below the 128 KiB from which glibc maps a block separately.
pub(crate) const RELEASING_BLOCK_BYTES: usize = 100 * 1024;

/// What each inbox and each outbox may always use: a page, which fits a request of the usual size.
pub(crate) const BUFFER_BYTES_SHARE: usize = 4 * 1024;

/// Shared bytes shorter than this are copied into the outbox: a copy costs less than an entry of its own. So the entries
/// of an outbox take less than a hundredth of its bytes.
pub(crate) const SHARED_BYTES_MIN: usize = 4 * 1024;

/// Input that a callback writes on is copied into an outbox if it is shorter than this. Otherwise it is sent from the
/// read buffer when the callback returns, and only what the kernel does not accept is copied.
pub(crate) const LENT_BYTES_MIN: usize = 4 * 1024;

/// How long buffers may be near their maximum before connections are reset: longer than a burst, shorter than a client
/// waits.
pub(crate) const STRAIN_MAX: Duration = Duration::from_secs(1);

/// Time between two checks of buffers that are near their maximum; each check may reset one connection.
pub(crate) const STRAIN_INTERVAL: Duration = Duration::from_millis(10);

/// Room for datagrams received by one call, per loop, for any number of sockets: 64 of up to 32 KiB, or 32 of the
/// longest. It is address space, and becomes memory as far as datagrams have filled it. A socket whose budget ended
/// inside a message of merged datagrams has one more, until its next turn.
pub(crate) const RECV_BATCH_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Bytes of queued UDP replies after which the loop sends them before the end of the turn.
pub(crate) const SEND_QUEUE_BYTES_SOFT_MAX: usize = 256 * 1024;

/// Bytes of queued UDP replies at which a handler's `reply` is refused. A handler that answers one datagram with a
/// thousand can reach it; a handler that answers each with one cannot.
pub(crate) const SEND_QUEUE_BYTES_MAX: usize = 1024 * 1024;

/// Queued UDP replies at which a handler's `reply` is refused.
pub(crate) const SEND_QUEUE_DATAGRAMS_MAX: usize = 1024;

/// Buckets of the table that limits UDP replies per source: 128 KiB a socket, whatever addresses are forged. Sources in
/// one bucket share its rate: of 1,000 honest sources, one in sixteen shares a bucket. In total, a socket sends at
/// most as many replies a second as all buckets allow. Measured at 100 a second each: one source that floods for two
/// seconds gets 299 replies to 115,000 datagrams. A million forged sources do not change the table's size, and 100,000
/// datagrams from as many sources cost 24 KiB (`server/tests/faults/udp/udp_floods.rs`, the tests of
/// `source_address_limits.rs`).
pub(crate) const RATE_BUCKETS: usize = 16 * 1024;

// ---- findings -------------------------------------------------------------------------------------------------------

/// Work of one turn, and lateness of a timer, from which they are a finding. A person notices a delay of 100 ms
/// (Miller, 1968). A busy machine takes the processor from a thread for shorter times.
pub(crate) const FINDING_LOOP_LAG: Duration = Duration::from_millis(100);

/// A callback that takes this long is a finding: two of them in a turn make a delay that a person notices.
pub(crate) const FINDING_SLOW_CALLBACK: Duration = Duration::from_millis(50);

/// Work that waits this long is a finding: ready, deferred or left unread input, and clients of a full listener. The
/// loop serves all work in the next turn, so a second is never normal.
pub(crate) const FINDING_WORK_WAITS: Duration = Duration::from_secs(1);

/// A pause after errors, of all tries together, from which it is a finding. A shortage that ends within four tries
/// (10, 20 and 40 ms) delays no client noticeably.
pub(crate) const FINDING_BACKOFF: Duration = Duration::from_millis(100);

/// Output without progress for this long is a finding. It is longer than two retransmissions at the minimum timeout of
/// Linux (200 and 400 ms), so a lost segment alone is none.
pub(crate) const FINDING_SLOW_READER: Duration = Duration::from_secs(1);

/// Polls in a row without an event and without work from which they are a finding. A watch that reads 8 KiB per call
/// needs fewer to empty the largest receive buffer of Linux (6 MiB).
pub(crate) const FINDING_SPIN_POLLS: u64 = 1000;

/// The longest time between two of those polls, on average. A program with its own frames (16 ms) polls seldom enough.
pub(crate) const FINDING_SPIN_GAP: Duration = Duration::from_millis(5);

// ---- relations between the limits -----------------------------------------------------------------------------------

const _: () = assert!(BYTES_PER_TURN_MAX as usize >= READ_BYTES_MAX, "one read must fit the budget of a turn");
const _: () =
    assert!(SEND_QUEUE_BYTES_SOFT_MAX + DATAGRAM_BYTES_MAX < SEND_QUEUE_BYTES_MAX, "a reply to each must fit");
const _: () = assert!(DATAGRAMS_PER_TURN_MAX as usize <= SEND_QUEUE_DATAGRAMS_MAX, "a reply to each must fit");
const _: () =
    assert!(RECV_BATCH_BYTES_MAX > DATAGRAM_BYTES_MAX, "the longest must fit, with the byte that shows a cut");
const _: () = assert!(RATE_BUCKETS.is_power_of_two(), "a bucket is found with a mask");
const _: () = assert!(WHOLE_MESSAGE_BYTES_MAX < READ_BYTES_MAX, "a longer read must be possible");

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
