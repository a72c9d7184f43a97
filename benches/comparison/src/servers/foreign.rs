//! The peers that are not written in Rust: build and start.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::servers::process::ServerProcess;
use crate::workload::Mode;

const LIBUV: &str = include_str!("../../peers/libuv_server.c");
const ASYNCIO: &str = include_str!("../../peers/asyncio_server.py");

/// A peer, or why it is not on this machine.
pub(crate) type Availability<T> = Result<T, String>;

/// A Python that has asyncio.
pub(crate) fn find_asyncio() -> Availability<()> {
    let mut command = Command::new("python3");
    is_success(command.args(["-c", "import asyncio"]))
        .then_some(())
        .ok_or_else(|| "python3 with asyncio is not installed".to_owned())
}

pub(crate) fn asyncio_command(mode: Mode) -> Command {
    let mut command = Command::new("python3");
    command.args(["-c", ASYNCIO, mode.name()]);
    command
}

/// Compiles the libuv server.
pub(crate) fn find_libuv(folder: &Path) -> Availability<PathBuf> {
    let (source, program) = (folder.join("libuv_server.c"), folder.join("libuv_server"));
    fs::write(&source, LIBUV).map_err(|error| format!("its source cannot be written: {error}"))?;
    let mut command = Command::new("cc");
    command.arg("-O2").arg("-o").arg(&program).arg(&source).arg("-luv");
    is_success(&mut command)
        .then_some(program)
        .ok_or_else(|| "cc or libuv with its headers is not installed".to_owned())
}

/// The first line of an nginx configuration that loads the stream module, if it must be loaded.
pub(crate) fn find_nginx() -> Availability<String> {
    let output = Command::new("nginx").arg("-V").output().map_err(|_| "no nginx on PATH".to_owned())?;
    let build = String::from_utf8_lossy(&output.stderr).into_owned();
    let has_option = |option: &str| build.split_whitespace().any(|word| word == option);
    if has_option("--with-stream") {
        return Ok(String::new());
    }
    let folder = build.split_whitespace().find_map(|word| word.strip_prefix("--modules-path="));
    let module = folder.map(|folder| Path::new(folder).join("ngx_stream_module.so")).filter(|path| path.exists());
    let module = module.ok_or_else(|| "this nginx has no stream module".to_owned())?;
    Ok(format!("load_module {};\n", module.display()))
}

/// Starts nginx in one process. nginx cannot choose a port itself, and cannot answer lines.
pub(crate) fn start_nginx(
    folder: &Path,
    preamble: &str,
    mode: Mode,
    target: Option<SocketAddr>,
) -> io::Result<Option<ServerProcess>> {
    let (address, listen_options, action) = match mode {
        Mode::Once => (free_tcp_address()?, "backlog=4096", "return \"Hello, TCP Client!\"".to_owned()),
        Mode::Udp | Mode::UdpGso => {
            (UdpSocket::bind("127.0.0.1:0")?.local_addr()?, "udp", "return \"Hello, UDP Client!\"".to_owned())
        }
        Mode::Lines | Mode::Echo | Mode::Proxy | Mode::FanOut => {
            let Some(target) = target else { return Ok(None) };
            (free_tcp_address()?, "", format!("proxy_pass {target}"))
        }
    };
    let file = folder.join("nginx.conf");
    let configuration = format!(
        "{preamble}daemon off;\nmaster_process off;\npid nginx.pid;\nevents {{ worker_connections 8192; }}\n\
         stream {{ server {{ listen {address} {listen_options}; {action}; }} }}\n"
    );
    fs::write(&file, configuration)?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(folder).arg("-c").arg(&file).arg("-e").arg(folder.join("nginx.log"));
    ServerProcess::start_at(command, address, mode).map(Some)
}

/// An address that was free a moment ago.
fn free_tcp_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// An HAProxy.
pub(crate) fn find_haproxy() -> Availability<()> {
    let mut command = Command::new("haproxy");
    is_success(command.arg("-v")).then_some(()).ok_or_else(|| "no haproxy on PATH".to_owned())
}

/// Starts HAProxy with one thread, as a TCP proxy. HAProxy cannot choose a port itself.
pub(crate) fn start_haproxy(folder: &Path, target: SocketAddr) -> io::Result<ServerProcess> {
    let (address, file) = (free_tcp_address()?, folder.join("haproxy.cfg"));
    let configuration = format!(
        "global\n    nbthread 1\n    maxconn 1000\n\
         defaults\n    mode tcp\n    timeout connect 2s\n    timeout client 60s\n    timeout server 60s\n\
         listen proxy\n    bind {address}\n    server backend {target}\n"
    );
    fs::write(&file, configuration)?;
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-q").arg("-f").arg(&file);
    ServerProcess::start_at(command, address, Mode::Proxy)
}

fn is_success(command: &mut Command) -> bool {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
