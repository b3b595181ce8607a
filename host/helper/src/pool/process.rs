//! A helper process and the thread that guards it.
//!
//! The guard starts the process and waits for its end, whatever becomes of the runtime. Before it
//! reaps the process it kills the rest of its process group: what the plugin started and left.

use crate::error::Death;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;

/// Longest that dropping a process may take; only one in an uninterruptible sleep takes longer.
const REAP: Duration = Duration::from_secs(2);

/// A running, or ended, helper.
pub(super) struct Process {
    pid: Pid,
    /// Whether signals may be sent: false once the process is about to be reaped.
    signalable: Arc<Mutex<bool>>,
    ended: watch::Receiver<Option<Death>>,
    reaped: Mutex<mpsc::Receiver<()>>,
    guard: Option<JoinHandle<()>>,
}

/// What a new process is connected to.
pub(super) struct Started {
    pub(super) process: Process,
    pub(super) connection: UnixStream,
    pub(super) output: OwnedFd,
}

/// Starts a helper.
pub(super) fn start(
    program: &std::path::Path,
    plugin: &str,
    environment: &[(std::ffi::OsString, std::ffi::OsString)],
) -> io::Result<Started> {
    let (connection, theirs) = UnixStream::pair()?;
    let (output, input) = io::pipe()?;
    let mut command = Command::new(program);
    command
        .arg(plugin)
        .arg("--parent")
        .arg(std::process::id().to_string())
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .env("LC_ALL", "C")
        .envs(environment.iter().map(|(k, v)| (k, v)))
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(input.try_clone()?)
        .stderr(input);
    let (started, start) = mpsc::channel();
    let (reaped_sender, reaped) = mpsc::channel();
    let (ended_sender, ended) = watch::channel(None);
    let signalable = Arc::new(Mutex::new(true));
    let shared = Arc::clone(&signalable);
    let guard = std::thread::Builder::new()
        .name("helper-guard".to_owned())
        .spawn(move || {
            let spawned = command.spawn();
            // Closes this side's copies of the child's descriptors: ends of stream depend on it.
            drop(command);
            match spawned {
                Ok(child) => {
                    let _ = started.send(Ok(child.id()));
                    let death = wait(child, &shared);
                    ended_sender.send_replace(Some(death));
                    let _ = reaped_sender.send(());
                }
                Err(e) => {
                    let _ = started.send(Err(e));
                }
            }
        })?;
    let pid = start
        .recv()
        .map_err(|_| io::Error::other("the guarding thread ended"))??;
    Ok(Started {
        process: Process {
            pid: Pid::from_raw(pid as i32),
            signalable,
            ended,
            reaped: Mutex::new(reaped),
            guard: Some(guard),
        },
        connection,
        output: output.into(),
    })
}

/// Waits for the process to end, kills what is left of its group, reaps it.
fn wait(mut child: Child, signalable: &Mutex<bool>) -> Death {
    let pid = Pid::from_raw(child.id() as i32);
    // Not reaped yet, so that the number of its group cannot belong to anybody else.
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    while waitid(Id::Pid(pid), flags) == Err(nix::errno::Errno::EINTR) {}
    {
        let mut signalable = signalable.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = killpg(pid, Signal::SIGKILL);
        *signalable = false;
    }
    match child.wait() {
        Ok(status) => match (status.signal(), status.code()) {
            (Some(signal), _) => Death::Signal(signal),
            (None, Some(code)) => Death::Exit(code),
            (None, None) => Death::Unknown,
        },
        Err(_) => Death::Unknown,
    }
}

impl Process {
    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw() as u32
    }

    /// Kills the process and its group.
    pub(super) fn kill(&self) {
        let signalable = self
            .signalable
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if *signalable {
            // Fails if the process is gone, which is as well.
            let _ = killpg(self.pid, Signal::SIGKILL);
        }
    }

    /// How it ended, once it has.
    pub(super) async fn ended(&self) -> Death {
        let mut ended = self.ended.clone();
        let death = ended.wait_for(Option::is_some).await.map(|death| *death);
        death.ok().flatten().unwrap_or(Death::Unknown)
    }

    /// Whether it runs.
    pub(super) fn is_running(&self) -> bool {
        self.ended.borrow().is_none()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        let reaped = self
            .reaped
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if reaped.recv_timeout(REAP) == Err(mpsc::RecvTimeoutError::Timeout) {
            tracing::error!("helper process {} does not die", self.pid);
            return;
        }
        if let Some(guard) = self.guard.take() {
            let _ = guard.join();
        }
    }
}
