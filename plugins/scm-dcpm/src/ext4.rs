//! Making an ext4 for direct access, mounting it, and finding out whether the access is direct.

use crate::block::{BlockDevice, LABEL, Medium};
use crate::map::SharedMap;
use daos_plugin_api::abi::Status;
use daos_plugin_api::sdk::{Error, Result};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where programs of the system are looked for, whatever `PATH` says: they run as root.
const PROGRAMS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// A program of the system.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let mut paths = PROGRAMS.iter().map(|dir| Path::new(dir).join(name));
    paths.find(|path| path.is_file())
}

/// Options of mkfs.ext4 for a device of `size` bytes.
fn options(size: u64, id: &str) -> Vec<String> {
    /// A file system for a few large files: one inode per so many bytes.
    const LARGE: u64 = 64 << 20;
    /// Yet enough inodes for small ones.
    const INODES: u64 = 1024;
    let per_inode = (size / INODES).clamp(16 << 10, LARGE);
    [
        "-q",
        // What is there was judged before; no question of the program's own.
        "-F",
        "-L",
        LABEL,
        "-U",
        id,
        // Direct access needs blocks as large as pages.
        "-b",
        "4096",
        // Nothing is kept back for root: it is all ours.
        "-m",
        "0",
        // Everything is initialised now rather than in the background of a running engine, and large
        // allocations are aligned to 2 MiB, for huge pages. The mark of a format under way is not discarded.
        "-E",
        "nodiscard,lazy_itable_init=0,lazy_journal_init=0,stride=512,stripe_width=512",
        // 128 groups of 128 MiB together leave room for allocations without gaps; it never grows.
        "-G",
        "128",
        "-O",
        "flex_bg,^resize_inode",
        "-i",
    ]
    .into_iter()
    .map(str::to_owned)
    .chain([per_inode.to_string()])
    .collect()
}

/// Makes the file system, with that identifier. Whatever the device held is gone; what is left if it is killed is known by its mark.
pub(crate) fn make(device: &BlockDevice, id: &str) -> Result<()> {
    begin(device, id)?;
    device.set_under_way(false)
}

/// The same, but for the end: the mark is still there.
pub(crate) fn begin(device: &BlockDevice, id: &str) -> Result<()> {
    let shown = device.path.display();
    let failed = || Error::new(Status::IO, format!("cannot make a file system on {shown}"));
    let program = program("mkfs.ext4").ok_or_else(|| {
        failed()
            .cause("mkfs.ext4 is not installed")
            .remedy("apt-get install e2fsprogs")
    })?;
    device.set_under_way(true)?;
    let output = Command::new(&program)
        .args(options(device.size, id))
        .arg(&device.path)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .map_err(|e| Error::io(format!("cannot run {}", program.display()), e))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed().cause(format!(
            "mkfs.ext4 ended with {}: {}",
            output.status,
            said.trim().replace('\n', "; ")
        )));
    }
    Ok(())
}

/// Mounts the file system of a device with direct access, for data only.
pub(crate) fn mount(device: &Path, at: &Path) -> Result<()> {
    let flags = MountFlags::NOATIME
        | MountFlags::SILENT
        | MountFlags::NODEV
        | MountFlags::NOEXEC
        | MountFlags::NOSUID;
    rustix::mount::mount(device, at, "ext4", flags, c"dax").map_err(|e| {
        let error = Error::io(
            format!("cannot mount {} at {}", device.display(), at.display()),
            e,
        );
        match e {
            Errno::PERM => error.remedy("run as root, or mount it yourself with -o dax"),
            Errno::NODEV => error.remedy("load the kernel's module: modprobe ext4"),
            Errno::INVAL => error.remedy("the kernel's log (dmesg) says what it dislikes"),
            _ => error,
        }
    })
}

/// Unmounts what is on top at a mount point.
pub(crate) fn unmount(at: &Path) -> Result<()> {
    rustix::mount::unmount(at, UnmountFlags::empty()).map_err(|e| {
        let error = Error::io(format!("cannot unmount {}", at.display()), e);
        match e {
            Errno::BUSY => error.remedy("stop the processes that have files open there"),
            Errno::PERM => error.remedy("run as root"),
            _ => error,
        }
    })
}

/// Whether stores to files of the directory reach the medium without the page cache, and durably by
/// cache-line write-back; tried with a file without a name.
///
/// # Errors
/// No file can be made.
pub(crate) fn is_direct(directory: &Path) -> Result<bool> {
    let fail = |e: std::io::Error| {
        Error::io(
            format!("cannot try direct access in {}", directory.display()),
            e,
        )
    };
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::openat(CWD, directory, flags, Mode::from_raw_mode(0o600));
    let file = File::from(file.map_err(|e| fail(e.into()))?);
    file.write_all_at(&[0; 4096], 0).map_err(fail)?;
    SharedMap::is_granted(&file).map_err(fail)
}

/// Why access to a directory's files is not direct.
pub(crate) fn why_not_direct(medium: &Medium) -> &'static str {
    match medium.has_dax {
        true => "its file system is mounted without dax",
        false => {
            "its device has no DAX: it is no persistent memory, or a namespace of another mode than \
             fsdax"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::options;

    #[test]
    fn small_devices_get_inodes_too() {
        let ratio = |size: u64| -> u64 {
            let options = options(size, "id");
            options.last().expect("a ratio").parse().expect("a number")
        };
        assert_eq!(ratio(64 << 20), 64 << 10);
        assert_eq!(ratio(512 << 20), 512 << 10);
        assert_eq!(ratio(3 << 40), 64 << 20);
        assert_eq!(ratio(8 << 20), 16 << 10);
    }
}
