//! The loop inside calloop, the loop of Wayland compositors.
//!
//! calloop turns halloo when there is something to do, and has a clock that every client sees ticking.
//!
//! `cargo run --release -p protocols --bin in_calloop`, then `nc localhost 8888`. Another address may be given.
//!
//! Two things make calloop turn halloo: its descriptor becomes readable, or the time that it has named is over.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use calloop::generic::Generic;
use calloop::timer::{TimeoutAction, Timer};
use calloop::{Interest, LoopHandle, LoopSignal, Mode, PostAction, RegistrationToken};
use halloo::{EventLoop, HandlerId, Turn, stream};

/// What calloop hands to every callback.
struct App {
    events: EventLoop<'static>,
    handler: HandlerId,
    outer: LoopHandle<'static, App>,
    signal: LoopSignal,
    /// The timer that stands for halloo's next deadline, if there is one.
    alarm: Option<RegistrationToken>,
    ticks: u64,
}

impl App {
    /// One turn that does not wait, and an alarm for when the next is due at the latest.
    fn turn(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        if let Turn::Stopped(_) = self.events.turn(Some(Duration::ZERO))? {
            self.signal.stop();
        }
        if let Some(previous) = self.alarm.take() {
            self.outer.remove(previous);
        }
        // Zero says that work is left over. It comes up at once, and calloop's other sources have their turn between.
        if let Some(after) = self.events.next_timeout() {
            let alarm = self.outer.insert_source(Timer::from_duration(after), |_, (), app| {
                app.alarm = None;
                app.turn_or_stop();
                TimeoutAction::Drop
            });
            self.alarm = Some(alarm.map_err(|error| error.error)?);
        }
        Ok(())
    }

    fn turn_or_stop(&mut self) {
        if let Err(error) = self.turn() {
            eprintln!("the server has ended: {error}");
            self.signal.stop();
        }
    }

    fn tick(&mut self) {
        self.ticks += 1;
        let line = format!("tick {}\n", self.ticks);
        // Who does not read misses ticks, and nobody else does.
        self.events.context().for_each_connection(self.handler, |client| {
            let _ = client.send(line.as_bytes());
        });
        // What was written from outside leaves in a turn.
        self.turn_or_stop();
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address: SocketAddr = std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:8888").parse()?;
    let mut events = EventLoop::new()?;
    #[expect(clippy::redundant_closure_for_method_calls, reason = "the method alone is bound to one lifetime")]
    let handler = events.attach(stream(|connection, input| connection.try_write(input)));
    let listener = events.listen_for(address, handler)?;
    println!("Listening on {}", events.local_addr(listener)?);

    let mut outer = calloop::EventLoop::<App>::try_new()?;
    // A second name for halloo's descriptor: calloop keeps what it watches, and the loop itself is needed in `App`.
    let readable = Generic::new(events.as_fd().try_clone_to_owned()?, Interest::READ, Mode::Level);
    outer.handle().insert_source(readable, |_, _, app| {
        app.turn_or_stop();
        Ok(PostAction::Continue)
    })?;
    outer.handle().insert_source(Timer::from_duration(Duration::from_secs(1)), |_, (), app| {
        app.tick();
        TimeoutAction::ToDuration(Duration::from_secs(1))
    })?;
    let (handle, signal) = (outer.handle(), outer.get_signal());
    let mut app = App { events, handler, outer: handle, signal, alarm: None, ticks: 0 };
    app.turn()?;
    outer.run(None, &mut app, |_| {})?;
    Ok(())
}
