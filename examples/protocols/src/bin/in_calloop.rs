//! The loop inside calloop, the event loop of Wayland compositors.
//!
//! A timer of calloop also sends a tick to every client, once a second.
//!
//! `cargo run --release -p protocols --bin in_calloop`, then `nc localhost 8888`. An argument sets another listen
//! address.
//!
//! calloop turns halloo when its descriptor becomes readable, or when its `next_timeout` is over.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use calloop::generic::Generic;
use calloop::timer::{TimeoutAction, Timer};
use calloop::{Interest, LoopHandle, LoopSignal, Mode, PostAction, RegistrationToken};
use halloo::{EventLoop, HandlerId, Turn, stream};

/// The data that calloop passes to every callback.
struct App {
    events: EventLoop<'static>,
    handler: HandlerId,
    outer: LoopHandle<'static, App>,
    signal: LoopSignal,
    /// The timer for halloo's next deadline, if there is one.
    alarm: Option<RegistrationToken>,
    ticks: u64,
}

impl App {
    /// Runs one turn without a wait, and sets the alarm for the next deadline.
    fn turn(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        if let Turn::Stopped(_) = self.events.turn(Some(Duration::ZERO))? {
            self.signal.stop();
        }
        if let Some(previous) = self.alarm.take() {
            self.outer.remove(previous);
        }
        // Zero means that work is left. The alarm fires at once, after calloop's other sources.
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
        // A client that does not read misses ticks, without an effect on the other clients.
        self.events.context().for_each_connection(self.handler, |client| {
            let _ = client.send(line.as_bytes());
        });
        // Output written between turns is sent in the next turn.
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
    // calloop owns its source, and `App` owns the loop, so calloop gets a duplicate of the descriptor.
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
