//! What is done with a connection, of TCP or of a unix socket, one handler for each mode.
//!
//! Between the loop, which calls with bytes, and the greeting desk, which knows the words. It promises one answer for
//! each question and a connection closed when there is nothing more to say. It never greets anybody once the desk has
//! closed, and keeps no client's text.

use std::cell::RefCell;

use halloo::framing::{Format, FrameHandler, Framed};
use halloo::{CloseReason, Connection, EventLoop, HandlerId, StreamHandler};

use crate::cli::flags::Mode;
use crate::greeting::greeter::{Desk, Parties};
use crate::text::bound_address::Site;
use crate::text::protocol::Protocol;

/// The longest line that is taken for one, in bytes.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// Gives the loop the handler of a mode.
pub(crate) fn attach<'h>(events: &mut EventLoop<'h>, mode: Mode, desk: &'h RefCell<Desk>) -> HandlerId {
    match mode {
        Mode::Greet => events.attach(Greet { desk }),
        Mode::Banner => events.attach(Banner { desk }),
        Mode::Line => events.attach(Framed::new(Format::Lines, LINE_BYTES_MAX, Line { desk })),
        Mode::Echo => events.attach(Echo { desk }),
        Mode::Discard => events.attach(Discard { desk }),
    }
}

fn parties(desk: &Desk, connection: &Connection<'_>) -> Option<Parties> {
    desk.parties(|| match desk.unix(|| connection.listener()) {
        None => {
            let (peer, local) = (connection.peer_addr(), connection.local_addr().map(Site::from));
            Parties { protocol: Protocol::Tcp, peer, local }
        }
        Some(site) => Parties { protocol: Protocol::Unix, peer: None, local: Some(site.clone()) },
    })
}

/// Greets once for what was received; false if there are no more greetings.
fn greet(desk: &RefCell<Desk>, connection: &mut Connection<'_>, received: &[u8], ending: &[u8]) -> bool {
    let mut desk = desk.borrow_mut();
    if !desk.reserve() {
        return false;
    }
    let parties = parties(&desk, connection);
    // It fits: an outbox has room for several of the longest greetings, and lines are not shown before it has.
    if connection.send(desk.compose(Protocol::Tcp, parties.as_ref(), ending)).is_err() {
        desk.release();
        return false;
    }
    desk.note(connection.context(), parties, received.len() as u64, received);
    true
}

/// Answers the first bytes, or the end of the stream, then closes.
struct Greet<'h> {
    desk: &'h RefCell<Desk>,
}

impl StreamHandler for Greet<'_> {
    type Session = ();

    fn on_open(&mut self, _: &mut Connection<'_>) -> Option<()> {
        (!self.desk.borrow().is_closed()).then_some(())
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, (): &mut (), input: &[u8]) -> usize {
        greet(self.desk, connection, input, b"");
        connection.close();
        input.len()
    }

    fn on_eof(&mut self, connection: &mut Connection<'_>, (): &mut ()) {
        greet(self.desk, connection, b"", b"");
        connection.close();
    }

    /// A question that is still to come gets its answer, unless there are none left.
    fn on_drain(&mut self, connection: &mut Connection<'_>, (): &mut ()) {
        if self.desk.borrow().is_closed() {
            connection.close();
        }
    }
}

/// Answers without waiting for a question, then closes.
struct Banner<'h> {
    desk: &'h RefCell<Desk>,
}

impl StreamHandler for Banner<'_> {
    type Session = ();

    fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<()> {
        greet(self.desk, connection, b"", b"");
        // Refusing sends what is written first: all there is to say has been said.
        None
    }

    fn on_data(&mut self, _: &mut Connection<'_>, (): &mut (), input: &[u8]) -> usize {
        input.len()
    }
}

/// Answers each line, and stays.
struct Line<'h> {
    desk: &'h RefCell<Desk>,
}

impl FrameHandler for Line<'_> {
    type Session = ();

    fn on_open(&mut self, _: &mut Connection<'_>) -> Option<()> {
        (!self.desk.borrow().is_closed()).then_some(())
    }

    fn on_frame(&mut self, connection: &mut Connection<'_>, (): &mut (), line: &[u8]) {
        if !greet(self.desk, connection, line, b"\n") {
            connection.close();
        }
    }

    fn on_drain(&mut self, connection: &mut Connection<'_>, (): &mut ()) {
        connection.close();
    }
}

/// Sends back whatever comes; its session counts the bytes.
struct Echo<'h> {
    desk: &'h RefCell<Desk>,
}

impl StreamHandler for Echo<'_> {
    type Session = u64;

    fn on_open(&mut self, _: &mut Connection<'_>) -> Option<u64> {
        (!self.desk.borrow().is_closed()).then_some(0)
    }

    /// What does not fit the outbox is left, and shown again when there is room.
    fn on_data(&mut self, connection: &mut Connection<'_>, bytes: &mut u64, input: &[u8]) -> usize {
        let taken = connection.write(input);
        *bytes += taken as u64;
        taken
    }

    fn on_drain(&mut self, connection: &mut Connection<'_>, _: &mut u64) {
        connection.close();
    }

    fn on_close(&mut self, connection: &mut Connection<'_>, bytes: u64, _: CloseReason) {
        note_total(self.desk, connection, bytes);
    }
}

/// Reads everything and answers nothing; its session counts the bytes.
struct Discard<'h> {
    desk: &'h RefCell<Desk>,
}

impl StreamHandler for Discard<'_> {
    type Session = u64;

    fn on_open(&mut self, _: &mut Connection<'_>) -> Option<u64> {
        (!self.desk.borrow().is_closed()).then_some(0)
    }

    fn on_data(&mut self, _: &mut Connection<'_>, bytes: &mut u64, input: &[u8]) -> usize {
        *bytes += input.len() as u64;
        input.len()
    }

    fn on_drain(&mut self, connection: &mut Connection<'_>, _: &mut u64) {
        connection.close();
    }

    fn on_close(&mut self, connection: &mut Connection<'_>, bytes: u64, _: CloseReason) {
        note_total(self.desk, connection, bytes);
    }
}

/// Where nobody is greeted, a connection that has ended counts as one greeting.
fn note_total(desk: &RefCell<Desk>, connection: &mut Connection<'_>, bytes: u64) {
    let mut desk = desk.borrow_mut();
    let parties = parties(&desk, connection);
    desk.note(connection.context(), parties, bytes, b"");
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{Shutdown, SocketAddr, TcpStream};
    use std::thread;
    use std::time::Duration;

    use halloo::{EventLoop, Handle};

    use super::attach;
    use crate::cli::flags::Mode;
    use crate::greeting::greeter::Desk;

    /// Far beyond what any answer takes.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// Ends the loop when the client is done, however that happens.
    struct Ending(Handle);

    impl Drop for Ending {
        fn drop(&mut self) {
            let _ = self.0.stop();
        }
    }

    /// Serves while the client talks.
    fn talk<T: Send>(mode: Mode, desk: &RefCell<Desk>, client: impl FnOnce(SocketAddr) -> T + Send) -> T {
        let mut events = EventLoop::new().unwrap();
        let handler = attach(&mut events, mode, desk);
        let listener = events.listen_for(SocketAddr::from(([127, 0, 0, 1], 0)), handler).unwrap();
        let (address, ending) = (events.local_addr(listener).unwrap(), Ending(events.handle()));
        thread::scope(|scope| {
            let client = scope.spawn(move || {
                let _ending = ending;
                client(address)
            });
            events.run().unwrap();
            client.join().unwrap()
        })
    }

    fn connect(address: SocketAddr) -> TcpStream {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn rest(stream: &mut TcpStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn greet_answers_the_first_bytes_or_the_end_of_stream_and_closes() {
        let desk = Desk::silent(Mode::Greet, None, None);
        talk(Mode::Greet, &desk, |address| {
            let mut asks = connect(address);
            asks.write_all(b"Hello, TCP Server!").unwrap();
            assert_eq!(rest(&mut asks), "Hello, TCP Client!");
            let mut ends = connect(address);
            ends.shutdown(Shutdown::Write).unwrap();
            assert_eq!(rest(&mut ends), "Hello, TCP Client!");
        });
        assert_eq!(desk.borrow().given(), 2);
    }

    #[test]
    fn banner_answers_without_a_question_and_numbers_its_greetings() {
        let desk = Desk::silent(Mode::Banner, Some("{protocol} {number} {peer}"), None);
        talk(Mode::Banner, &desk, |address| {
            for number in 1..=3 {
                let mut client = connect(address);
                let own = client.local_addr().unwrap();
                assert_eq!(rest(&mut client), format!("tcp {number} {own}"));
            }
        });
    }

    #[test]
    fn line_answers_each_line_and_stays() {
        let desk = Desk::silent(Mode::Line, Some("{number}"), None);
        talk(Mode::Line, &desk, |address| {
            let mut lines = BufReader::new(connect(address));
            let mut answer = String::new();
            for (question, answers) in [("one\r\ntwo\nthr", ["1\n", "2\n"].as_slice()), ("ee\n", &["3\n"])] {
                lines.get_mut().write_all(question.as_bytes()).unwrap();
                for expected in answers {
                    answer.clear();
                    lines.read_line(&mut answer).unwrap();
                    assert_eq!(answer, *expected);
                }
            }
        });
        assert_eq!(desk.borrow().given(), 3);
    }

    #[test]
    fn echo_sends_back_every_byte_however_many() {
        let desk = Desk::silent(Mode::Echo, None, None);
        let sent: String = "0123456789".repeat(50_000);
        let echoed = talk(Mode::Echo, &desk, |address| {
            let mut client = connect(address);
            let mut writer = client.try_clone().unwrap();
            thread::scope(|scope| {
                scope.spawn(|| {
                    writer.write_all(sent.as_bytes()).unwrap();
                    writer.shutdown(Shutdown::Write).unwrap();
                });
                rest(&mut client)
            })
        });
        assert!(echoed == sent);
    }

    #[test]
    fn discard_reads_to_the_end_and_says_nothing() {
        let desk = Desk::silent(Mode::Discard, None, None);
        talk(Mode::Discard, &desk, |address| {
            let mut client = connect(address);
            client.write_all("x".repeat(200_000).as_bytes()).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            assert_eq!(rest(&mut client), "");
        });
        assert_eq!(desk.borrow().given(), 1);
    }

    #[test]
    fn exactly_as_many_are_greeted_as_the_limit_says_and_the_loop_ends() {
        for mode in [Mode::Greet, Mode::Banner, Mode::Line] {
            let desk = Desk::silent(mode, None, Some(3));
            let mut events = EventLoop::new().unwrap();
            desk.borrow().meet(&events);
            let handler = attach(&mut events, mode, &desk);
            let listener = events.listen_for(SocketAddr::from(([127, 0, 0, 1], 0)), handler).unwrap();
            let address = events.local_addr(listener).unwrap();
            let clients: Vec<TcpStream> = (0..10).map(|_| connect(address)).collect();
            for mut client in &clients {
                client.write_all(b"hello\n").unwrap();
                client.shutdown(Shutdown::Write).unwrap();
            }
            events.run().unwrap();
            drop(events);
            let greeted =
                clients.into_iter().map(|mut client| rest(&mut client)).filter(|text| !text.is_empty()).count();
            assert_eq!((greeted, desk.borrow().given()), (3, 3), "{mode:?}");
        }
    }
}
