//! Shared memory that killed processes left behind.
//!
//! Provider shm keeps the memory of an endpoint in `/dev/shm/PID:DOMAIN:ENDPOINT` and removes it when the
//! endpoint is closed (libfabric's `prov/shm/src/smr_util.h`). A process that is killed closes nothing, and
//! its files, megabytes each, would stay until the machine is started anew. So whoever opens the provider
//! removes those of dead processes.
//!
//! Processes that share `/dev/shm` must share their numbers, too: the provider itself names files and reads
//! memory by them.

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::{Pid, geteuid};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Once;

const DIRECTORY: &str = "/dev/shm";
/// The memory begins with a header that has the process's number in it; where, differs by version.
const HEADER: usize = 64;

/// Removes what dead processes left, once per process and before its first endpoint.
pub(super) fn remove_once() {
    static DONE: Once = Once::new();
    DONE.call_once(|| {
        let removed = remove(Path::new(DIRECTORY), std::process::id());
        if removed > 0 {
            tracing::info!(
                removed,
                "removed shared memory of processes that were killed"
            );
        }
    });
}

/// Removes files of processes that are no more, and those of `own`, which has made none yet: it only has
/// the number of a dead one. Returns how many.
fn remove(directory: &Path, own: u32) -> usize {
    // Without the directory there is nothing to remove, nor could the provider work.
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut removed = 0;
    for entry in entries {
        let name = entry.file_name();
        let Some(process) = name.to_str().and_then(process_of) else {
            continue;
        };
        if process != own && !is_dead(process) {
            continue;
        }
        match remove_one(&entry.path(), process) {
            Ok(true) => removed += 1,
            Ok(false) => {}
            // Another process may have been faster; the next one tries again.
            Err(error) => {
                tracing::debug!(path = %entry.path().display(), %error, "shared memory stays")
            }
        }
    }
    removed
}

/// What the provider looks at of an address: what follows the first `://`, or all of it.
pub(super) fn without_scheme(address: &str) -> &str {
    address.split_once("://").map_or(address, |(_, name)| name)
}

/// Name of the file of an endpoint with this address, `fi_shm://PID:N:N` and a zero.
pub(super) fn file_of(address: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(address.strip_suffix(&[0])?).ok()?;
    let name = without_scheme(text);
    process_of(name).map(|_| name)
}

/// Removes the file of an endpoint of this process that is closed; libfabric does so, too, but perhaps later.
pub(super) fn remove_closed(address: &[u8]) {
    if let Some(name) = file_of(address) {
        // It may be gone already.
        let _ = fs::remove_file(Path::new(DIRECTORY).join(name));
    }
}

/// Whether an endpoint of this process with this address has a file.
pub(super) fn has_file(address: &[u8]) -> bool {
    file_of(address).is_some_and(|name| Path::new(DIRECTORY).join(name).exists())
}

/// The process of a file called `PID:N:N`.
fn process_of(name: &str) -> Option<u32> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let parts: Vec<&str> = name.split(':').collect();
    let [process, domain, endpoint] = parts[..] else {
        return None;
    };
    let is_ours = is_number(process) && is_number(domain) && is_number(endpoint);
    process.parse().ok().filter(|pid| is_ours && *pid > 0)
}

/// Whether there is no such process. Not by `/proc`, which may hide those of others.
fn is_dead(process: u32) -> bool {
    let number = i32::try_from(process).unwrap_or(i32::MAX);
    kill(Pid::from_raw(number), None) == Err(Errno::ESRCH)
}

/// Removes a file if it is the provider's: a regular one, the caller's unless that is root, with the number of
/// `process` in its header.
fn remove_one(path: &Path, process: u32) -> std::io::Result<bool> {
    let mut file = File::options()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    let found = file.metadata()?;
    let user = geteuid();
    if !found.is_file() || !(user.is_root() || found.uid() == user.as_raw()) {
        return Ok(false);
    }
    let mut header = [0; HEADER];
    // Shorter ones are not the provider's.
    if file.read_exact(&mut header).is_err() {
        return Ok(false);
    }
    let (words, _) = header.as_chunks::<4>();
    if !words
        .iter()
        .any(|word| u32::from_ne_bytes(*word) == process)
    {
        return Ok(false);
    }
    // Not what somebody put in its place meanwhile.
    let now = fs::symlink_metadata(path)?;
    if (now.dev(), now.ino()) != (found.dev(), found.ino()) {
        return Ok(false);
    }
    fs::remove_file(path)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of a process that has ended.
    fn dead() -> u32 {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        child.id()
    }

    #[test]
    fn only_the_providers_files_of_dead_processes_go() {
        let scratch = tempfile::tempdir().unwrap();
        let (own, dead, alive) = (
            std::process::id(),
            dead(),
            std::os::unix::process::parent_id(),
        );
        let put = |name: String, header: u32| {
            let mut bytes = vec![0; 4096];
            bytes[8..12].copy_from_slice(&header.to_ne_bytes());
            fs::write(scratch.path().join(&name), bytes).unwrap();
            name
        };
        let goes = [
            put(format!("{dead}:0:0"), dead),
            put(format!("{own}:0:3"), own),
        ];
        let mut stays = vec![
            put(format!("{alive}:0:0"), alive),
            // Not the provider's, by name or by content.
            put(format!("{dead}:0"), dead),
            put(format!("{dead}:0:0:0"), dead),
            put(format!("{dead}:0:x"), dead),
            put(format!("0{dead}x:0:0"), dead),
            put(format!("{dead}:1:0"), dead + 1),
            put("0:0:0".to_owned(), 0),
        ];
        let short = format!("{dead}:2:0");
        fs::write(scratch.path().join(&short), dead.to_ne_bytes()).unwrap();
        stays.push(short);
        let link = format!("{dead}:3:0");
        std::os::unix::fs::symlink(scratch.path().join(&stays[0]), scratch.path().join(&link))
            .unwrap();
        stays.push(link);
        let directory = format!("{dead}:4:0");
        fs::create_dir(scratch.path().join(&directory)).unwrap();
        stays.push(directory);

        assert_eq!(remove(scratch.path(), own), goes.len());
        for name in goes {
            assert!(!scratch.path().join(&name).exists(), "{name}");
        }
        for name in stays {
            let path = scratch.path().join(&name);
            assert!(fs::symlink_metadata(path).is_ok(), "{name}");
        }
        assert_eq!(remove(&scratch.path().join("missing"), own), 0);
    }
}
