//! The directory of unix sockets: held by one server at a time, and left as it was found.

use crate::owner::Owner;
use anyhow::{Context, bail};
use nix::fcntl::{Flock, FlockArg};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Name of the lock file; it holds the process id of the server.
const LOCK: &str = "daos_server.lock";

const ANOTHER: &str = "choose another with -d or `socket_dir:`";

/// Holds the directory. Dropping it removes the lock file and sockets that engines left.
pub(crate) struct SocketDir {
    dir: PathBuf,
    _lock: Flock<File>,
}

impl SocketDir {
    /// Makes the directory if only its last part is missing, takes it for this process, and removes
    /// sockets of engines that died with an earlier server.
    ///
    /// # Errors
    /// When it cannot be made or written to, or when another server has it.
    pub(crate) fn hold(dir: &Path, config: &Path, owner: Option<&Owner>) -> anyhow::Result<Self> {
        let made = !dir.is_dir();
        if made {
            if dir.symlink_metadata().is_ok() {
                bail!(
                    "socket directory {} is not a directory; remove it, or {ANOTHER}",
                    dir.display()
                );
            }
            DirBuilder::new().mode(0o755).create(dir).with_context(|| {
                format!(
                    "Unable to create socket directory: {0}; make it for this user (mkdir -p {0}; chown {1} {0}), \
                     or {ANOTHER}",
                    dir.display(),
                    nix::unistd::geteuid()
                )
            })?;
        }
        if let Some(owner) = owner {
            owner.take_directory(dir, made)?;
        }
        let lock = loop {
            let lock = lock(dir, config)?;
            // The holder before us may have removed the file between our open and our lock.
            let named = std::fs::metadata(dir.join(LOCK)).map(|m| m.ino()).ok();
            if named == Some(lock.metadata()?.ino()) {
                break lock;
            }
        };
        remove_engine_sockets(dir);
        Ok(Self {
            dir: dir.to_owned(),
            _lock: lock,
        })
    }
}

impl Drop for SocketDir {
    fn drop(&mut self) {
        remove_engine_sockets(&self.dir);
        // What cannot be removed is found, and reused, by the next server.
        let _ = std::fs::remove_file(self.dir.join(LOCK));
    }
}

fn lock(dir: &Path, config: &Path) -> anyhow::Result<Flock<File>> {
    let path = dir.join(LOCK);
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .with_context(|| {
            format!(
                "permissions failure accessing socket directory {0}; give it to this user (chown {1} {0}), or \
                 {ANOTHER}",
                dir.display(),
                nix::unistd::geteuid()
            )
        })?;
    let mut holder = String::new();
    // Only for the message; an unreadable holder is "unknown".
    let _ = file.read_to_string(&mut holder);
    let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => lock,
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => bail!(
            "{} is in use: daos_server with process id {} runs already there; stop it, or give {} a socket_dir of \
             its own",
            dir.display(),
            holder.lines().next().unwrap_or("unknown"),
            config.display()
        ),
        Err((_, error)) => bail!("cannot lock {}: {error}", path.display()),
    };
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())?;
    Ok(lock)
}

/// Removes the sockets of engines; only a server that holds the directory may.
fn remove_engine_sockets(dir: &Path) {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("daos_engine_") && name.ends_with(".sock") {
            // One that stays is in nobody's way: names carry process ids.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_at_a_time_and_nothing_left_behind() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("sockets");
        let config = Path::new("c.yml");
        let first = SocketDir::hold(&dir, config, None).unwrap();
        std::fs::write(dir.join("daos_engine_1.sock"), "").unwrap();
        let refused = SocketDir::hold(&dir, config, None)
            .err()
            .unwrap()
            .to_string();
        assert!(
            refused.contains(&std::process::id().to_string()),
            "{refused}"
        );
        drop(first);
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
        drop(SocketDir::hold(&dir, config, None).unwrap());
    }

    #[test]
    fn a_missing_parent_is_an_error_with_the_way_out() {
        let parent = tempfile::tempdir().unwrap();
        let refused = SocketDir::hold(&parent.path().join("a/b"), Path::new("c.yml"), None)
            .err()
            .unwrap();
        let text = format!("{refused:#}");
        assert!(
            text.contains("Unable to create socket directory") && text.contains("-d"),
            "{text}"
        );
    }
}
