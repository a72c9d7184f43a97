//! The compared servers: how each starts, and which are missing here.

pub(crate) mod builtin;
pub(crate) mod foreign;
pub(crate) mod process;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use clap::ValueEnum;
use tempfile::TempDir;

use crate::servers::builtin::Builtin;
use crate::servers::foreign::Availability;
use crate::servers::process::ServerProcess;
use crate::workload::Mode;

/// A server to compare, in the order of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Server {
    /// The fastest that was found, in each workload.
    Floor,
    /// A bare epoll loop without tricks.
    Plain,
    /// halloo as an embedder uses it.
    Library,
    /// The `halloo` program.
    Binary,
    /// Another build of it, by `--other-program`.
    #[value(skip)]
    OtherBinary,
    Libuv,
    Tokio,
    Mio,
    Nginx,
    Haproxy,
    Asyncio,
}

impl Server {
    pub(crate) const ALL: [Self; 11] = [
        Self::Floor,
        Self::Plain,
        Self::Library,
        Self::Binary,
        Self::OtherBinary,
        Self::Libuv,
        Self::Tokio,
        Self::Mio,
        Self::Nginx,
        Self::Haproxy,
        Self::Asyncio,
    ];

    /// The name in the tables.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Floor => "floor: the fastest loop",
            Self::Plain => "epoll, a plain loop",
            Self::Library => "halloo, the library",
            Self::Binary => "halloo, the program",
            Self::OtherBinary => "halloo, the other program",
            Self::Libuv => "libuv",
            Self::Tokio => "tokio, one thread",
            Self::Mio => "mio as in its examples",
            Self::Nginx => "nginx, stream module",
            Self::Haproxy => "HAProxy, one thread",
            Self::Asyncio => "Python asyncio",
        }
    }
}

/// The programs and the folder with which servers start.
pub(crate) struct Environment {
    executable: PathBuf,
    /// The folder where peers are compiled and configured, removed at the end.
    folder: TempDir,
    binary: Availability<PathBuf>,
    other_binary: Availability<PathBuf>,
    libuv: Availability<PathBuf>,
    nginx: Availability<String>,
    haproxy: Availability<()>,
    asyncio: Availability<()>,
}

impl Environment {
    /// Builds the servers of this repository, and finds the others.
    pub(crate) fn prepare(servers: &[Server], other_program: Option<PathBuf>) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("comparison-").tempdir()?;
        let is_chosen = |server| servers.contains(&server);
        let not_chosen = "not chosen";
        Ok(Self {
            executable: std::env::current_exe()?,
            binary: if is_chosen(Server::Binary) { build("halloo") } else { Err(not_chosen.into()) },
            other_binary: other_program.ok_or_else(|| not_chosen.into()),
            libuv: if is_chosen(Server::Libuv) { foreign::find_libuv(folder.path()) } else { Err(not_chosen.into()) },
            nginx: if is_chosen(Server::Nginx) { foreign::find_nginx() } else { Err(not_chosen.into()) },
            haproxy: if is_chosen(Server::Haproxy) { foreign::find_haproxy() } else { Err(not_chosen.into()) },
            asyncio: if is_chosen(Server::Asyncio) { foreign::find_asyncio() } else { Err(not_chosen.into()) },
            folder,
        })
    }

    /// Why a server is not on this machine.
    pub(crate) fn unavailable_reason(&self, server: Server) -> Option<&str> {
        let reason = match server {
            Server::Floor | Server::Plain | Server::Library | Server::Tokio | Server::Mio => None,
            Server::Binary => self.binary.as_ref().err(),
            Server::OtherBinary => self.other_binary.as_ref().err(),
            Server::Libuv => self.libuv.as_ref().err(),
            Server::Nginx => self.nginx.as_ref().err(),
            Server::Haproxy => self.haproxy.as_ref().err(),
            Server::Asyncio => self.asyncio.as_ref().err(),
        };
        reason.map(String::as_str)
    }

    /// Starts a server, and the backend of a proxy; `None` if it cannot do this.
    pub(crate) fn start(&self, server: Server, mode: Mode) -> io::Result<Option<ServerProcess>> {
        self.start_wrapped(server, mode, |command| command)
    }

    /// The same with a change of the command of a server that prints its address.
    pub(crate) fn start_wrapped(
        &self,
        server: Server,
        mode: Mode,
        wrap: impl FnOnce(Command) -> Command,
    ) -> io::Result<Option<ServerProcess>> {
        let mode = if mode == Mode::UdpGso && server != Server::Floor { Mode::Udp } else { mode };
        if mode != Mode::Proxy {
            return self.start_server(server, mode, None, wrap);
        }
        let mut command = Command::new(&self.executable);
        command.arg("backend");
        let backend = ServerProcess::start(command)?;
        let proxy = self.start_server(server, mode, Some(backend.address), wrap)?;
        Ok(proxy.map(|proxy| proxy.with_backend(backend)))
    }

    fn start_server(
        &self,
        server: Server,
        mode: Mode,
        target: Option<SocketAddr>,
        wrap: impl FnOnce(Command) -> Command,
    ) -> io::Result<Option<ServerProcess>> {
        match server {
            Server::Nginx => {
                let preamble = self.nginx.as_ref().map_err(unavailable)?;
                foreign::start_nginx(self.folder.path(), preamble, mode, target)
            }
            Server::Haproxy => target.map(|target| foreign::start_haproxy(self.folder.path(), target)).transpose(),
            _ => {
                let command = self.command(server, mode, target)?;
                command.map(|command| ServerProcess::start(wrap(command))).transpose()
            }
        }
    }

    /// The command of a server that prints its address; `None` if it cannot do this.
    fn command(&self, server: Server, mode: Mode, target: Option<SocketAddr>) -> io::Result<Option<Command>> {
        let command = match server {
            Server::Floor => self.builtin(Builtin::Floor, mode, target),
            Server::Library => self.builtin(Builtin::Library, mode, target),
            Server::Tokio => self.builtin(Builtin::Tokio, mode, target),
            Server::Mio | Server::Plain if mode.is_bulk() => return Ok(None),
            Server::Plain => self.builtin(Builtin::Plain, mode, target),
            Server::Mio => self.builtin(Builtin::Mio, mode, target),
            Server::Binary | Server::OtherBinary => {
                let (protocol, server_mode) = match mode {
                    Mode::Once => ("--tcp", "greet"),
                    Mode::Lines => ("--tcp", "line"),
                    Mode::Udp | Mode::UdpGso => ("--udp", "greet"),
                    Mode::Echo => ("--tcp", "echo"),
                    Mode::Proxy | Mode::FanOut => return Ok(None),
                };
                let program = if server == Server::Binary { &self.binary } else { &self.other_binary };
                let mut command = Command::new(program.as_ref().map_err(unavailable)?);
                command.args([protocol, "127.0.0.1:0", "--mode", server_mode, "--events", "off", "-q"]);
                command
            }
            Server::Libuv | Server::Asyncio if matches!(mode, Mode::Proxy | Mode::FanOut) => return Ok(None),
            Server::Libuv => {
                let mut command = Command::new(self.libuv.as_ref().map_err(unavailable)?);
                command.arg(mode.name());
                command
            }
            Server::Asyncio => foreign::asyncio_command(mode),
            Server::Nginx | Server::Haproxy => return Ok(None),
        };
        Ok(Some(command))
    }

    /// Starts a server with many UDP sockets. Its address is that of the first.
    pub(crate) fn start_many_sockets(&self, server: Server, sockets: usize) -> io::Result<ServerProcess> {
        let name = if server == Server::Floor { "floor" } else { "library" };
        let mut command = Command::new(&self.executable);
        command.args(["serve-sockets", name, &sockets.to_string()]);
        ServerProcess::start(command)
    }

    fn builtin(&self, server: Builtin, mode: Mode, target: Option<SocketAddr>) -> Command {
        let name = server.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let mut command = Command::new(&self.executable);
        command.args(["serve", &name, mode.name()]).args(target.map(|target| target.to_string()));
        command
    }

    /// The path of the `halloo` program.
    pub(crate) fn binary(&self) -> io::Result<&PathBuf> {
        self.binary.as_ref().map_err(unavailable)
    }
}

fn unavailable(reason: impl Into<String>) -> io::Error {
    io::Error::other(reason.into())
}

/// The cargo that built this program.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into()));
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    command
}

/// Builds a program of this repository for release, and returns its path.
pub(crate) fn build(program: &str) -> Availability<PathBuf> {
    let package = if program == "halloo" { "halloo-server" } else { "comparison" };
    let mut command = cargo();
    command.args(["build", "--release", "--quiet", "--locked", "--package", package, "--bin", program]);
    command.args(["--message-format", "json-render-diagnostics"]);
    let output = command.stderr(Stdio::inherit()).output().map_err(|error| format!("cargo does not start: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo could not build {program}"));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let path = messages.lines().rev().find_map(|line| line.split_once("\"executable\":\"")?.1.split('"').next());
    path.map(PathBuf::from).ok_or_else(|| format!("cargo printed no path of {program}"))
}
