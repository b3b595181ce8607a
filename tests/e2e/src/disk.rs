//! Kernel block devices made of files.

use crate::private_dir::detach;
use crate::process::finish;
use crate::site::may_mount;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A loop device that is detached with this value.
pub struct LoopDevice {
    device: PathBuf,
}

impl LoopDevice {
    /// Attaches a new file of `size` bytes.
    ///
    /// # Errors
    /// Why this machine or user cannot have loop devices.
    ///
    /// # Panics
    /// The file cannot be made.
    pub fn attach(file: &Path, size: u64) -> Result<Self, String> {
        if !may_mount() {
            return Err("loop devices need root".to_owned());
        }
        let made = File::create(file).and_then(|f| f.set_len(size));
        made.unwrap_or_else(|e| panic!("cannot make {}: {e}", file.display()));
        let mut command = Command::new("losetup");
        command.args(["--find", "--show"]).arg(file);
        let done = finish(command, Duration::from_secs(10));
        match done.code {
            Some(0) => Ok(Self {
                device: PathBuf::from(done.stdout.trim()),
            }),
            _ => Err(format!("losetup: {}", done.stderr.trim())),
        }
    }

    /// The device node.
    pub fn path(&self) -> &Path {
        &self.device
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        detach(&self.device);
    }
}
