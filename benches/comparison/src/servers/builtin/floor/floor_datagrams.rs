//! The floor of the workloads over UDP.
//!
//! One call receives many datagrams, and one sends all responses. Those to one client are one message, which the kernel
//! cuts (`UDP_SEGMENT`).

use std::error::Error;
use std::io::{IoSlice, IoSliceMut};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::sockopt::{UdpGroSegment, UdpGsoSegment};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrIn, recvmmsg, sendmmsg, setsockopt,
};
use rustix::event::epoll::EventFlags;

use super::{ADDRESS, Poll, READ_BYTES, print_ready_line};
use crate::workload::UDP_RESPONSE;

/// Messages in one call.
const BATCH_MAX: usize = 64;
/// Datagrams in one message: `UDP_MAX_SEGMENTS` of older kernels.
const SEGMENTS_MAX: usize = 64;
/// The longest message of a client whose datagrams the kernel joins.
const MESSAGE_BYTES_MAX: usize = 65_536;

/// Responses to one client.
struct Reply {
    to: Option<SockaddrIn>,
    count: usize,
}

pub(super) fn run(joins_segments: bool) -> Result<(), Box<dyn Error>> {
    let socket = UdpSocket::bind(ADDRESS)?;
    socket.set_nonblocking(true)?;
    setsockopt(&socket, UdpGsoSegment, &i32::try_from(UDP_RESPONSE.len())?)?;
    setsockopt(&socket, UdpGroSegment, &joins_segments)?;
    let mut poll = Poll::new()?;
    poll.add(&socket, 0, EventFlags::IN)?;
    print_ready_line(socket.local_addr()?)?;

    let buffer_bytes = if joins_segments { MESSAGE_BYTES_MAX } else { READ_BYTES };
    let mut buffers = vec![0; BATCH_MAX * buffer_bytes];
    let mut incoming = headers(joins_segments);
    let mut outgoing = MultiHeaders::preallocate(BATCH_MAX, None);
    let mut replies = Vec::with_capacity(BATCH_MAX);
    let responses = UDP_RESPONSE.repeat(SEGMENTS_MAX);
    loop {
        poll.wait()?;
        let mut is_full = true;
        while is_full {
            let mut chunks = buffers.chunks_exact_mut(buffer_bytes);
            let mut slices: [[IoSliceMut<'_>; 1]; BATCH_MAX] =
                std::array::from_fn(|_| [IoSliceMut::new(chunks.next().unwrap_or_default())]);
            let fd = socket.as_raw_fd();
            let Ok(messages) = recvmmsg(fd, &mut incoming, slices.iter_mut(), MsgFlags::empty(), None) else { break };
            let (mut received, mut have_segments) = (0, true);
            for message in messages {
                let segment = if joins_segments { segment_bytes(&message) } else { None };
                let count = segment.map_or(1, |bytes| message.bytes.div_ceil(bytes));
                add_replies(&mut replies, message.address, count);
                have_segments &= segment.is_some();
                received += 1;
            }
            is_full = received == BATCH_MAX;
            replies.chunks(BATCH_MAX).for_each(|replies| send_replies(&socket, &mut outgoing, replies, &responses));
            replies.clear();
            // A header loses its room for control messages with a message that has none.
            if joins_segments && !have_segments {
                incoming = headers(true);
            }
        }
    }
}

fn headers(has_control: bool) -> MultiHeaders<SockaddrIn> {
    MultiHeaders::preallocate(BATCH_MAX, has_control.then(|| nix::cmsg_space!(i32)))
}

/// The length of each datagram in a message but the last; `None` if there is one.
fn segment_bytes(message: &RecvMsg<'_, '_, SockaddrIn>) -> Option<usize> {
    message.cmsgs().ok()?.find_map(|message| match message {
        ControlMessageOwned::UdpGroSegments(bytes) => usize::try_from(bytes).ok(),
        _ => None,
    })
}

/// Adds replies to the last message if they go to the same client.
fn add_replies(replies: &mut Vec<Reply>, to: Option<SockaddrIn>, mut count: usize) {
    if let Some(last) = replies.last_mut().filter(|last| last.to == to) {
        let more = count.min(SEGMENTS_MAX - last.count);
        last.count += more;
        count -= more;
    }
    while count > 0 {
        let first = count.min(SEGMENTS_MAX);
        replies.push(Reply { to, count: first });
        count -= first;
    }
}

/// Sends at most `BATCH_MAX` messages. Without room in the socket's buffer the rest is lost, as UDP allows.
fn send_replies(socket: &UdpSocket, outgoing: &mut MultiHeaders<SockaddrIn>, replies: &[Reply], responses: &[u8]) {
    let mut to = [None; BATCH_MAX];
    let mut slices = [[IoSlice::new(&[])]; BATCH_MAX];
    for ((to, slice), reply) in to.iter_mut().zip(&mut slices).zip(replies) {
        (*to, *slice) = (reply.to, [IoSlice::new(&responses[..reply.count * UDP_RESPONSE.len()])]);
    }
    let mut sent = 0;
    while sent < replies.len() {
        let rest = sent..replies.len();
        let messages = slices[rest.clone()].iter();
        match sendmmsg(socket.as_raw_fd(), outgoing, messages, &to[rest], [], MsgFlags::empty()) {
            Ok(messages) => sent += messages.count(),
            Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_to_one_client_share_messages_that_the_kernel_can_cut() {
        let client = |port| Some(SockaddrIn::new(127, 0, 0, 1, port));
        let mut replies = Vec::new();
        for (port, count) in [(1, 1), (1, 62), (1, 2), (2, 1), (1, 130)] {
            add_replies(&mut replies, client(port), count);
        }
        let messages: Vec<_> = replies.iter().map(|reply| (reply.to.map(|to| to.port()), reply.count)).collect();
        assert_eq!(
            messages,
            [(1, 64), (1, 1), (2, 1), (1, 64), (1, 64), (1, 2)].map(|(port, count)| (Some(port), count))
        );
    }
}
