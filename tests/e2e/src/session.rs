//! What happens between fork and exec of a server: besides `peer` the only `unsafe` of this
//! crate.

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::setsid;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Lets the command run in a session of its own, by which all its descendants can be found, and be killed
/// when the thread that starts it ends, so that a killed test takes it along.
pub(crate) fn in_own_session(command: &mut Command) {
    // SAFETY: the closure makes two system calls and allocates nothing.
    unsafe {
        command.pre_exec(|| {
            setsid()?;
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            Ok(())
        });
    }
}
