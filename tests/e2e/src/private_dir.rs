//! Directories of tests, and their removal with everything that was mounted or attached below them.

use crate::process::{Finished, finish};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::kill;
use nix::unistd::{Gid, Pid, Uid, chown};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::time::Duration;

const PREFIX: &str = "daos-e2e.";

/// A directory that goes away with this value, and with it mounts and loop devices below it.
pub struct PrivateDir {
    path: PathBuf,
}

impl PrivateDir {
    /// Makes a directory of mode 0755 below `parent` that belongs to `owner`.
    ///
    /// # Panics
    /// It cannot be made.
    pub fn new(parent: &Path, owner: Option<(u32, u32)>) -> Self {
        static SWEEP: Once = Once::new();
        SWEEP.call_once(|| {
            sweep(&std::env::temp_dir());
            sweep(Path::new("/dev/shm"));
        });
        let made = tempfile::Builder::new()
            .prefix(&format!("{PREFIX}{}.", std::process::id()))
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir_in(parent)
            .unwrap_or_else(|e| panic!("cannot make a directory in {}: {e}", parent.display()));
        let dir = Self { path: made.keep() };
        let path = dir.path.clone();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .expect("mode of a directory of ours");
        dir.give(&path, owner);
        dir
    }

    fn give(&self, path: &Path, owner: Option<(u32, u32)>) {
        if let Some((uid, gid)) = owner {
            chown(path, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                .unwrap_or_else(|e| panic!("cannot give {} away: {e}", path.display()));
        }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for PrivateDir {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Removes what test programs left that were killed.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|n| n.strip_prefix(PREFIX));
        let pid = owner.and_then(|n| n.split('.').next()?.parse().ok());
        if pid.is_some_and(|pid| kill(Pid::from_raw(pid), None).is_err()) {
            remove(&entry.path());
        }
    }
}

/// Mount points below a directory, innermost first.
pub fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut mounts: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
        .filter(|path| path.starts_with(dir))
        .collect();
    mounts.reverse();
    mounts
}

fn remove(dir: &Path) {
    for mount in mounts_below(dir) {
        // Lazily: a process that is just dying may still hold it.
        if let Err(error) = umount2(&mount, MntFlags::MNT_DETACH) {
            eprintln!("cannot unmount {}: {error}", mount.display());
        }
    }
    for device in loop_devices_of(dir) {
        detach(&device);
    }
    if let Err(error) = fs::remove_dir_all(dir)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        eprintln!("cannot remove {}: {error}", dir.display());
    }
}

/// Loop devices whose file lies below a directory.
fn loop_devices_of(dir: &Path) -> Vec<PathBuf> {
    let mut devices = Vec::new();
    for entry in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let file = fs::read_to_string(entry.path().join("loop/backing_file"));
        if file.is_ok_and(|file| Path::new(file.trim_end()).starts_with(dir)) {
            devices.push(Path::new("/dev").join(entry.file_name()));
        }
    }
    devices
}

/// Detaches a loop device.
pub(crate) fn detach(device: &Path) {
    let mut command = Command::new("losetup");
    command.arg("--detach").arg(device);
    let Finished { code, stderr, .. } = finish(command, Duration::from_secs(10));
    if code != Some(0) {
        eprintln!("cannot detach {}: {stderr}", device.display());
    }
}
