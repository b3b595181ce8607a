//! What tests need of the machine: small file systems and loop devices, which go when the test ends.

use nix::mount::{MsFlags, mount, umount};
use nix::sched::{CloneFlags, unshare};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Whether this process may mount and set up loop devices; says so if not.
pub fn is_root(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        println!("NOT RUN {test}: needs root");
    }
    root
}

/// Runs `f` with a tmpfs of `size` bytes that only this thread and its children see; without root
/// it says that `test` is not run.
///
/// # Panics
/// If the tmpfs cannot be mounted, or `f` panics.
pub fn on_small_tmpfs(test: &str, size: u64, f: impl FnOnce(&Path) + Send) {
    if !is_root(test) {
        return;
    }
    let run = || {
        // The mount belongs to the thread's own namespace and goes with it, whatever happens.
        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
            .expect("private mounts");
        let dir = tempfile::tempdir().expect("a directory");
        let options = format!("size={size}");
        mount(
            Some("tmpfs"),
            dir.path(),
            Some("tmpfs"),
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .expect("a tmpfs");
        f(dir.path());
        // A loop device lets go of its file only when whoever looks at it (a scan of another test)
        // has closed it.
        let give_up = Instant::now() + Duration::from_secs(10);
        while let Err(error) = umount(dir.path()) {
            assert!(
                Instant::now() < give_up,
                "something in the tmpfs stays open: {error}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    std::thread::scope(|scope| {
        if let Err(panic) = scope.spawn(run).join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// A loop device on a sparse temporary file.
pub struct LoopDevice {
    path: PathBuf,
    _dir: TempDir,
    backing: PathBuf,
}

impl LoopDevice {
    /// Sets one up with `size` bytes and logical blocks of `block` bytes; without root it says that
    /// `test` is not run.
    ///
    /// # Panics
    /// If root cannot set it up.
    pub fn new(test: &str, dir: &Path, size: u64, block: u32) -> Option<Self> {
        Self::set_up(test, dir, size, &["--sector-size", &block.to_string()])
    }

    /// The same with blocks of 512 bytes; it can have partitions.
    ///
    /// # Panics
    /// As for `new`.
    pub fn with_partitions(test: &str, dir: &Path, size: u64) -> Option<Self> {
        Self::set_up(test, dir, size, &["--partscan"])
    }

    /// The same without partitions, write-protected.
    ///
    /// # Panics
    /// As for `new`.
    pub fn read_only(test: &str, dir: &Path, size: u64) -> Option<Self> {
        Self::set_up(test, dir, size, &["--read-only"])
    }

    fn set_up(test: &str, dir: &Path, size: u64, options: &[&str]) -> Option<Self> {
        if !is_root(test) {
            return None;
        }
        let dir = tempfile::Builder::new()
            .prefix("loop-")
            .tempdir_in(dir)
            .expect("a directory");
        let backing = dir.path().join("backing");
        File::create(&backing)
            .and_then(|file| file.set_len(size))
            .expect("a sparse file");
        let output = Command::new("losetup")
            .args(["--find", "--show"])
            .args(options)
            .arg(&backing)
            .output()
            .expect("losetup is installed");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let path = String::from_utf8(output.stdout)
            .expect("a path")
            .trim()
            .into();
        Some(Self {
            path,
            _dir: dir,
            backing,
        })
    }

    /// The device node.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file behind it.
    pub fn backing(&self) -> &Path {
        &self.backing
    }

    /// Tells the kernel that the file behind it has another size.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn resize(&self, size: u64) {
        let file = File::options()
            .write(true)
            .open(&self.backing)
            .expect("the backing file");
        file.set_len(size).expect("another size");
        let status = Command::new("losetup").arg("-c").arg(&self.path).status();
        assert!(status.expect("losetup runs").success());
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        // Fails only if a failed test left the device open; the kernel then detaches it later.
        let _ = Command::new("losetup").arg("-d").arg(&self.path).status();
    }
}
