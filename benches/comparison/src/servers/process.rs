//! A measured server as a child process: CPU time, memory, CPU affinity.

use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use crate::workload::{Mode, UDP_REQUEST};

/// The longest startup time of a server.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(10);

/// A running server, killed when it is dropped.
pub(crate) struct ServerProcess {
    child: Child,
    /// What a proxy forwards to.
    backend: Option<Box<Self>>,
    pub(crate) address: SocketAddr,
    pub(crate) startup_time: Duration,
}

impl ServerProcess {
    /// Starts a server that prints its address in its first line.
    pub(crate) fn start(mut command: Command) -> io::Result<Self> {
        let start = Instant::now();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut line = String::new();
        let output = child.stdout.take().ok_or_else(|| io::Error::other("the server has no standard output"))?;
        let read_result = BufReader::new(output).read_line(&mut line);
        let startup_time = start.elapsed();
        // From here on the child is killed on an error.
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut process = Self { child, backend: None, address, startup_time };
        read_result?;
        process.address =
            parse_address(&line).ok_or_else(|| io::Error::other(format!("no address in the first line {line:?}")))?;
        Ok(process)
    }

    /// Starts a server on a given address that prints nothing, and sends requests until it answers.
    pub(crate) fn start_at(mut command: Command, address: SocketAddr, mode: Mode) -> io::Result<Self> {
        let start = Instant::now();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let mut process = Self { child, backend: None, address, startup_time: Duration::ZERO };
        while !is_ready(address, mode) {
            if start.elapsed() > STARTUP_TIMEOUT || process.child.try_wait()?.is_some() {
                return Err(io::Error::other("the server does not start"));
            }
            thread::sleep(Duration::from_millis(1));
        }
        process.startup_time = start.elapsed();
        Ok(process)
    }

    /// Adds the server behind a proxy, which ends with it.
    pub(crate) fn with_backend(mut self, backend: Self) -> Self {
        self.backend = Some(Box::new(backend));
        self
    }

    /// The process id of the server behind a proxy.
    pub(crate) fn backend_pid(&self) -> Option<u32> {
        self.backend.as_ref().map(|backend| backend.pid())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Nanoseconds of processor time used by all threads.
    pub(crate) fn cpu_nanos(&self) -> io::Result<u64> {
        let mut sum = 0;
        for thread in fs::read_dir(format!("/proc/{}/task", self.pid()))? {
            sum += first_number(&fs::read_to_string(thread?.path().join("schedstat"))?)?;
        }
        Ok(sum)
    }

    /// Resident bytes of memory, shared ones included.
    pub(crate) fn resident_bytes(&self) -> io::Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/statm", self.pid()))?;
        let pages = text.split_whitespace().nth(1).unwrap_or_default();
        Ok(first_number(pages)? * rustix::param::page_size() as u64)
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address in a server's first line: `READY 127.0.0.1:1234`, or `READY tcp=127.0.0.1:1234 pid=1`.
pub(crate) fn parse_address(line: &str) -> Option<SocketAddr> {
    line.split_whitespace().find_map(|word| word.rsplit('=').next()?.parse().ok())
}

fn first_number(text: &str) -> io::Result<u64> {
    let number = text.split_whitespace().next().and_then(|word| word.parse().ok());
    number.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("no number in {text:?}")))
}

fn is_ready(address: SocketAddr, mode: Mode) -> bool {
    if mode != Mode::Udp {
        return TcpStream::connect(address).is_ok();
    }
    let probe = || -> io::Result<usize> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(address)?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        socket.send(UDP_REQUEST)?;
        socket.recv(&mut [0; 64])
    };
    probe().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_the_first_line_of_any_server() {
        let address = Some(SocketAddr::from(([127, 0, 0, 1], 1234)));
        assert_eq!(parse_address("READY 127.0.0.1:1234\n"), address);
        assert_eq!(parse_address("READY tcp=127.0.0.1:1234 udp=127.0.0.1:9 pid=7\n"), address);
        assert_eq!(parse_address(""), None);
        assert_eq!(parse_address("READY pid=7"), None);
    }

    #[test]
    fn the_first_number_of_schedstat_is_the_processor_time() {
        assert_eq!(first_number("48803117 1020 77\n").unwrap(), 48_803_117);
        assert!(first_number("").is_err());
        assert!(first_number("soon 1").is_err());
    }
}
