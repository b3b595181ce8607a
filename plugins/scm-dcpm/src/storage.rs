//! What a class config names, and what is there: nothing, ours, somebody else's, in use.

use crate::block::{BlockDevice, Holds};
use crate::manifest::Settings;
use crate::marker::{Contents, Directory, Marker};
use daos_plugin_api::abi::Status;
use daos_plugin_api::sdk::{Error, Result};
use scm_files::mounts;
use std::path::Path;

/// What is there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing; a format makes it.
    Blank,
    /// A file system that we made, not mounted.
    Unmounted,
    /// Storage of ours at its mount point.
    Ready(Marker),
    /// What an interrupted format left at the mount point.
    Unfinished,
    /// Something of somebody else's, in words.
    Foreign(String),
    /// Somebody uses it, in words.
    InUse(String),
    /// There is no such thing, in words.
    Missing(String),
}

/// What `scm_list` names.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// A namespace's block device, whose file system is ours to make and mount.
    Device(BlockDevice),
    /// A directory of a file system that the site has made and mounted.
    Directory {
        /// Bytes that may be taken of it.
        limit: u64,
    },
    /// Nothing is there.
    Missing(String),
}

impl Source {
    /// Looks what `scm_list` names.
    ///
    /// # Errors
    /// INVALID or NOT_SUPPORTED for what can never be persistent memory.
    pub(crate) fn of(settings: &Settings) -> Result<Self> {
        let Some(source) = &settings.source else {
            return Ok(Self::Missing(format!(
                "no namespace was formatted for {}, and scm_list names none",
                settings.mount.display()
            )));
        };
        let shown = source.display();
        let device = match BlockDevice::at(source) {
            Ok(device) => device,
            Err(e) if e.status == Status::NOT_FOUND => {
                return Ok(Self::Missing(format!(
                    "{shown} does not exist; `daos_server storage scan` lists namespaces, `storage \
                     prepare --scm-only` makes them"
                )));
            }
            Err(e) => return Err(e),
        };
        if let Some(device) = device {
            if !device.has_dax() {
                return Err(Error::new(
                    Status::NOT_SUPPORTED,
                    format!("{shown} in scm_list cannot be used as persistent memory"),
                )
                .cause("the kernel offers no direct access (DAX) to it")
                .remedy(
                    "name a namespace of mode fsdax, as `daos_server storage scan` lists them; for \
                     disks there is bdev_list",
                ));
            }
            return Ok(Self::Device(device));
        }
        let invalid = |why: &str| {
            Error::new(Status::INVALID, format!("{shown} in scm_list {why}"))
                .remedy("name a block device (/dev/pmem0), or a directory in which scm_mount lies")
        };
        if !source.is_dir() {
            return Err(invalid("is neither a block device nor a directory"));
        }
        if settings.mount == *source || !settings.mount.starts_with(source) {
            return Err(invalid(&format!(
                "is a directory, and scm_mount {} does not lie in it",
                settings.mount.display()
            )));
        }
        let limit = settings.size.ok_or_else(|| {
            Error::new(Status::INVALID, "scm_size is missing")
                .cause(format!(
                    "{shown} is a directory, of which only a part is to be used"
                ))
                .remedy("set scm_size to the number of GB to use")
        })?;
        Ok(Self::Directory { limit })
    }

    /// Looks what is there; changes nothing.
    pub(crate) fn inspect(&self, mount: &Path) -> Result<State> {
        match self {
            Self::Missing(why) => Ok(State::Missing(why.clone())),
            Self::Directory { .. } => Ok(match Directory::new(mount).inspect()? {
                Contents::Absent | Contents::Empty => State::Blank,
                Contents::Ours(marker) => State::Ready(marker),
                Contents::Unfinished => State::Unfinished,
                Contents::Foreign(what) => State::Foreign(what),
            }),
            Self::Device(device) => of_device(device, mount),
        }
    }
}

fn of_device(device: &BlockDevice, mount: &Path) -> Result<State> {
    let mounts = mounts::all()?;
    let of_it = |m: &&mounts::Mounted| m.device == device.number;
    let top = mounts.iter().rfind(|m| m.at == mount);
    if top.filter(of_it).is_none() {
        if let Some(elsewhere) = mounts.iter().find(of_it) {
            return Ok(State::InUse(format!(
                "{} is mounted at {}",
                device.path.display(),
                elsewhere.at.display()
            )));
        }
        return Ok(match device.holds()? {
            Holds::Nothing => State::Blank,
            Holds::Ours => State::Unmounted,
            Holds::Known(what) | Holds::Unknown(what) => State::Foreign(what),
        });
    }
    Ok(match Directory::new(mount).inspect()? {
        Contents::Ours(marker) => State::Ready(marker),
        Contents::Unfinished => State::Unfinished,
        // Mounted by whom, and what for, is not known; a format of ours mounts what it has just made.
        Contents::Empty if matches!(device.holds(), Ok(Holds::Ours)) => State::Unfinished,
        Contents::Absent | Contents::Empty => State::InUse(format!(
            "{} is mounted at {} and was not formatted by us",
            device.path.display(),
            mount.display()
        )),
        Contents::Foreign(what) => State::InUse(what),
    })
}
