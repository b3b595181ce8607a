//! Server processes under measurement: started, asked for their CPU time, ended.

use anyhow::Context;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeValLike;
use nix::unistd::Pid;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// How long a server may take to end when it is asked to.
const PATIENCE: Duration = Duration::from_secs(20);

/// CPU time of a process.
pub(crate) struct Cpu {
    tasks: PathBuf,
}

impl Cpu {
    /// Of the process `pid`.
    pub(crate) fn of(pid: u32) -> Self {
        Self {
            tasks: format!("/proc/{pid}/task").into(),
        }
    }

    /// CPU time of its live threads so far, user and system. To the nanosecond, where the counters
    /// of /proc/PID/stat are as coarse as the clock tick.
    pub(crate) fn used(&self) -> anyhow::Result<Duration> {
        let mut total = 0;
        for task in fs::read_dir(&self.tasks).context("the server has ended")? {
            // A thread may end between the two.
            let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else {
                continue;
            };
            let first = text.split_whitespace().next().unwrap_or_default();
            total += first.parse::<u64>().context("no number in schedstat")?;
        }
        Ok(Duration::from_nanos(total))
    }
}

/// CPU time of this process so far.
pub(crate) fn own_cpu() -> Duration {
    getrusage(UsageWho::RUSAGE_SELF).map_or(Duration::ZERO, |usage| {
        let us = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
        Duration::from_micros(us.unsigned_abs())
    })
}

/// A server; ended when dropped.
pub(crate) struct Server {
    child: Child,
}

impl Server {
    /// Starts a program.
    pub(crate) fn start(command: &mut Command) -> anyhow::Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self { child })
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    pub(crate) fn cpu(&self) -> Cpu {
        Cpu::of(self.child.id())
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended on its own; then there is nothing to do.
        let _ = kill(self.pid(), Signal::SIGTERM);
        let by = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < by {
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
