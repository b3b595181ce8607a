//! What the state machine asks the machine for: programs, and looks at block devices.

use crate::block::{BlockDevice, Holds};
use daos_plugin_api::abi::Status;
use daos_plugin_api::sdk::{Error, Result};
use rustix::fs::OFlags;
use scm_files::mounts;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// A program that knows persistent memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Regions and namespaces, of any module.
    Ndctl,
    /// What Intel's modules are used for.
    Ipmctl,
}

impl Program {
    /// Its name, which is also that of Debian's package.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ndctl => "ndctl",
            Self::Ipmctl => "ipmctl",
        }
    }

    fn purpose(self) -> &'static str {
        match self {
            Self::Ndctl => "namespaces of persistent memory are listed and made by it",
            Self::Ipmctl => "what Intel's modules are used for is told and changed by it",
        }
    }
}

/// What a program said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Whether it ended with 0.
    pub success: bool,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// The machine, or a recording of one.
pub trait Tools {
    /// Whether the kernel has found any persistent memory. Cheap.
    fn has_memory(&self) -> bool;

    /// Runs `ndctl` or `ipmctl`.
    ///
    /// # Errors
    /// NOT_FOUND if it is not installed; it cannot be run.
    fn run(&mut self, program: Program, arguments: &[&str]) -> Result<Said>;

    /// Who uses a block device (`pmem0`), in words; `None` if nobody does.
    ///
    /// # Errors
    /// It cannot be found out.
    fn user(&mut self, device: &str) -> Result<Option<String>>;

    /// What a block device holds.
    ///
    /// # Errors
    /// It cannot be read.
    fn holds(&mut self, device: &str) -> Result<Holds>;
}

/// This machine.
pub(super) struct System;

impl Tools for System {
    fn has_memory(&self) -> bool {
        let devices = fs::read_dir("/sys/bus/nd/devices").into_iter().flatten();
        devices.flatten().any(|device| {
            let name = device.file_name();
            let name = name.to_string_lossy();
            name.starts_with("nmem") || name.starts_with("region")
        })
    }

    fn run(&mut self, program: Program, arguments: &[&str]) -> Result<Said> {
        let name = program.name();
        let program = crate::ext4::program(name).ok_or_else(|| {
            Error::new(Status::NOT_FOUND, format!("{name} is not installed"))
                .cause(program.purpose())
                .remedy(format!("apt-get install {name}"))
        })?;
        let output = Command::new(&program)
            .args(arguments)
            .env_clear()
            .stdin(Stdio::null())
            .output()
            .map_err(|e| Error::io(format!("cannot run {}", program.display()), e))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Said {
            success: output.status.success(),
            out: text(&output.stdout),
            err: text(&output.stderr),
        })
    }

    fn user(&mut self, device: &str) -> Result<Option<String>> {
        let Some(block) = BlockDevice::at(&Path::new("/dev").join(device))? else {
            return Ok(None);
        };
        if let Some(mount) = mounts::all()?.iter().find(|m| m.device == block.number) {
            return Ok(Some(format!("mounted at {}", mount.at.display())));
        }
        // Mounts in other mount namespaces, LVM, swap: each takes the device for itself.
        let taken = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::EXCL.bits() as i32)
            .open(&block.path);
        match taken {
            Err(e) if e.kind() == std::io::ErrorKind::ResourceBusy => Ok(Some(
                "held by something: a mount in another mount namespace, LVM, or swap".to_owned(),
            )),
            // Who may not look at it must not be told that it is in use.
            _ => Ok(None),
        }
    }

    fn holds(&mut self, device: &str) -> Result<Holds> {
        match BlockDevice::at(&Path::new("/dev").join(device))? {
            Some(block) => block.holds(),
            None => Ok(Holds::Nothing),
        }
    }
}
