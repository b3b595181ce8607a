//! The data face: regions are files of a directory, mapped. All unsafe code of this plugin is here.

use daos_plugin_api::abi::{ScmInfo, Status};
use daos_plugin_api::sdk::{CallContext, Error, Region, Result, Scm};
use std::collections::HashSet;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const PAGE: u64 = 4096;
/// Regions have names of their own among other files.
const PREFIX: &str = "region-";

/// Directories that are open.
pub(crate) type OpenOnes = Arc<Mutex<HashSet<PathBuf>>>;

/// Open memory.
pub struct Memory {
    directory: PathBuf,
    total: u64,
    open: OpenOnes,
    mapped: Arc<Mutex<HashSet<String>>>,
}

impl Memory {
    pub(crate) fn open(open: OpenOnes, directory: PathBuf, total: u64) -> Result<Self> {
        let is_new = open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(directory.clone());
        if !is_new {
            return Err(Error::new(
                Status::BUSY,
                format!("{} is open already", directory.display()),
            ));
        }
        Ok(Self {
            directory,
            total,
            open,
            mapped: Arc::default(),
        })
    }

    fn mapped(&self) -> MutexGuard<'_, HashSet<String>> {
        self.mapped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that the regions take.
    fn taken(&self) -> std::io::Result<u64> {
        let mut sum = 0;
        for entry in std::fs::read_dir(&self.directory)? {
            let entry = entry?;
            if entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(PREFIX.as_bytes())
            {
                sum += entry.metadata()?.len();
            }
        }
        Ok(sum)
    }

    fn path(&self, name: &str) -> Result<PathBuf> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        let is_dots = name == "." || name == "..";
        if name.is_empty() || name.len() > 64 || is_dots || !name.bytes().all(fits) {
            return Err(Error::new(
                Status::INVALID,
                format!("{name:?} names no region"),
            ));
        }
        Ok(self.directory.join(format!("{PREFIX}{name}")))
    }

    fn map(&self, name: &str, file: &std::fs::File, len: usize) -> Result<Mapping> {
        // SAFETY: a new mapping of a file that is as long.
        let ptr = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if ptr == libc::MAP_FAILED {
            let error = std::io::Error::last_os_error();
            return Err(Error::io(format!("cannot map region {name}"), error));
        }
        self.mapped().insert(name.to_owned());
        Ok(Mapping {
            ptr: ptr.cast(),
            len,
            name: name.to_owned(),
            mapped: Arc::clone(&self.mapped),
        })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(&self.directory);
    }
}

impl Scm for Memory {
    type Region = Mapping;

    fn info(&self) -> Result<ScmInfo, Status> {
        let taken = self.taken().map_err(|_| Status::IO)?;
        Ok(ScmInfo {
            total: self.total,
            available: self.total.saturating_sub(taken),
            persist_granularity: 8,
            numa_node: -1,
            flags: ScmInfo::EPHEMERAL,
        })
    }

    fn mount_point(&self) -> &Path {
        &self.directory
    }

    fn open_region(&self, _call: CallContext<'_>, name: &str) -> Result<Mapping> {
        let path = self.path(name)?;
        if self.mapped().contains(name) {
            return Err(Error::new(Status::BUSY, format!("region {name} is open")));
        }
        let io = |e| Error::io(format!("cannot open region {name}"), e);
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(io)?;
        let len = file.metadata().map_err(io)?.len() as usize;
        self.map(name, &file, len)
    }

    /// Allocates everything now, so that a full memory is an error here and never a signal later.
    fn create_region(&self, _call: CallContext<'_>, name: &str, len: u64) -> Result<Mapping> {
        let path = self.path(name)?;
        let io = |e| Error::io(format!("cannot make region {name}"), e);
        if path.exists() {
            return Err(Error::new(Status::EXISTS, format!("region {name} exists")));
        }
        if len == 0 {
            return Err(Error::new(
                Status::INVALID,
                "a region has at least one byte",
            ));
        }
        let free = self.total.saturating_sub(self.taken().map_err(io)?);
        let pages = len
            .checked_next_multiple_of(PAGE)
            .filter(|len| *len <= free);
        let Some(len) = pages else {
            return Err(Error::new(
                Status::NO_SPACE,
                format!("region {name} wants {len} bytes, {free} are free"),
            ));
        };
        let mut options = std::fs::OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(io)?;
        // SAFETY: an open descriptor.
        let error = unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, len as libc::off_t) };
        if error != 0 {
            // What is left would be found as a region.
            let _ = std::fs::remove_file(&path);
            return Err(io(std::io::Error::from_raw_os_error(error)));
        }
        self.map(name, &file, len as usize)
    }

    fn remove_region(&self, _call: CallContext<'_>, name: &str) -> Result<()> {
        let path = self.path(name)?;
        if self.mapped().contains(name) {
            return Err(Error::new(Status::BUSY, format!("region {name} is open")));
        }
        std::fs::remove_file(path).map_err(|e| Error::io(format!("cannot remove region {name}"), e))
    }

    /// Where stores reach the medium through processor caches alone, this writes cache lines back.
    fn flush(&self, ptr: *const u8, len: usize) -> Result<(), Status> {
        if len == 0 {
            return Ok(());
        }
        let start = ptr.addr() / PAGE as usize * PAGE as usize;
        let end = ptr.addr() + len;
        // SAFETY: the pages of a mapped region, by the contract of the call.
        let failed = unsafe {
            libc::msync(
                ptr.with_addr(start).cast_mut().cast(),
                end - start,
                libc::MS_SYNC,
            ) != 0
        };
        if failed { Err(Status::IO) } else { Ok(()) }
    }

    /// `flush` has waited already.
    fn drain(&self) -> Result<(), Status> {
        Ok(())
    }
}

/// A mapped region; dropping it unmaps.
pub struct Mapping {
    ptr: *mut u8,
    len: usize,
    name: String,
    mapped: Arc<Mutex<HashSet<String>>>,
}

// SAFETY: mapped memory has no thread.
unsafe impl Send for Mapping {}

impl Region for Mapping {
    fn ptr(&self) -> *mut u8 {
        self.ptr
    }

    fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping of `map`; nobody uses a region that was closed.
        unsafe { libc::munmap(self.ptr.cast(), self.len) };
        let mut mapped = self.mapped.lock().unwrap_or_else(PoisonError::into_inner);
        mapped.remove(&self.name);
    }
}
