//! Directories: making them, emptying them, who owns them, and the space they take.

use daos_plugin_api::sdk::{Error, Result};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::Path;

/// The user on whose behalf a setuid program runs: its real ids.
#[derive(Clone, Copy)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Owner {
    /// Of this process.
    pub fn caller() -> Self {
        Self {
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
        }
    }

    /// Makes this user the owner of `path`.
    ///
    /// # Errors
    /// As chown(2).
    pub fn give(self, path: &Path) -> io::Result<()> {
        let metadata = fs::symlink_metadata(path)?;
        if (metadata.uid(), metadata.gid()) == (self.uid, self.gid) {
            return Ok(());
        }
        chown(path, Some(self.uid), Some(self.gid))
    }
}

/// Makes the directory `path` (mode 0755 whatever the umask) and those above it.
///
/// # Errors
/// As mkdir(2).
pub fn make_directory(path: &Path) -> Result<()> {
    let fail = |e: io::Error| Error::io(format!("cannot create {}", path.display()), e);
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .map_err(fail)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(fail)
}

/// Bytes that everything in the directory occupies.
///
/// # Errors
/// A directory cannot be read.
pub fn used(dir: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(dir)? {
        // Files may vanish between listing and looking: they occupy nothing then.
        let entry = entry?;
        match entry.metadata() {
            Ok(m) if m.is_dir() => sum += used(&entry.path())?,
            Ok(m) => sum += m.blocks() * 512,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(sum)
}

/// Empties a directory but for the entry `spare` in it. Crosses no mount point, follows no link.
///
/// # Errors
/// Something is mounted in it, or an entry cannot be removed; what was removed before stays so.
pub fn empty(dir: &Path, spare: &str) -> io::Result<()> {
    let device = fs::symlink_metadata(dir)?.dev();
    remove_entries(dir, device, spare)
}

fn remove_entries(dir: &Path, device: u64, spare: &str) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if entry.file_name() == spare {
            continue;
        }
        if metadata.is_dir() {
            if metadata.dev() != device {
                return Err(io::Error::other(format!(
                    "something is mounted at {}",
                    entry.path().display()
                )));
            }
            remove_entries(&entry.path(), device, "")?;
            fs::remove_dir(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Bytes an unprivileged user can still allocate on the file system of `path`, or of the nearest
/// directory above it that exists.
///
/// # Errors
/// As statvfs(3).
pub fn free_space(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(nearest(path))?;
    // A tmpfs without a limit reports no blocks at all.
    Ok(if stat.f_blocks == 0 {
        u64::MAX
    } else {
        stat.f_bavail.saturating_mul(stat.f_frsize)
    })
}

/// `path`, or the nearest directory above it that exists.
pub fn nearest(path: &Path) -> &Path {
    path.ancestors()
        .find(|p| p.exists())
        .unwrap_or(Path::new("/"))
}
