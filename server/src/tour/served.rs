//! A server of a case, as a process of its own.
//!
//! It ends with its standard input, so it never outlives the program that started it.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;
use std::{process, thread};

use nix::sys::resource::{Resource, setrlimit};
use socket2::SockRef;

use crate::cli::flags::{TourOptions, TourServer};
use crate::exit::{ExitError, ExitStatus};
use crate::output::standard_stream;
use crate::record::recording_file::RecordingFile;
use crate::tour::case::Case;
use crate::tour::mio_server::notes::Notes;
use crate::tour::mio_server::rules::AllRight;
use crate::tour::mio_server::server::Server;

/// The most processor time of a server, in seconds.
const CPU_SECONDS_MAX: u64 = 60;

/// The most memory of a server, in bytes.
const MEMORY_BYTES_MAX: u64 = 1 << 30;

/// A server that does not end by itself within this time is ended, without a recording.
const STOP_TIME: Duration = Duration::from_secs(2);

/// Serves until standard input ends, and writes the recording.
pub(crate) fn run(case: &Case, server: TourServer, options: &TourOptions) -> Result<ExitStatus, ExitError> {
    limit_process(case);
    let cannot_serve = |error: &io::Error| ExitError::from_io("cannot serve", error);
    let (listener, udp) = bind().map_err(|error| cannot_serve(&error))?;
    let (tcp, at_udp) = (listener.local_addr(), udp.local_addr());
    let (tcp, at_udp) = tcp.and_then(|tcp| Ok((tcp, at_udp?))).map_err(|error| cannot_serve(&error))?;
    let name = match server {
        TourServer::Twin => "twin",
        TourServer::Mio => "mio",
        TourServer::Halloo => "halloo",
    };
    let extension = if options.html { "html" } else { "json" };
    let path = options.save.join(format!("tour-{:02}-{name}.{extension}", case.number));
    let file = RecordingFile::check(&path, "the recording", &options.given.assignment("save"))?;
    let rules = if server == TourServer::Twin { case.twin } else { &AllRight };
    let notes = Notes::new();
    let mut server = Server::new(listener, udp, rules, notes.clone()).map_err(|error| cannot_serve(&error))?;
    let stopper = server.stopper();
    thread::spawn(move || {
        // An error of standard input is its end, too.
        let _ = io::stdin().read_to_end(&mut Vec::new());
        stopper.stop();
        thread::sleep(STOP_TIME);
        process::exit(ExitStatus::TimedOut as i32);
    });
    let ready = format!("READY tcp={tcp} udp={at_udp} pid={}\n", process::id());
    let written = standard_stream::stdout().write_all(ready.as_bytes());
    written.map_err(|error| ExitError::from_io("cannot write to standard output", &error))?;
    let end = server.run();
    file.write(&notes.recording(name))?;
    end.map_err(|error| ExitError::from_io("the server has ended", &error))?;
    Ok(ExitStatus::Success)
}

/// A mistake must not harm the machine.
fn limit_process(case: &Case) {
    // A limit that cannot be set is lower already.
    let _ = setrlimit(Resource::RLIMIT_CPU, CPU_SECONDS_MAX, CPU_SECONDS_MAX);
    let _ = setrlimit(Resource::RLIMIT_AS, MEMORY_BYTES_MAX, MEMORY_BYTES_MAX);
    if let Some(descriptors) = case.descriptors_max {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, descriptors, descriptors);
    }
}

/// TCP at 127.0.0.1, UDP at every address of this machine's loopback device, both at the same port.
fn bind() -> io::Result<(TcpListener, UdpSocket)> {
    const TRIES: u32 = 20;
    for tries in (0..TRIES).rev() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        // The address of all devices, so that a reply may leave from the wrong one.
        let any = if cfg!(target_os = "linux") { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
        match UdpSocket::bind(SocketAddr::from((any, port))) {
            Ok(udp) => {
                #[cfg(target_os = "linux")]
                SockRef::from(&udp).bind_device(Some(b"lo"))?;
                return Ok((listener, udp));
            }
            // Another program has the port of UDP.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries > 0 => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}
