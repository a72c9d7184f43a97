//! Who is compared, how each is started, and which of them this machine does not have.

use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;

use clap::ValueEnum;

use crate::process::Running;
use crate::serve::Builtin;
use crate::workload::Mode;

/// A server to compare, in the order of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Server {
    /// The system calls alone.
    Floor,
    /// halloo as others embed it.
    Library,
    /// The `halloo` program.
    Binary,
    Tokio,
    Mio,
}

impl Server {
    pub(crate) const ALL: [Self; 5] = [Self::Floor, Self::Library, Self::Binary, Self::Tokio, Self::Mio];

    /// As the table calls it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Floor => "floor: bare epoll",
            Self::Library => "halloo, the library",
            Self::Binary => "halloo, the program",
            Self::Tokio => "tokio, one thread",
            Self::Mio => "mio as in its examples",
        }
    }
}

/// What starting a server needs to know.
pub(crate) struct Site {
    own: PathBuf,
    binary: PathBuf,
}

impl Site {
    /// Builds what is built from this repository, and looks for what is not.
    pub(crate) fn prepare(servers: &[Server]) -> io::Result<Self> {
        let own = std::env::current_exe()?;
        let mut binary = PathBuf::new();
        if servers.contains(&Server::Binary) {
            binary = build(&["--package", "halloo", "--bin", "halloo"], "halloo")?;
        }
        Ok(Self { own, binary })
    }

    /// Starts a server; `None` if it cannot do this.
    pub(crate) fn start(&self, server: Server, mode: Mode) -> io::Result<Option<Running>> {
        let builtin = match server {
            Server::Floor => Builtin::Floor,
            Server::Library => Builtin::Library,
            Server::Tokio => Builtin::Tokio,
            Server::Mio => Builtin::Mio,
            Server::Binary => {
                let (protocol, how) = match mode {
                    Mode::Once => ("--tcp", "greet"),
                    Mode::Lines => ("--tcp", "line"),
                    Mode::Udp => ("--udp", "greet"),
                };
                let mut command = Command::new(&self.binary);
                command.args([protocol, "127.0.0.1:0", "--mode", how, "--events", "off", "-q"]);
                return Running::start(command).map(Some);
            }
        };
        let name = builtin.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let mut command = Command::new(&self.own);
        command.args(["serve", &name, mode.name()]);
        Running::start(command).map(Some)
    }
}

/// Builds a program of this repository for release, and says where it lies.
fn build(what: &[&str], name: &str) -> io::Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--quiet", "--locked", "--manifest-path"]);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).args(what);
    command.args(["--message-format", "json-render-diagnostics"]);
    let output = command.stderr(std::process::Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!("cargo could not build {name}")));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let path = messages.lines().rev().find_map(|line| line.split_once("\"executable\":\"")?.1.split('"').next());
    path.map(PathBuf::from).ok_or_else(|| io::Error::other(format!("cargo does not say where {name} is")))
}
