//! Regions as files of a directory: their names, who has one open, and how one comes into being.

use daos_plugin_api::abi::Status;
use daos_plugin_api::sdk::{Error, Result};
use rustix::fs::{AtFlags, CWD, FallocateFlags, Mode, OFlags};
use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Names of the regions that are mapped now.
type OpenNames = Arc<Mutex<HashSet<String>>>;

/// The regions of one open storage.
pub struct Regions {
    directory: PathBuf,
    open: OpenNames,
    /// Bytes that the file system allocates at once: a page.
    unit: u64,
}

impl Regions {
    /// Regions of the directory, which exists.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn new(directory: PathBuf) -> Result<Self> {
        let stat = rustix::fs::statvfs(&directory)
            .map_err(|e| Error::io(format!("cannot look at {}", directory.display()), e))?;
        Ok(Self {
            directory,
            open: OpenNames::default(),
            unit: stat.f_frsize.max(1),
        })
    }

    fn file_of(&self, name: &str) -> Result<PathBuf> {
        let valid = (1..=64).contains(&name.len())
            && name != "."
            && name != ".."
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if !valid {
            return Err(Error::new(
                Status::INVALID,
                format!("{name:?} cannot be the name of a region"),
            )
            .cause("names are 1 to 64 of A-Z a-z 0-9 . _ - and neither \".\" nor \"..\""));
        }
        Ok(self.directory.join(name))
    }

    /// Marks `name` as mapped.
    fn claim(&self, name: &str) -> Result<Claim> {
        if !names(&self.open).insert(name.to_owned()) {
            return Err(Error::new(
                Status::BUSY,
                format!("region {name} is open already"),
            ));
        }
        Ok(Claim {
            names: Arc::clone(&self.open),
            name: name.to_owned(),
        })
    }

    /// Opens a region that exists: its claim, its file, and its bytes.
    ///
    /// # Errors
    /// NOT_FOUND, BUSY if it is open, INVALID for a name that is none.
    pub fn open(&self, name: &str) -> Result<(Claim, File, usize)> {
        let path = self.file_of(name)?;
        let claim = self.claim(name)?;
        let fail = |e: io::Error| Error::io(format!("cannot open region {name}"), e);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlags::NOFOLLOW.bits() as i32)
            .open(&path)
            .map_err(fail)?;
        let len = file.metadata().map_err(fail)?.len();
        let len = usize::try_from(len).map_err(|_| Status::NO_MEMORY)?;
        Ok((claim, file, len))
    }

    /// Makes a region of at least `len` zero bytes, all allocated. `made` gets the file and its
    /// bytes before the region has its name: what fails there, or dies, leaves nothing behind.
    /// `remedy` is what to do when there is no space.
    ///
    /// # Errors
    /// EXISTS, BUSY, NO_SPACE, INVALID for a name that is none or no bytes, and those of `made`.
    pub fn create<T>(
        &self,
        name: &str,
        len: u64,
        available: impl FnOnce() -> io::Result<u64>,
        remedy: &str,
        made: impl FnOnce(&File, usize) -> Result<T>,
    ) -> Result<(Claim, T)> {
        let path = self.file_of(name)?;
        let what = || format!("cannot create region {name} of {len} bytes");
        let fail = |e: rustix::io::Errno| Error::io(what(), e);
        if len == 0 {
            return Err(Error::new(Status::INVALID, what()).cause("a region has at least a byte"));
        }
        let claim = self.claim(name)?;
        if path.symlink_metadata().is_ok() {
            return Err(Error::new(Status::EXISTS, what()).cause("it exists"));
        }
        let available = available().map_err(|e| Error::io(what(), e))?;
        let full = |cause: String| {
            Error::new(Status::NO_SPACE, what())
                .cause(cause)
                .remedy(remedy)
        };
        let len = len
            .checked_next_multiple_of(self.unit)
            .filter(|len| *len <= available)
            .ok_or_else(|| full(format!("{available} bytes are free")))?;
        let bytes = usize::try_from(len).map_err(|_| Status::NO_MEMORY)?;
        // The file gets its name when it is complete, so a crash leaves no half region behind.
        let file = File::from(
            rustix::fs::openat(
                CWD,
                &self.directory,
                OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC,
                Mode::from_raw_mode(0o600),
            )
            .map_err(fail)?,
        );
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, len).map_err(|e| match e {
            rustix::io::Errno::NOSPC => full(e.to_string()),
            e => fail(e),
        })?;
        let result = made(&file, bytes)?;
        rustix::fs::linkat(
            CWD,
            format!("/proc/self/fd/{}", file.as_raw_fd()),
            CWD,
            &path,
            AtFlags::SYMLINK_FOLLOW,
        )
        .map_err(fail)?;
        Ok((claim, result))
    }

    /// Deletes a region that is not open.
    ///
    /// # Errors
    /// NOT_FOUND, BUSY, INVALID for a name that is none.
    pub fn remove(&self, name: &str) -> Result<()> {
        let path = self.file_of(name)?;
        // Claimed while it is removed, so that nobody opens it in between.
        let _claim = self.claim(name)?;
        fs::remove_file(path).map_err(|e| Error::io(format!("cannot remove region {name}"), e))
    }

    /// Makes the names of regions durable, on file systems that outlive the machine's power.
    ///
    /// # Errors
    /// As fsync(2) of the directory.
    pub fn sync_names(&self) -> Result<()> {
        File::open(&self.directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|e| Error::io(format!("cannot sync {}", self.directory.display()), e))
    }
}

fn names(open: &OpenNames) -> MutexGuard<'_, HashSet<String>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The name of an open region; free again when dropped.
pub struct Claim {
    names: OpenNames,
    name: String,
}

impl Claim {
    /// The region's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        names(&self.names).remove(&self.name);
    }
}
