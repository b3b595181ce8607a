//! The directory that holds regions and files: how it is told from anybody else's.

use daos_plugin_api::abi::Status;
use daos_plugin_api::sdk::{Error, Result};
use scm_files::tree::{self, Owner};
use scm_files::{Lock, lock};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// File that marks storage as ours.
const MARKER: &str = ".daos-scm-dcpm";
/// The marker while the storage is being made: renamed to [`MARKER`] as the last step.
const UNFINISHED: &str = ".daos-scm-dcpm.unfinished";
/// File whose lock the one opener holds.
const LOCK: &str = ".daos-scm-lock";
/// Directory of the region files.
const REGIONS: &str = "regions";
/// What mkfs.ext4 makes in every file system.
const LOST_AND_FOUND: &str = "lost+found";

/// Contents of the marker file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Marker {
    /// Bytes that the storage may take of a file system that it shares; `None` = all of its own.
    pub(crate) limit: Option<u64>,
    /// The directory at the mount point was made by us and goes with the mount.
    pub(crate) made_directory: bool,
}

/// What a directory holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Contents {
    /// There is no directory.
    Absent,
    /// Nothing.
    Empty,
    /// Storage of ours.
    Ours(Marker),
    /// What a format of ours left that was interrupted: nothing is lost with it.
    Unfinished,
    /// Something of somebody else's, in words.
    Foreign(String),
}

/// A directory that is, or may become, storage.
pub(crate) struct Directory<'a> {
    path: &'a Path,
}

impl<'a> Directory<'a> {
    pub(crate) fn new(path: &'a Path) -> Self {
        Self { path }
    }

    pub(crate) fn regions(&self) -> PathBuf {
        self.path.join(REGIONS)
    }

    /// The marker, open for reading and writing: a file that is there and has contents.
    pub(crate) fn open_marker(&self) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.path.join(MARKER))
    }

    /// Looks what is there; changes nothing.
    pub(crate) fn inspect(&self) -> Result<Contents> {
        let shown = self.path.display();
        match fs::symlink_metadata(self.path) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Ok(Contents::Foreign(format!("{shown} is not a directory"))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Contents::Absent),
            Err(e) => return Err(Error::io(format!("cannot look at {shown}"), e)),
        }
        match fs::read(self.path.join(MARKER)) {
            Ok(text) => {
                return Ok(match serde_json::from_slice(&text) {
                    Ok(marker) => Contents::Ours(marker),
                    Err(e) => Contents::Foreign(format!("{shown}/{MARKER} is damaged: {e}")),
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
        let mut names = listed.map_err(|e| Error::io(format!("cannot list {shown}"), e))?;
        names.retain(|name| name != LOST_AND_FOUND);
        let Some(name) = names.first() else {
            return Ok(Contents::Empty);
        };
        let ours = [UNFINISHED, LOCK, REGIONS];
        if names.iter().any(|name| name == UNFINISHED)
            && names
                .iter()
                .all(|name| ours.iter().any(|ours| name == ours))
        {
            return Ok(Contents::Unfinished);
        }
        Ok(Contents::Foreign(format!(
            "{shown} holds files that are not ours ({} ...)",
            Path::new(name).display()
        )))
    }

    /// Creates marker, lock file and region directory; the marker gets its name last and durably, so
    /// what carries one is complete. Everything belongs to the user on whose behalf a setuid helper
    /// runs.
    pub(crate) fn mark(&self, marker: &Marker) -> Result<()> {
        let fail = |e: io::Error| Error::io(format!("cannot set up {}", self.path.display()), e);
        let owner = Owner::caller();
        let write = |name: &str, text: &[u8]| {
            let path = self.path.join(name);
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o644)
                .open(&path)?;
            file.write_all(text)?;
            owner.give(&path)?;
            file.sync_all()
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
        owner.give(self.path).map_err(fail)?;
        let sync = || File::open(self.path)?.sync_all();
        sync().map_err(fail)?;
        fs::rename(self.path.join(UNFINISHED), self.path.join(MARKER)).map_err(fail)?;
        sync().map_err(fail)
    }

    /// Removes what an interrupted format left.
    pub(crate) fn undo(&self) -> Result<()> {
        let fail = |e: io::Error| Error::io(format!("cannot empty {}", self.path.display()), e);
        let gone = |result: io::Result<()>| match result {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.map_err(fail),
        };
        // Empty: regions are only made in storage that carries its marker.
        gone(fs::remove_dir(self.regions()))?;
        gone(fs::remove_file(self.path.join(LOCK)))?;
        gone(fs::remove_file(self.path.join(UNFINISHED)))
    }

    /// Empties storage of ours. The marker goes last, so an interrupted removal can be repeated.
    pub(crate) fn clear(&self) -> Result<()> {
        let fail = |e: io::Error| Error::io(format!("cannot empty {}", self.path.display()), e);
        tree::empty(self.path, MARKER).map_err(fail)?;
        fs::remove_file(self.path.join(MARKER)).map_err(fail)
    }

    /// Takes the lock of storage of ours: one opener at a time.
    ///
    /// # Errors
    /// BUSY, naming the holder.
    pub(crate) fn lock(&self) -> Result<Lock> {
        let what = format!("persistent memory at {}", self.path.display());
        Lock::take(&self.path.join(LOCK), &what)
    }

    /// Who has storage of ours open; changes nothing.
    pub(crate) fn holder(&self) -> Result<Option<String>> {
        lock::holder(&self.path.join(LOCK))
    }
}
