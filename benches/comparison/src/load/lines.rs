//! A client with one connection and some lines in flight.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::{Client, READ_BYTES, Tally, wrong};
use crate::workload::{LINE_ANSWER, LINE_QUESTION};

pub(super) struct Lines {
    stream: TcpStream,
    depth: usize,
    /// When each line under way was sent, oldest first.
    asked_at: VecDeque<Instant>,
    /// Bytes of the oldest answer that have come.
    filled: usize,
    /// All questions that may be under way, and answers for the longest read.
    questions: Vec<u8>,
    answers: Vec<u8>,
}

impl Lines {
    pub(super) fn open(address: SocketAddr, client: usize, depth: usize, tally: &Tally) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        tally.watch(&stream, client)?;
        let answers = LINE_ANSWER.repeat(READ_BYTES / LINE_ANSWER.len() + 2);
        let questions = LINE_QUESTION.repeat(depth);
        Ok(Self { stream, depth, asked_at: VecDeque::with_capacity(depth), filled: 0, questions, answers })
    }

    fn ask(&mut self, lines: usize, tally: &mut Tally) -> io::Result<()> {
        let lines = tally.take(lines);
        if lines == 0 {
            return Ok(());
        }
        self.asked_at.extend(std::iter::repeat_n(tally.now, lines));
        let questions = &self.questions[..lines * LINE_QUESTION.len()];
        if rustix::net::send(&self.stream, questions, SendFlags::NOSIGNAL)? < questions.len() {
            return Err(io::Error::other("the kernel has no room for a few lines"));
        }
        Ok(())
    }
}

impl Client for Lines {
    fn start(&mut self, tally: &mut Tally) -> io::Result<()> {
        self.ask(self.depth, tally)
    }

    fn on_ready(&mut self, tally: &mut Tally) -> io::Result<()> {
        let mut buffer = [0; READ_BYTES];
        let count = match rustix::net::recv(&self.stream, &mut buffer, RecvFlags::DONTWAIT) {
            Err(Errno::AGAIN) => return Ok(()),
            Ok((count @ 1.., _)) => count,
            // A server may end once it has answered all.
            Ok(_) if self.asked_at.is_empty() => return Ok(()),
            Ok(_) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed a kept connection")),
            Err(error) => return Err(error.into()),
        };
        let input = &buffer[..count];
        let end = self.filled + count;
        let (answered, under_way) = (end / LINE_ANSWER.len(), self.asked_at.len());
        if input != &self.answers[self.filled..end] || answered > under_way {
            return Err(wrong(input));
        }
        self.filled = end % LINE_ANSWER.len();
        for asked_at in self.asked_at.drain(..answered) {
            tally.answered(asked_at);
        }
        self.ask(answered, tally)
    }

    fn waiting(&self) -> usize {
        self.asked_at.len()
    }
}
