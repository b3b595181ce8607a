//! Starts an engine's process, or a responder's. Has `unsafe` for what runs between fork and exec.

use crate::owner::Owner;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::path::Path;
use std::process::Stdio;
use tokio::process::{Child, Command};

/// Starts `program` with a clean environment. The child is killed when this thread ends, so the
/// server must start engines from the thread that lives as long as itself. The child has the descriptor `keep` under the same
/// number.
///
/// # Errors
/// What fork or exec say.
pub(crate) fn spawn(
    program: &Path,
    arguments: &[OsString],
    environment: &[(String, OsString)],
    owner: Option<&Owner>,
    input: Stdio,
    keep: Option<BorrowedFd<'_>>,
) -> io::Result<Child> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    for name in super::command::PASSED_ON {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command.kill_on_drop(true);
    if let Some(owner) = owner {
        // Before what is below: a change of user takes the death signal away.
        command.uid(owner.uid).gid(owner.gid);
    }
    let parent = nix::unistd::getpid();
    let keep = keep.map(|descriptor| descriptor.as_raw_fd());
    // SAFETY: the closure runs in the forked child before exec; it makes four system calls and
    // allocates nothing.
    unsafe {
        command.pre_exec(move || {
            if let Some(descriptor) = keep
                && nix::libc::fcntl(descriptor, nix::libc::F_SETFD, 0) < 0
            {
                return Err(io::Error::last_os_error());
            }
            nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
            // Rights that a server of an ordinary user was given are its helpers'. A kernel without such rights says so,
            // and has none to take away.
            nix::libc::prctl(
                nix::libc::PR_CAP_AMBIENT,
                nix::libc::PR_CAP_AMBIENT_CLEAR_ALL,
                0,
                0,
                0,
            );
            // The server may have died before the call above took effect.
            if nix::unistd::getppid() != parent {
                return Err(io::Error::from(io::ErrorKind::BrokenPipe));
            }
            Ok(())
        });
    }
    command.spawn()
}
