//! HAProxy, nginx and dnsdist as child processes, with files of `examples/deploy`.
//!
//! An engine has its own folder, ports and configuration; a service of the same name on this machine does not matter.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::network::ports::{unused_port, wait_for_listener};
use support::process::child::{Process, run};
use tempfile::TempDir;

/// The text of a file of `examples/deploy` with other ports, paths and times. Each has to be there.
#[track_caller]
pub(crate) fn deployed(file: &str, substitutes: &[(&str, String)]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/deploy").join(file);
    let mut text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    for (documented, substitute) in substitutes {
        assert!(text.contains(documented), "{file} has no {documented}");
        text = text.replace(documented, substitute);
    }
    text
}

/// An engine, which ends with its test.
pub(crate) struct Engine {
    /// Where its clients connect.
    pub(crate) address: SocketAddr,
    _process: Process,
    /// Dropped after the process.
    _folder: TempDir,
}

/// An unused address of an engine or of a server behind it.
pub(crate) fn unused_address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, unused_port()))
}

/// A folder for the files of an engine, and the path of its configuration.
#[track_caller]
pub(crate) fn folder_with(configuration: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("engine.conf");
    fs::write(&path, configuration).expect("the folder is writable");
    (folder, path)
}

impl Engine {
    /// Starts HAProxy after it has checked its configuration, and waits until it listens.
    #[track_caller]
    pub(crate) fn haproxy(configuration: &str, address: SocketAddr) -> Self {
        let (folder, path) = folder_with(configuration);
        let arguments = |mode: &str| vec![mode.to_owned(), "-f".to_owned(), path.display().to_string()];
        Self::start("haproxy", &arguments("-c"), &arguments("-db"), address, folder)
    }

    /// Starts nginx with a `stream` block as one process, after it has checked it, and waits until it listens.
    #[track_caller]
    pub(crate) fn nginx(stream: &str, address: SocketAddr) -> Self {
        let (folder, path) = folder_with(stream);
        let main = folder.path().join("nginx.conf");
        let text = format!(
            "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\ndaemon off;\nmaster_process off;\n\
             pid nginx.pid;\nerror_log stderr;\nevents {{}}\ninclude {};\n",
            path.display()
        );
        fs::write(&main, text).expect("the folder is writable");
        let prefix = format!("{}/", folder.path().display());
        let arguments = ["-p", &prefix, "-c", &main.display().to_string(), "-e", "stderr"].map(str::to_owned);
        let check = [vec!["-t".to_owned()], arguments.to_vec()].concat();
        Self::start("nginx", &check, &arguments, address, folder)
    }

    /// Starts dnsdist after it has checked its configuration, and waits until it listens.
    #[track_caller]
    pub(crate) fn dnsdist(configuration: &str, address: SocketAddr) -> Self {
        let (folder, path) = folder_with(configuration);
        let path = path.display().to_string();
        let arguments = |modes: &[&str]| [modes, &["-C", &path]].concat().iter().map(ToString::to_string).collect();
        let (check, run): (Vec<String>, Vec<String>) =
            (arguments(&["--check-config"]), arguments(&["--supervised", "--disable-syslog"]));
        Self::start("dnsdist", &check, &run, address, folder)
    }

    #[track_caller]
    fn start(program: &str, check: &[String], arguments: &[String], address: SocketAddr, folder: TempDir) -> Self {
        let checked = run(command(program, check));
        assert_eq!(checked.status, 0, "{program} refuses its configuration: {}{}", checked.stdout, checked.stderr);
        let process = Process::spawn(command(program, arguments));
        wait_for_listener(address.port());
        Self { address, _process: process, _folder: folder }
    }
}

/// A program, which may be in a folder that only root has in its path.
fn command(program: &str, arguments: &[String]) -> Command {
    let mut command = Command::new(program);
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    command.args(arguments).env("PATH", path);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}
