//! Which CPUs there are, and which process runs on which.

use std::process::{Command, Stdio};
use std::{fs, io};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The processors that this program may use.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    cores: Vec<usize>,
    /// False where `chrt` is missing: then wake-ups of one side interrupt the other, and figures swing more.
    pub(crate) is_batch: bool,
}

impl Machine {
    /// Looks around, and makes this process and all that it starts a batch job.
    pub(crate) fn prepare() -> io::Result<Self> {
        let affinity = sched_getaffinity(None)?;
        let cores = (0..CpuSet::MAX_CPU).filter(|core| affinity.is_set(*core)).collect();
        let pid = std::process::id().to_string();
        let mut command = Command::new("chrt");
        command.args(["--batch", "--all-tasks", "--pid", "0", &pid]).stdout(Stdio::null()).stderr(Stdio::null());
        let is_batch = command.status().is_ok_and(|status| status.success());
        Ok(Self { cores, is_batch })
    }

    /// Puts this thread, and what it starts from now on, where servers run.
    pub(crate) fn pin_to_server_core(&self) -> io::Result<()> {
        pin(&self.cores[..1])
    }

    /// Puts this thread where no server runs; false if there is no such place.
    pub(crate) fn pin_to_client_core(&self) -> io::Result<bool> {
        let Some(core) = self.cores.get(1) else { return Ok(false) };
        pin(&[*core])?;
        Ok(true)
    }

    /// Lets this thread, and what it starts from now on, run wherever it may.
    pub(crate) fn unpin(&self) -> io::Result<()> {
        pin(&self.cores)
    }

    /// The system and the processor, for whoever reads the figures elsewhere.
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
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core);
    }
    Ok(sched_setaffinity(None, &set)?)
}

/// Raises the limit on descriptors as far as it may go, for what is started from now on too; returns it.
pub(crate) fn raise_fd_limit() -> io::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(limit.maximum.unwrap_or(1 << 20))
}
