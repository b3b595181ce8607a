//! The end of an engine's process.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;
use tokio::process::Child;
use tokio::time::timeout;

/// How long a process may take for its last words.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Ends a process that does not come back: first in a way that lets it say which plugin it is in.
pub(super) async fn end_with_words(child: &mut Child, pid: u32) {
    let asked = signal(pid, Signal::SIGABRT);
    if !asked || timeout(LAST_WORDS, child.wait()).await.is_err() {
        terminate(child, pid, Duration::ZERO).await;
    }
}

fn signal(pid: u32, signal: Signal) -> bool {
    i32::try_from(pid).is_ok_and(|pid| kill(Pid::from_raw(pid), signal).is_ok())
}

/// Asks the process to end and waits; kills it when it takes longer than `grace`. Returns whether
/// it was killed.
pub(super) async fn terminate(child: &mut Child, pid: u32, grace: Duration) -> bool {
    if !grace.is_zero()
        && signal(pid, Signal::SIGTERM)
        && timeout(grace, child.wait()).await.is_ok()
    {
        return false;
    }
    // Fails only if the process is gone already.
    let _ = child.kill().await;
    true
}

/// How a process ended, in words.
pub(super) fn describe_exit(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it exited with status {code}"),
        (None, Some(signal)) => match Signal::try_from(signal) {
            Ok(signal) => format!("it was killed by {signal}"),
            Err(_) => format!("it was killed by signal {signal}"),
        },
        (None, None) => status.to_string(),
    }
}
