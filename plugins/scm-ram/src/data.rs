//! The data face: regions are files below `<scm_mount>/regions`, allocated when they are made and
//! mapped. Persisting does nothing: memory is as durable as this class gets.

use crate::control::lost;
use crate::manifest::Settings;
use crate::map::SharedMap;
use crate::place::{Kind, Lock, Marker, Place, State, free_space};
use daos_plugin_api::abi::{ScmInfo, Status};
use daos_plugin_api::control::DeviceSpec;
use daos_plugin_api::sdk::{CallContext, Error, Region, Result, Scm};
use rustix::fs::{AtFlags, CWD, FallocateFlags, Mode, OFlags};
use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Names of the regions that are mapped now.
type OpenNames = Arc<Mutex<HashSet<String>>>;

/// Open storage; one opener at a time.
pub struct Memory {
    mount: PathBuf,
    marker: Marker,
    open: OpenNames,
    page: u64,
    _lock: Lock,
}

impl Memory {
    /// Opens what `format` made.
    ///
    /// # Errors
    /// NOT_FOUND if there is nothing (any more), BUSY if another process or opener has it.
    pub(crate) fn open(device: &DeviceSpec) -> Result<Self> {
        let settings = Settings::parse(&device.class, &device.config)?;
        let place = Place::new(&settings.mount);
        let State::Ours(marker) = place.inspect()? else {
            return Err(lost(&settings.mount));
        };
        let lock = place.lock()?;
        Ok(Self {
            marker,
            open: OpenNames::default(),
            page: block_size(&settings.mount)?,
            _lock: lock,
            mount: settings.mount,
        })
    }

    /// Bytes that regions and files can still take.
    fn available(&self) -> io::Result<u64> {
        let free = free_space(&self.mount)?;
        Ok(match self.marker.kind {
            Kind::Mount => free,
            Kind::Directory => {
                let used = Place::new(&self.mount).used()?;
                free.min(self.marker.size.saturating_sub(used))
            }
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
        Ok(Place::new(&self.mount).regions().join(name))
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

    fn map(&self, claim: Claim, file: &File) -> Result<Mapping> {
        let fail = |e: io::Error| Error::io(format!("cannot map region {}", claim.name), e);
        let len = file.metadata().map_err(fail)?.len();
        let len = usize::try_from(len).map_err(|_| Status::NO_MEMORY)?;
        let map = SharedMap::new(file, len).map_err(fail)?;
        Ok(Mapping { map, _claim: claim })
    }
}

/// Bytes that the file system allocates at once: a page.
fn block_size(path: &Path) -> Result<u64> {
    rustix::fs::statvfs(path)
        .map(|stat| stat.f_frsize.max(1))
        .map_err(|e| Error::io(format!("cannot look at {}", path.display()), e))
}

fn names(open: &OpenNames) -> MutexGuard<'_, HashSet<String>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Scm for Memory {
    type Region = Mapping;

    fn info(&self) -> Result<ScmInfo, Status> {
        Ok(ScmInfo {
            total: self.marker.size,
            available: self.available().map_err(|_| Status::IO)?,
            persist_granularity: 8,
            numa_node: self.marker.numa_node,
            flags: ScmInfo::EPHEMERAL,
        })
    }

    fn mount_point(&self) -> &Path {
        &self.mount
    }

    fn open_region(&self, _: CallContext<'_>, name: &str) -> Result<Mapping> {
        let path = self.file_of(name)?;
        let claim = self.claim(name)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlags::NOFOLLOW.bits() as i32)
            .open(&path)
            .map_err(|e| Error::io(format!("cannot open region {name}"), e))?;
        self.map(claim, &file)
    }

    fn create_region(&self, _: CallContext<'_>, name: &str, len: u64) -> Result<Mapping> {
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
        let available = self.available().map_err(|e| Error::io(what(), e))?;
        let full = |cause: String| {
            Error::new(Status::NO_SPACE, what())
                .cause(cause)
                .remedy("enlarge scm_size")
        };
        let len = len
            .checked_next_multiple_of(self.page)
            .filter(|len| *len <= available)
            .ok_or_else(|| full(format!("{available} bytes are free")))?;
        // The file gets its name when it is complete, so a crash leaves no half region behind.
        let file = File::from(
            rustix::fs::openat(
                CWD,
                Place::new(&self.mount).regions(),
                OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC,
                Mode::from_raw_mode(0o600),
            )
            .map_err(fail)?,
        );
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, len).map_err(|e| match e {
            rustix::io::Errno::NOSPC => full(e.to_string()),
            e => fail(e),
        })?;
        rustix::fs::linkat(
            CWD,
            format!("/proc/self/fd/{}", file.as_raw_fd()),
            CWD,
            &path,
            AtFlags::SYMLINK_FOLLOW,
        )
        .map_err(fail)?;
        self.map(claim, &file)
    }

    fn remove_region(&self, _: CallContext<'_>, name: &str) -> Result<()> {
        let path = self.file_of(name)?;
        // Claimed while it is removed, so that nobody opens it in between.
        let _claim = self.claim(name)?;
        fs::remove_file(path).map_err(|e| Error::io(format!("cannot remove region {name}"), e))
    }

    fn flush(&self, _: *const u8, _: usize) -> Result<(), Status> {
        Ok(())
    }

    fn drain(&self) -> Result<(), Status> {
        Ok(())
    }
}

/// A name in use.
struct Claim {
    names: OpenNames,
    name: String,
}

impl Drop for Claim {
    fn drop(&mut self) {
        names(&self.names).remove(&self.name);
    }
}

/// A mapped region.
pub struct Mapping {
    map: SharedMap,
    _claim: Claim,
}

impl Region for Mapping {
    fn ptr(&self) -> *mut u8 {
        self.map.ptr()
    }

    fn len(&self) -> usize {
        self.map.len()
    }
}
