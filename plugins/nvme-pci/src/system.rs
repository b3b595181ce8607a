//! Everything that changes the machine, behind a trait, so that tests can play the kernel.

use crate::tree::Tree;
use nix::mount::{MntFlags, MsFlags};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

/// Owner and mode of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
}

/// The machine. Paths are absolute, as its own processes see them.
pub trait System {
    /// Where to read.
    fn tree(&self) -> &Tree;

    /// Writes an attribute of sysfs or procfs.
    ///
    /// # Errors
    /// The kernel's.
    fn write(&mut self, path: &str, text: &str) -> io::Result<()>;

    /// Writes bytes of a file at an offset.
    ///
    /// # Errors
    /// The kernel's.
    fn write_at(&mut self, path: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let file = OpenOptions::new()
            .write(true)
            .open(self.tree().path(path))?;
        file.write_all_at(bytes, offset)
    }

    /// Loads a kernel module.
    ///
    /// # Errors
    /// What modprobe says.
    fn load_module(&mut self, name: &str) -> io::Result<()>;

    /// Owner of a file.
    ///
    /// # Errors
    /// The file cannot be looked at.
    fn owner(&self, path: &str) -> io::Result<Owner> {
        let found = fs::metadata(self.tree().path(path))?;
        Ok(Owner {
            uid: found.uid(),
            gid: found.gid(),
            mode: found.mode() & 0o7777,
        })
    }

    /// Gives a file away.
    ///
    /// # Errors
    /// The file cannot be changed.
    fn set_owner(&mut self, path: &str, owner: Owner) -> io::Result<()>;

    /// Mounts a hugetlbfs of the default page size, making the folder.
    ///
    /// # Errors
    /// The kernel's.
    fn mount_hugetlbfs(&mut self, at: &str) -> io::Result<()>;

    /// Unmounts it.
    ///
    /// # Errors
    /// The kernel's; busy among them.
    fn unmount(&mut self, at: &str) -> io::Result<()>;

    /// Replaces a file as a whole and durably, making its folder.
    ///
    /// # Errors
    /// The file system's.
    fn save(&mut self, path: &str, mode: u32, text: &str) -> io::Result<()>;

    /// Removes a file; one that is not there is no error.
    ///
    /// # Errors
    /// The file system's.
    fn remove(&mut self, path: &str) -> io::Result<()>;

    /// Opens a block device for reading, and exclusively, so that the kernel refuses one in use.
    ///
    /// # Errors
    /// The kernel's; `ResourceBusy` if it is in use.
    fn open_exclusive(&self, node: &str) -> io::Result<File>;
}

/// This machine.
#[derive(Debug)]
pub struct Machine {
    tree: Tree,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            tree: Tree::at("/"),
        }
    }
}

impl System for Machine {
    fn tree(&self) -> &Tree {
        &self.tree
    }

    fn write(&mut self, path: &str, text: &str) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).open(self.tree.path(path))?;
        // In one piece: the kernel takes each write as a value.
        file.write_all(text.as_bytes())
    }

    fn load_module(&mut self, name: &str) -> io::Result<()> {
        let failed = |e: io::Error| io::Error::new(e.kind(), format!("cannot run modprobe: {e}"));
        let output = Command::new("modprobe")
            .args(["--", name])
            .env_clear()
            .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
            .stdin(Stdio::null())
            .output()
            .map_err(failed)?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(io::Error::other(said.trim().to_owned()))
    }

    fn set_owner(&mut self, path: &str, owner: Owner) -> io::Result<()> {
        let path = self.tree.path(path);
        // The mode last: giving a file away clears some of its bits.
        std::os::unix::fs::lchown(&path, Some(owner.uid), Some(owner.gid))?;
        fs::set_permissions(&path, Permissions::from_mode(owner.mode))
    }

    fn mount_hugetlbfs(&mut self, at: &str) -> io::Result<()> {
        let place = self.tree.path(at);
        fs::create_dir_all(&place)?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        nix::mount::mount(
            Some("hugetlbfs"),
            &place,
            Some("hugetlbfs"),
            flags,
            None::<&str>,
        )
        .map_err(io::Error::from)
    }

    fn unmount(&mut self, at: &str) -> io::Result<()> {
        let flags = MntFlags::UMOUNT_NOFOLLOW;
        nix::mount::umount2(&self.tree.path(at), flags).map_err(io::Error::from)
    }

    fn save(&mut self, path: &str, mode: u32, text: &str) -> io::Result<()> {
        save(&self.tree.path(path), mode, text)
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        match fs::remove_file(self.tree.path(path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn open_exclusive(&self, node: &str) -> io::Result<File> {
        let flags = nix::fcntl::OFlag::O_EXCL | nix::fcntl::OFlag::O_NONBLOCK;
        OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits())
            .open(self.tree.path(node))
    }
}

/// Writes a file beside its place, syncs it, and renames it.
pub(crate) fn save(path: &Path, mode: u32, text: &str) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(dir)?;
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(text.as_bytes())?;
    file.as_file()
        .set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(dir)?.sync_all()
}
