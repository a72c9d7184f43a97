//! A server of a case, as a process of its own.
//!
//! It ends with its standard input, so it never outlives the program that started it.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::ffi::OsStrExt;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;
use std::{fs, process, thread};

use nix::sys::resource::{Resource, rlim_t, setrlimit};
use socket2::{Domain, SockRef, Socket, Type};

use crate::cli::flags::tour_options::{TourOptions, TourServer};
use crate::exit::{ExitError, ExitStatus, cause_and_hint};
use crate::output::standard_stream;
use crate::record::recording_file::RecordingFile;
use crate::text::escape;
use crate::tour::case::Case;
use crate::tour::halloo_server;
use crate::tour::mio_server::notes::Notes;
use crate::tour::mio_server::rules::{AllRight, Rules};
use crate::tour::mio_server::server::Server;

/// The most processor time of a server, in seconds.
const CPU_SECONDS_MAX: rlim_t = 60;

/// The most memory of a server, in bytes.
const MEMORY_BYTES_MAX: rlim_t = 1 << 30;

/// The send buffer of a connection, in bytes: more than what case 3 sends, and less than case 5 does. Linux gives a
/// connection on loopback such a buffer by itself, and may allow no program to ask for one.
const SEND_BUFFER_BYTES: usize = 1024 * 1024;

/// A server that still serves after this time is ended, without a recording.
const STOP_TIME: Duration = Duration::from_secs(2);

/// A server that is ready.
struct Ready {
    stop: Box<dyn FnOnce() + Send>,
    serve: Box<dyn FnOnce() -> io::Result<()>>,
}

/// Serves until standard input ends, and writes the recording.
pub(crate) fn run(case: &Case, server: TourServer, options: &TourOptions) -> Result<ExitStatus, ExitError> {
    let file = recording_file(case, server, options)?;
    limit_process(case);
    let cannot_serve = |error: io::Error| ExitError::from_io("cannot serve", &error);
    let (listener, udp) = bind(case).map_err(cannot_serve)?;
    let addresses = listener.local_addr().and_then(|tcp| Ok((tcp, udp.local_addr()?)));
    let (tcp, at_udp) = addresses.map_err(cannot_serve)?;
    let notes = Notes::new();
    let ready = match server {
        TourServer::Twin => on_mio(case.twin, listener, udp, &notes),
        TourServer::Mio => on_mio(&AllRight, listener, udp, &notes),
        TourServer::Halloo => on_halloo(listener, udp, &notes),
    };
    let Ready { stop, serve } = ready.map_err(cannot_serve)?;
    let (is_serving, has_ended) = mpsc::channel();
    thread::spawn(move || stop_at_eof(stop, &has_ended));
    let ready = format!("READY tcp={tcp} udp={at_udp} pid={}\n", process::id());
    let written = standard_stream::stdout().write_all(ready.as_bytes());
    written.map_err(|error| ExitError::from_io("cannot write to standard output", &error))?;
    let end = serve();
    drop(is_serving);
    file.write(&notes.take_recording(name_of(server)))?;
    end.map_err(|error| ExitError::from_io("the server has ended", &error))?;
    Ok(ExitStatus::Success)
}

/// Stops the server when standard input ends. `has_ended` is disconnected when it no longer serves.
fn stop_at_eof(stop: Box<dyn FnOnce() + Send>, has_ended: &Receiver<()>) {
    // An error of standard input is its end, too.
    let _ = io::stdin().read_to_end(&mut Vec::new());
    stop();
    if has_ended.recv_timeout(STOP_TIME) == Err(RecvTimeoutError::Timeout) {
        process::exit(ExitStatus::TimedOut as i32);
    }
}

fn on_mio(rules: &'static dyn Rules, listener: TcpListener, udp: UdpSocket, notes: &Notes) -> io::Result<Ready> {
    let mut server = Server::new(listener, udp, rules, notes.clone())?;
    Ok(Ready { stop: Box::new(server.stopper()), serve: Box::new(move || server.run()) })
}

fn on_halloo(listener: TcpListener, udp: UdpSocket, notes: &Notes) -> io::Result<Ready> {
    let mut events = halloo_server::new(listener, udp, notes.clone())?;
    let handle = events.handle();
    let stop = move || {
        // An error means that the loop has stopped.
        let _ = handle.stop();
    };
    Ok(Ready { stop: Box::new(stop), serve: Box::new(move || Ok(events.run().map(drop)?)) })
}

/// The name of a server in output and in file names.
fn name_of(server: TourServer) -> &'static str {
    match server {
        TourServer::Twin => "twin",
        TourServer::Mio => "mio",
        TourServer::Halloo => "halloo",
    }
}

/// The file name of the recording of a server, which has this name on the command line.
pub(crate) fn recording_name(case: &Case, server: &str, is_page: bool) -> String {
    let extension = if is_page { "html" } else { "json" };
    format!("tour-{:02}-{server}.{extension}", case.number)
}

/// The file of the recording of a server. An error if it cannot be written.
pub(crate) fn recording_file(
    case: &Case,
    server: TourServer,
    options: &TourOptions,
) -> Result<RecordingFile, ExitError> {
    let assignment = format!("{}FOLDER", options.given.assignment("save"));
    let error = match fs::metadata(&options.save) {
        Ok(folder) if folder.is_dir() => {
            let path = options.save.join(recording_name(case, name_of(server), options.html));
            return RecordingFile::check(&path, "the recording", &assignment);
        }
        Ok(_) => io::ErrorKind::NotADirectory.into(),
        Err(error) => error,
    };
    let folder = escape::path(options.save.as_os_str().as_bytes());
    let why = cause_and_hint(&error, &format!("create this folder, or choose another with {assignment}"));
    Err(ExitError::new(ExitStatus::Unavailable, format!("cannot write recordings to {folder}: {why}")))
}

/// A mistake must not harm the machine.
fn limit_process(case: &Case) {
    let limits = [
        (Resource::RLIMIT_CPU, CPU_SECONDS_MAX),
        (Resource::RLIMIT_DATA, MEMORY_BYTES_MAX),
        // A server without memory aborts, and leaves no file but its recording.
        (Resource::RLIMIT_CORE, 0),
    ];
    let of_case = case.descriptors_max.map(|descriptors| (Resource::RLIMIT_NOFILE, descriptors));
    for (resource, limit) in limits.into_iter().chain(of_case) {
        // A limit that cannot be set is lower already.
        let _ = setrlimit(resource, limit, limit);
    }
}

/// TCP and UDP at 127.0.0.1, both at the same port.
fn bind(case: &Case) -> io::Result<(TcpListener, UdpSocket)> {
    const TRIES: u32 = 20;
    for tries in (0..TRIES).rev() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        if cfg!(not(target_os = "linux")) {
            SockRef::from(&listener).set_send_buffer_size(SEND_BUFFER_BYTES)?;
        }
        let port = listener.local_addr()?.port();
        match bind_udp(case, port) {
            Ok(udp) => return Ok((listener, udp)),
            // Another program has the port of UDP.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries > 0 => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

/// UDP at 127.0.0.1. If the case asks other addresses, too, at all addresses of the loopback device, if that is allowed:
/// then a reply may leave from the wrong one.
fn bind_udp(case: &Case, port: u16) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    let has_all = case.asks_other_addresses() && binds_to_loopback_device(&socket);
    let ip = if has_all { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
    socket.bind(&SocketAddr::from((ip, port)).into())?;
    Ok(socket.into())
}

/// Before the socket has an address, so that no other machine ever reaches it.
#[cfg(target_os = "linux")]
fn binds_to_loopback_device(socket: &Socket) -> bool {
    socket.bind_device(Some(b"lo")).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn binds_to_loopback_device(_: &Socket) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use nix::libc::SIGABRT;

    use super::*;
    use crate::tour::cases::CASES;

    /// Set for the process that allocates.
    const ALLOCATES: &str = "HALLOO_TEST_ALLOCATES";

    #[test]
    fn a_process_with_the_limits_of_a_server_aborts_when_it_allocates_more_than_1_gib() {
        if env::var_os(ALLOCATES).is_some() {
            allocate_without_end();
        }
        let mut command = Command::new(env::current_exe().expect("the test program"));
        command.args(["--exact", "--nocapture"]).env(ALLOCATES, "yes");
        command
            .arg("tour::served::tests::a_process_with_the_limits_of_a_server_aborts_when_it_allocates_more_than_1_gib");
        let output = command.output().expect("it starts");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.signal(), Some(SIGABRT), "{text}");
        assert!(text.contains("memory allocation of 16777216 bytes failed"), "{text}");
    }

    fn allocate_without_end() -> ! {
        limit_process(CASES[0]);
        let mut all: Vec<Vec<u8>> = Vec::new();
        // The memory is not written to, so the machine does not lack it.
        while all.len() < 256 {
            all.push(std::hint::black_box(Vec::with_capacity(1 << 24)));
        }
        panic!("{} pieces of 16 MiB were allocated", all.len());
    }
}
