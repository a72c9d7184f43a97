//! The CPUs of this machine, and the CPU affinity of each process.

use std::ops::Range;
use std::process::{Command, Stdio};
use std::{fs, io};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The processors that this program may use.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    cores: Vec<usize>,
    /// False without `chrt`: then server and clients interrupt each other, and figures vary more.
    pub(crate) is_batch: bool,
}

impl Machine {
    /// Finds the CPUs, and makes this process and its children batch jobs.
    pub(crate) fn prepare() -> io::Result<Self> {
        let affinity = sched_getaffinity(None)?;
        let cores = (0..CpuSet::MAX_CPU).filter(|core| affinity.is_set(*core)).collect();
        let pid = std::process::id().to_string();
        let mut command = Command::new("chrt");
        command.args(["--batch", "--all-tasks", "--pid", "0", &pid]).stdout(Stdio::null()).stderr(Stdio::null());
        let is_batch = command.status().is_ok_and(|status| status.success());
        Ok(Self { cores, is_batch })
    }

    /// Pins this thread, and processes that it starts from now on, to the core of the servers.
    pub(crate) fn pin_to_server_core(&self) -> io::Result<()> {
        pin(&self.cores[..1])
    }

    /// Pins this thread, and the server behind a proxy, to a core without a measured server; false if there is none.
    pub(crate) fn pin_to_client_core(&self, backend: Option<u32>) -> io::Result<bool> {
        let Some(core) = self.cores.get(1) else { return Ok(false) };
        pin(&[*core])?;
        let backend = backend.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        if backend.is_some() {
            sched_setaffinity(backend, &cpu_set(&[*core]))?;
        }
        Ok(true)
    }

    /// Pins this thread, and processes that it starts from now on, to these of the cores.
    pub(crate) fn pin_to(&self, cores: Range<usize>) -> io::Result<()> {
        pin(&self.cores[cores])
    }

    /// Lets this thread, and processes that it starts from now on, run on all cores.
    pub(crate) fn unpin(&self) -> io::Result<()> {
        pin(&self.cores)
    }

    /// The system and the processor, for readers of the figures.
    pub(crate) fn describe(&self) -> String {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let model = model.map_or("an unknown processor", |(_, model)| model.trim());
        let release = release.trim().split('-').next().unwrap_or_default();
        format!("Linux {release}, cores: {}, {model}", self.cores.len())
    }

    pub(crate) fn cores(&self) -> usize {
        self.cores.len()
    }
}

fn pin(cores: &[usize]) -> io::Result<()> {
    Ok(sched_setaffinity(None, &cpu_set(cores))?)
}

fn cpu_set(cores: &[usize]) -> CpuSet {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core);
    }
    set
}

/// Raises the soft limit on descriptors to the hard one, which child processes inherit; returns it.
pub(crate) fn raise_fd_limit() -> io::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(limit.maximum.unwrap_or(1 << 20))
}
