//! The data face: regions are files below `<scm_mount>/regions`, written through once when they are
//! made, and mapped.

use crate::block::Medium;
use crate::control::lost;
use crate::ext4;
use crate::manifest::{PluginSettings, Settings};
use crate::map::SharedMap;
use crate::marker::{Directory, Marker};
use crate::persist::Method;
use crate::storage::{Source, State};
use daos_plugin_api::abi::{ScmInfo, Status};
use daos_plugin_api::control::DeviceSpec;
use daos_plugin_api::sdk::{CallContext, Error, Region, Result, Scm};
use rustix::io::Errno;
use scm_files::tree::{free_space, used};
use scm_files::{Claim, Lock, Regions};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tracing::{info, warn};

/// Open storage; one opener at a time.
pub struct Memory {
    mount: PathBuf,
    marker: Marker,
    regions: Regions,
    method: Method,
    /// Mappings are synchronous.
    synchronous: bool,
    medium: Medium,
    total: u64,
    _lock: Lock,
}

impl Memory {
    /// Opens what `format` made.
    ///
    /// # Errors
    /// NOT_FOUND if there is nothing, or it is not mounted; BUSY if another process or opener has it.
    pub(crate) fn open(device: &DeviceSpec, plugin: PluginSettings) -> Result<Self> {
        let settings = Settings::parse(&device.class, &device.config)?;
        let source = Source::of(&settings)?;
        let State::Ready(marker) = source.inspect(&settings.mount)? else {
            return Err(lost(&settings));
        };
        let directory = Directory::new(&settings.mount);
        let lock = directory.lock()?;
        let shown = settings.mount.display();
        let fail = |e: io::Error| Error::io(format!("cannot open the storage at {shown}"), e);
        let synchronous = SharedMap::is_granted(&directory.open_marker().map_err(fail)?);
        let synchronous = synchronous.map_err(fail)?;
        let medium = Medium::of(&settings.mount)?;
        let method = Method::choose(plugin.persist, synchronous, medium.caches_persist);
        if !synchronous && method.is_direct() {
            warn!(
                "{shown}: the settings say persist: cache_lines, but the kernel does not vouch for it: {}; \
                 unless this is persistent memory, nothing survives a loss of power",
                ext4::why_not_direct(&medium)
            );
        } else if !synchronous {
            warn!(
                "{shown}: stores are made durable with msync, which is slow: {}",
                ext4::why_not_direct(&medium)
            );
        } else {
            info!("{shown}: direct access, durable by {}", method.describe());
        }
        if !medium.bad_blocks.is_empty() {
            warn!(
                "{shown}: the medium has bad blocks (sector and count): {}",
                medium.bad_blocks
            );
        }
        let total = match marker.limit {
            Some(limit) => limit,
            None => total(&settings.mount).map_err(fail)?,
        };
        Ok(Self {
            regions: Regions::new(directory.regions())?,
            mount: settings.mount,
            marker,
            method,
            synchronous,
            medium,
            total,
            _lock: lock,
        })
    }

    /// Bytes that regions and files can still take.
    fn available(&self) -> io::Result<u64> {
        let free = free_space(&self.mount)?;
        Ok(match self.marker.limit {
            None => free.min(self.total),
            Some(limit) => free.min(limit.saturating_sub(used(&self.mount)?)),
        })
    }

    fn map(&self, name: &str, file: &File, len: usize) -> Result<SharedMap> {
        SharedMap::new(file, len, self.synchronous).map_err(|e| {
            let error = Error::io(format!("cannot map region {name}"), e);
            match e {
                Errno::OPNOTSUPP => error.remedy(
                    "direct access was granted when the storage was opened: see the kernel's log (dmesg)",
                ),
                _ => error,
            }
        })
    }
}

/// Bytes of the file system.
fn total(mount: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(mount)?;
    Ok(stat.f_blocks.saturating_mul(stat.f_frsize))
}

/// Reads a region through the kernel, which answers with an error where a load would be a signal.
fn check(name: &str, file: &File, len: usize) -> Result<()> {
    let mut piece = vec![0; 1 << 20];
    let mut at = 0;
    while at < len {
        let part = piece.len().min(len - at);
        file.read_exact_at(&mut piece[..part], at as u64)
            .map_err(|e| {
                Error::new(
                    Status::MEDIA,
                    format!("region {name} cannot be read at byte {at} and the MiB after it"),
                )
                .cause(e.to_string())
                .remedy("the memory has bad blocks there: what it held is lost; format the storage anew")
            })?;
        at += part;
    }
    Ok(())
}

impl Scm for Memory {
    type Region = Mapping;

    fn info(&self) -> Result<ScmInfo, Status> {
        Ok(ScmInfo {
            total: self.total,
            available: self.available().map_err(|_| Status::IO)?,
            persist_granularity: 8,
            numa_node: self.medium.numa_node,
            flags: match self.synchronous {
                true => ScmInfo::DAX,
                false => 0,
            },
        })
    }

    fn mount_point(&self) -> &Path {
        &self.mount
    }

    fn open_region(&self, _: CallContext<'_>, name: &str) -> Result<Mapping> {
        let (claim, file, len) = self.regions.open(name)?;
        if !self.medium.bad_blocks.is_empty() {
            check(name, &file, len)?;
        }
        let map = self.map(name, &file, len)?;
        Ok(Mapping { map, _claim: claim })
    }

    fn create_region(&self, _: CallContext<'_>, name: &str, len: u64) -> Result<Mapping> {
        let available = || self.available();
        let remedy = match self.marker.limit {
            Some(_) => "enlarge scm_size",
            None => "use a larger namespace",
        };
        let made = |file: &File, len: usize| {
            let mut map = self.map(name, file, len)?;
            if self.synchronous {
                map.zero();
            }
            file.sync_all()
                .map_err(|e| Error::io(format!("cannot sync region {name}"), e))?;
            Ok(map)
        };
        let (claim, map) = self.regions.create(name, len, available, remedy, made)?;
        self.regions.sync_names()?;
        Ok(Mapping { map, _claim: claim })
    }

    fn remove_region(&self, _: CallContext<'_>, name: &str) -> Result<()> {
        self.regions.remove(name)?;
        self.regions.sync_names()
    }

    #[inline]
    #[allow(
        clippy::not_unsafe_ptr_arg_deref,
        reason = "the table's contract vouches for the range"
    )]
    fn persist(&self, ptr: *const u8, len: usize) -> Result<(), Status> {
        // SAFETY: the table's contract: the range is inside an open region of ours.
        unsafe { self.method.persist(ptr, len) }
    }

    #[allow(
        clippy::not_unsafe_ptr_arg_deref,
        reason = "the table's contract vouches for the range"
    )]
    fn flush(&self, ptr: *const u8, len: usize) -> Result<(), Status> {
        // SAFETY: the table's contract: the range is inside an open region of ours.
        unsafe { self.method.flush(ptr, len) }
    }

    fn drain(&self) -> Result<(), Status> {
        self.method.drain();
        Ok(())
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
