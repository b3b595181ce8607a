//! What a helper does to itself before anything else: it refuses rights of its file, ties its life to the
//! daemon's, and hides its connection from the plugin.

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, dup2_stdin, getegid, geteuid, getgid, getpgrp, getpid, getppid, getuid};
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Refuses rights that whoever started this process lacks.
pub(super) fn refuse_rights() -> Result<(), String> {
    // This program takes a plugin's path, settings and allow list from whoever starts it, and has
    // plugins built in. With another's rights that would be a way to run anything as root. A
    // privileged helper is a program of its own, which reads a root-owned config instead.
    if getuid() != geteuid() || getgid() != getegid() {
        return Err(format!(
            "refusing to run setuid or setgid (user {} as {}); remove the bit with `chmod ug-s`, \
             and start the daemon as root where devices need it",
            getuid(),
            geteuid()
        ));
    }
    if !has_own_rights(std::fs::read("/proc/self/auxv").ok().as_deref()) {
        return Err(
            "refusing to run with capabilities of its file, or from a file that this user may not read; take them away with \
             `setcap -r`, and start the daemon as root, or with ambient capabilities, where devices need it"
                .to_owned(),
        );
    }
    Ok(())
}

/// Prepares this process; returns the connection that came as standard input.
pub(super) fn enter(parent: u32) -> Result<UnixStream, String> {
    let failed = |what: &str, e: io::Error| format!("cannot {what}: {e}");
    let daemon = Pid::from_raw(i32::try_from(parent).unwrap_or(0));
    if getppid() != daemon {
        return Err("the daemon that started this process is gone".to_owned());
    }
    std::thread::spawn(move || watch(daemon));
    let stdin = io::stdin();
    let fd = stdin.as_fd();
    let stream = fd
        .try_clone_to_owned()
        .map(UnixStream::from)
        .and_then(|stream| stream.peer_addr().map(|_| stream))
        .map_err(|_| {
            "standard input is not a connection to a daemon; this program is started by daos_server"
                .to_owned()
        })?;
    // A plugin that reads standard input must not get the daemon's messages.
    let null = File::open("/dev/null").map_err(|e| failed("open /dev/null", e))?;
    dup2_stdin(&null).map_err(|e| failed("close standard input", e.into()))?;
    Ok(stream)
}

/// Whether this process has no more rights than whoever started it: the kernel says so in the auxiliary vector, which a process
/// that got more from its file cannot even read.
fn has_own_rights(auxiliary: Option<&[u8]>) -> bool {
    /// Key of the entry that is 1 for a process with rights of its file, see getauxval(3).
    const SECURE: usize = 23;
    const WORD: usize = size_of::<usize>();
    let Some(auxiliary) = auxiliary else {
        return false;
    };
    let word = |bytes: &[u8]| bytes.try_into().map(usize::from_ne_bytes).ok();
    let mut entries = auxiliary.chunks_exact(2 * WORD);
    entries.any(|entry| {
        let (key, value) = entry.split_at(WORD);
        word(key) == Some(SECURE) && word(value) == Some(0)
    })
}

/// Second way to notice the end of the daemon, beside that of the connection. Not the parent-death
/// signal: it would kill this process before it can kill what the plugin started.
fn watch(daemon: Pid) {
    while getppid() == daemon {
        std::thread::sleep(Duration::from_millis(500));
    }
    end_everything();
}

/// Ends this process at once, with everything that the plugin started and left in its process group.
/// Not by `exit`, whose handlers are partly the plugin's.
pub(super) fn end_everything() {
    if getpgrp() == getpid() {
        let _ = killpg(getpgrp(), Signal::SIGKILL);
    }
    let _ = kill(getpid(), Signal::SIGKILL);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_of_the_file_are_found_in_the_auxiliary_vector() {
        let vector = |entries: &[[usize; 2]]| -> Vec<u8> {
            let words = entries.iter().flatten();
            words.flat_map(|word| word.to_ne_bytes()).collect()
        };
        assert!(has_own_rights(Some(&vector(&[[6, 4096], [23, 0], [0, 0]]))));
        assert!(!has_own_rights(Some(&vector(&[
            [6, 4096],
            [23, 1],
            [0, 0]
        ]))));
        // What is not said is not believed.
        assert!(!has_own_rights(Some(&vector(&[[6, 23], [0, 0]]))));
        assert!(!has_own_rights(Some(&[])) && !has_own_rights(None));
        assert!(has_own_rights(
            std::fs::read("/proc/self/auxv").ok().as_deref()
        ));
    }
}
