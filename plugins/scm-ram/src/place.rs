//! What is at a mount point: nothing, storage of ours (marked), or somebody else's.

use daos_plugin_api::abi::Status;
use daos_plugin_api::sdk::{Error, Result};
use scm_files::mounts::{Mounted, mounted};
use scm_files::tree::{self, Owner, nearest};
use scm_files::{Lock, lock};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// File that marks storage as ours.
const MARKER: &str = ".daos-scm-ram";
/// The marker while the storage is being made: renamed to [`MARKER`] as the last step.
const UNFINISHED: &str = ".daos-scm-ram.unfinished";
/// Source of our mounts, as the mount table shows it.
pub(crate) const SOURCE: &str = "daos-scm-ram";
/// File whose lock the one opener holds; its text is that process's id.
const LOCK: &str = ".daos-scm-lock";
/// Directory of the region files.
const REGIONS: &str = "regions";

/// `f_type` of tmpfs.
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// How the storage was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// A tmpfs of its own.
    Mount,
    /// A directory inside a tmpfs of somebody else's.
    Directory,
}

/// Contents of the marker file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Marker {
    /// How it was made.
    pub(crate) kind: Kind,
    /// Bytes the storage has.
    pub(crate) size: u64,
    /// The directory at the mount point was made by us and goes with the storage.
    pub(crate) made_directory: bool,
    /// Node whose memory is preferred; -1 = unknown.
    pub(crate) numa_node: i32,
}

/// What an inspection finds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// No such directory.
    Nothing,
    /// An empty directory.
    Empty,
    /// Our storage.
    Ours(Marker),
    /// What a format of ours left that was interrupted: nothing is lost with it.
    Unfinished,
    /// Something of somebody else's, in words.
    Foreign(String),
    /// Another file system with contents is mounted there, in words.
    ForeignMount(String),
}

/// A mount point.
pub(crate) struct Place<'a> {
    path: &'a Path,
}

impl<'a> Place<'a> {
    pub(crate) fn new(path: &'a Path) -> Self {
        Self { path }
    }

    pub(crate) fn regions(&self) -> PathBuf {
        self.path.join(REGIONS)
    }

    /// Looks what is there; changes nothing.
    pub(crate) fn inspect(&self) -> Result<State> {
        let shown = self.path.display();
        let metadata = match fs::symlink_metadata(self.path) {
            Ok(metadata) => metadata,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(State::Nothing),
            Err(e) => return Err(Error::io(format!("cannot look at {shown}"), e)),
        };
        if !metadata.is_dir() {
            return Ok(State::Foreign(format!("{shown} is not a directory")));
        }
        match fs::read(self.path.join(MARKER)) {
            Ok(text) => {
                return Ok(match serde_json::from_slice(&text) {
                    // A marker on a disk is a copy of a RAM storage, not one.
                    Ok(marker) if is_tmpfs(self.path)? => State::Ours(marker),
                    Ok(_) => {
                        State::Foreign(format!("{shown} carries our marker on another medium"))
                    }
                    Err(e) => State::Foreign(format!("{shown}/{MARKER} is damaged: {e}")),
                });
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io(format!("cannot read {shown}/{MARKER}"), e)),
        }
        let listed = fs::read_dir(self.path).and_then(|entries| {
            entries
                .map(|entry| entry.map(|e| e.file_name()))
                .collect::<io::Result<Vec<_>>>()
        });
        let names = listed.map_err(|e| Error::io(format!("cannot list {shown}"), e))?;
        let mount = mounted(self.path)?;
        let Some(name) = names.first() else {
            // A file system other than tmpfs cannot become ours, nor is it ours to hide.
            return Ok(match mount {
                Some(mount) if mount.kind != "tmpfs" => State::ForeignMount(format!(
                    "a {} file system is mounted at {shown}",
                    mount.kind
                )),
                Some(mount) if mount.source == SOURCE => State::Unfinished,
                _ => State::Empty,
            });
        };
        if names.iter().any(|name| name == UNFINISHED)
            && names
                .iter()
                .all(|name| [UNFINISHED, LOCK, REGIONS].iter().any(|ours| name == ours))
        {
            return Ok(State::Unfinished);
        }
        let name = Path::new(name).display();
        Ok(match mount {
            Some(Mounted { kind, .. }) => State::ForeignMount(format!(
                "a {kind} file system with contents ({name} ...) is mounted at {shown}"
            )),
            None => State::Foreign(format!(
                "{shown} holds files that are not ours ({name} ...)"
            )),
        })
    }

    /// Removes what an interrupted format left: its mount, or its files in a directory.
    pub(crate) fn undo(&self) -> Result<()> {
        let shown = self.path.display();
        while let Some(mount) = mounted(self.path)?
            && mount.source == SOURCE
            && self.inspect()? == State::Unfinished
        {
            rustix::mount::unmount(self.path, rustix::mount::UnmountFlags::empty())
                .map_err(|e| Error::io(format!("cannot unmount {shown}"), e))?;
        }
        if self.inspect()? != State::Unfinished {
            return Ok(());
        }
        let fail = |e: io::Error| Error::io(format!("cannot empty {shown}"), e);
        let gone = |result: io::Result<()>| match result {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.map_err(fail),
        };
        // Empty: regions are only made in storage that carries its marker.
        gone(fs::remove_dir(self.regions()))?;
        gone(fs::remove_file(self.path.join(LOCK)))?;
        gone(fs::remove_file(self.path.join(UNFINISHED)))
    }

    /// Creates marker, lock file and region directory; the marker gets its name last, so what carries
    /// one is complete. Everything belongs to the user on whose behalf a setuid helper runs.
    pub(crate) fn mark(&self, marker: &Marker) -> Result<()> {
        let fail = |e: io::Error| Error::io(format!("cannot set up {}", self.path.display()), e);
        let owner = Owner::caller();
        let write = |name: &str, text: &[u8]| {
            let path = self.path.join(name);
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o644)
                .open(&path)?
                .write_all(text)?;
            owner.give(&path)
        };
        let text = serde_json::to_vec(marker).map_err(|e| {
            Error::new(Status::INTERNAL, "cannot encode the marker").cause(e.to_string())
        })?;
        // First, so that whatever interrupts this leaves something that can be told from others' files.
        write(UNFINISHED, &text).map_err(fail)?;
        let regions = self.regions();
        DirBuilder::new()
            .mode(0o755)
            .create(&regions)
            .map_err(fail)?;
        owner.give(&regions).map_err(fail)?;
        write(LOCK, b"").map_err(fail)?;
        fs::rename(self.path.join(UNFINISHED), self.path.join(MARKER)).map_err(fail)
    }

    /// Takes the lock of marked storage: one opener at a time.
    ///
    /// # Errors
    /// BUSY, naming the holder.
    pub(crate) fn lock(&self) -> Result<Lock> {
        let what = format!("ram storage {}", self.path.display());
        Lock::take(&self.path.join(LOCK), &what)
    }

    /// Who has marked storage open; changes nothing.
    pub(crate) fn holder(&self) -> Result<Option<String>> {
        lock::holder(&self.path.join(LOCK))
    }

    /// Bytes that everything in the directory occupies.
    pub(crate) fn used(&self) -> io::Result<u64> {
        tree::used(self.path)
    }

    /// Empties marked storage that is a directory. Crosses no mount point, follows no link. The
    /// marker goes last, so an interrupted removal can be repeated.
    pub(crate) fn clear(&self) -> Result<()> {
        let fail = |e: io::Error| Error::io(format!("cannot empty {}", self.path.display()), e);
        tree::empty(self.path, MARKER).map_err(fail)?;
        fs::remove_file(self.path.join(MARKER)).map_err(fail)
    }
}

/// Whether `path`, or the nearest directory above it that exists, is on a tmpfs.
pub(crate) fn is_tmpfs(path: &Path) -> Result<bool> {
    let existing = nearest(path);
    let stat = rustix::fs::statfs(existing)
        .map_err(|e| Error::io(format!("cannot look at {}", existing.display()), e))?;
    Ok(stat.f_type as u64 == TMPFS_MAGIC)
}
